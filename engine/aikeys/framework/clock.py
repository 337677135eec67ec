"""The two clocks: UTC wall time for what is stored and shown, monotonic time for what is measured."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """UTC wall time, microseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds; only differences mean anything."""
        ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()
