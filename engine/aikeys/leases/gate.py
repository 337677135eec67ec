"""Whether a mount's relay is worth asking now. A decision without IO; times are monotonic seconds.

Each failing lease has its own back-off. On top of it this looks at the mount as a whole: a relay that asks for
patience gets it from all leases at once, one that answers nobody is asked by a single lease now and then instead of
by thirty thousand, and when it answers again those that failed before follow at once.
"""

from __future__ import annotations

from collections.abc import Callable

from aikeys.leases.settings import LeaseSettings

_NEVER = float("-inf")


class Gate:
    """One mount's. The caller holds a lock."""

    def __init__(self, settings: LeaseSettings, rng: Callable[[], float]) -> None:
        self._settings = settings
        self._rng = rng
        self._closed_until = _NEVER
        self._failures = 0
        self._away = False
        self._hurt = False
        self._hastened = _NEVER
        self._probed = _NEVER

    @property
    def tripped(self) -> bool:
        return self._failures >= self._settings.trip

    def admits(self, now: float, in_flight: int) -> bool:
        """Whether one more lease may be tried beside those in flight."""
        if now < self._closed_until:
            return False
        return in_flight == 0 if self.tripped else True

    def succeeded(self, now: float) -> bool:
        """The relay revoked. Whether the leases that failed before are to be tried at once."""
        self._failures = 0
        self._away = False
        self._closed_until = _NEVER
        if not self._hurt or now - self._hastened < self._settings.hasten:
            return False
        self._hurt = False
        self._hastened = now
        return True

    def failed(self, now: float, *, away: bool) -> None:
        """A revocation failed; `away`: the relay could not be reached or had a failure of its own."""
        self._failures += 1
        self._hurt = True
        self._away = away
        if self.tripped:
            beyond = min(self._failures - self._settings.trip, 10)
            self._closed_until = now + min(self._settings.probe, 2.0**beyond) * (0.5 + self._rng() / 2)

    def rate_limited(self, now: float, retry_after: float) -> None:
        """The relay's limit is reached: nobody asks before `retry_after` seconds have passed."""
        self._closed_until = max(self._closed_until, now + retry_after)

    def wants_probe(self, now: float) -> bool:
        """Whether a failing lease is to be tried before its time, to see whether the relay is back."""
        if (
            not (self.tripped or self._away)
            or now < self._closed_until
            or now - self._probed < self._settings.probe
        ):
            return False
        self._probed = now
        return True
