"""A whole-plane outage: no call is served on a node, except those that steer the simulator."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MODES = ("drop", "refuse")


@dataclass(slots=True)
class Outage:
    """What is out, and until when.

    `drop` accepts connections and resets them at once; ``/_sim/`` stays reachable. `refuse` stops listening, so
    that the kernel itself refuses connections, ``/_sim/`` included: it needs an end. Real seconds, not the
    simulated clock's.
    """

    mode: str = "drop"
    node: int | None = None
    dropped: int = 0
    """Connections and calls turned away since it began."""
    changed: Callable[[], None] | None = None
    """Called after each change, from whatever thread made it."""
    _until: float = 0.0
    _timer: threading.Timer | None = field(default=None)

    def begin(self, *, seconds: float | None, mode: str = "drop", node: int | None = None) -> None:
        """Begin now; `seconds` None lasts until `end`. A ``ValueError`` says what cannot be."""
        if mode not in MODES:
            raise ValueError(f"mode is one of: {', '.join(MODES)}")
        if mode == "refuse" and seconds is None:
            raise ValueError("mode refuse needs seconds: /_sim/ cannot be reached to end it")
        if node not in (None, 0, 1):
            raise ValueError("node is 0, 1 or null")
        if seconds is not None and seconds < 0:
            raise ValueError("seconds is not negative")
        self._cancel()
        self.mode, self.node, self.dropped = mode, node, 0
        self._until = float("inf") if seconds is None else time.monotonic() + seconds
        if seconds is not None and self.changed is not None:
            self._timer = threading.Timer(seconds + 0.001, self.changed)
            self._timer.daemon = True
            self._timer.start()
        self._notify()

    def end(self) -> None:
        """Serve again."""
        self._cancel()
        self._until = 0.0
        self._notify()

    def hits(self, node: int) -> bool:
        """Whether calls to `node` are dropped now."""
        return self._until > 0.0 and time.monotonic() < self._until and self.node in (None, node)

    def refuses(self, node: int) -> bool:
        """Whether `node` is to stop listening now."""
        return self.mode == "refuse" and self.hits(node)

    def render(self) -> dict[str, Any]:
        """For ``GET /_sim/outage``."""
        left = self._until - time.monotonic()
        return {
            "on": left > 0,
            "mode": self.mode,
            "node": self.node,
            "seconds_left": None if left == float("inf") else max(0.0, left),
            "dropped": self.dropped,
        }

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _notify(self) -> None:
        if self.changed is not None:
            self.changed()
