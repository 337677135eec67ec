"""How long to wait before trying again, when giving up is no choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

# 2 to this power times any sensible base is beyond any sensible cap.
_LARGEST_EXPONENT = 30


@dataclass(frozen=True, slots=True)
class Backoff:
    """The wait after failure n is base·2^n, at most `cap`, give or take `spread` of it (seconds).

    Vault waits 10 s·2^n ± 50 % for a revocation and gives up after the sixth failure (expiration.go,
    revokeExponentialBackoff); here the first waits are Vault's and the later ones stay at the cap.
    """

    base: float = 10.0
    cap: float = 300.0
    spread: float = 0.5

    def wait(self, failures: int, random: Callable[[], float]) -> float:
        """Seconds after failure number `failures` (from 1); `random` yields numbers from 0 up to 1."""
        whole = min(self.base * 2.0 ** min(failures, _LARGEST_EXPONENT), self.cap)
        return whole * (1 - self.spread + 2 * self.spread * random())

    @property
    def longest(self) -> float:
        return self.cap * (1 + self.spread)
