"""The relay's clock: the real one plus an offset that ``/_sim/clock`` moves forward."""

from __future__ import annotations

import time
from email.utils import formatdate


class Clock:
    """UTC wall clock of the relay, in Unix seconds.

    Left alone it is real time. It can only be moved forward: keys that expired do not come back.
    """

    def __init__(self) -> None:
        self._offset = 0.0

    @property
    def offset(self) -> float:
        """Seconds this clock is ahead of the real one."""
        return self._offset

    def now(self) -> float:
        """Unix time in seconds, with a fraction."""
        return time.time() + self._offset

    def advance(self, seconds: float) -> None:
        """Move forward by `seconds`; a negative number is a ``ValueError``."""
        if seconds < 0:
            raise ValueError("the clock only moves forward")
        self._offset += seconds

    def reset(self) -> None:
        """Back to real time."""
        self._offset = 0.0

    def http_date(self, skew: float = 0.0) -> str:
        """The ``Date`` header's value, `skew` seconds off."""
        return formatdate(self.now() + skew, usegmt=True)
