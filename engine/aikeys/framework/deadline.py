"""A point on the monotonic clock that a piece of work must not pass."""

from __future__ import annotations

import time
from dataclasses import dataclass

# Vault: default_max_request_duration, 90 s, also the bound of one background revocation.
DEFAULT_SECONDS = 90.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """`at` is in seconds of `time.monotonic()`."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        return cls(time.monotonic() + seconds)

    @classmethod
    def default(cls) -> Deadline:
        return cls.after(DEFAULT_SECONDS)

    def remaining(self) -> float:
        """Seconds left, never negative."""
        return max(0.0, self.at - time.monotonic())

    @property
    def passed(self) -> bool:
        return self.remaining() <= 0.0

    def at_most(self, seconds: float) -> Deadline:
        """This deadline, or the one `seconds` from now if that is earlier."""
        return Deadline(min(self.at, time.monotonic() + seconds))
