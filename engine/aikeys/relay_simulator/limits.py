"""Rates: an exact sliding minute for data keys, a token bucket for the management plane."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

WINDOW_SECONDS = 60.0


@dataclass(slots=True)
class SlidingWindow:
    """What was charged in the last 60 seconds. No 60 seconds, wherever they start, ever hold more than the limit."""

    _charges: deque[tuple[float, int]] | None = None
    """Made with the first charge: most keys of a load test are never used, and a deque takes 600 bytes."""
    _total: int = 0

    def used(self, now: float) -> int:
        """Charged within the window that ends now."""
        while self._charges and self._charges[0][0] <= now - WINDOW_SECONDS:
            self._total -= self._charges.popleft()[1]
        return self._total

    def charge(self, amount: int, now: float) -> None:
        """Record `amount`."""
        if self._charges is None:
            self._charges = deque()
        self._charges.append((now, amount))
        self._total += amount

    def wait(self, amount: int, limit: int, now: float) -> float:
        """Seconds until `amount` fits under `limit`: 0 when it does, the whole window when it never will."""
        excess = self.used(now) + amount - limit
        if excess <= 0:
            return 0.0
        for charged_at, charged in self._charges or ():
            excess -= charged
            if excess <= 0:
                return charged_at + WINDOW_SECONDS - now
        return WINDOW_SECONDS

    def reset_seconds(self, now: float) -> int:
        """Whole seconds until the window is empty."""
        self.used(now)
        return math.ceil(self._charges[-1][0] + WINDOW_SECONDS - now) if self._charges else 0


@dataclass(slots=True)
class TokenBucket:
    """`burst` calls at once, then one every 60/rpm seconds."""

    _spent: float = 0.0
    """Tokens missing from a full bucket, as of `_at`."""
    _at: float = 0.0

    def take(self, rpm: int, burst: int, now: float) -> float:
        """Take one; 0 when there was one, else the seconds until there is (and nothing is taken)."""
        missing = self._missing(rpm, now)
        if missing + 1 > burst:
            return (missing + 1 - burst) * WINDOW_SECONDS / rpm
        self._spent, self._at = missing + 1, now
        return 0.0

    def remaining(self, rpm: int, burst: int, now: float) -> int:
        """Whole calls that could be made now."""
        return max(0, math.floor(burst - self._missing(rpm, now)))

    def reset_seconds(self, rpm: int, now: float) -> int:
        """Whole seconds until the bucket is full."""
        return math.ceil(self._missing(rpm, now) * WINDOW_SECONDS / rpm)

    def _missing(self, rpm: int, now: float) -> float:
        return max(0.0, self._spent - (now - self._at) * rpm / WINDOW_SECONDS)


@dataclass(frozen=True, slots=True)
class RateView:
    """What the six rate headers say."""

    limit_requests: int
    remaining_requests: int
    reset_requests: int
    limit_tokens: int
    remaining_tokens: int
    reset_tokens: int

    def headers(self) -> list[tuple[str, str]]:
        """The headers themselves."""
        return [
            ("X-RateLimit-Limit-Requests", str(self.limit_requests)),
            ("X-RateLimit-Remaining-Requests", str(self.remaining_requests)),
            ("X-RateLimit-Reset-Requests", str(self.reset_requests)),
            ("X-RateLimit-Limit-Tokens", str(self.limit_tokens)),
            ("X-RateLimit-Remaining-Tokens", str(self.remaining_tokens)),
            ("X-RateLimit-Reset-Tokens", str(self.reset_tokens)),
        ]
