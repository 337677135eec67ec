"""Money: decimal budgets with a period, spent by a lineage."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

CURRENCY = "USD"
PERIODS = ("total", "day", "month")


def money(amount: Decimal) -> str:
    """Plain decimal digits, never an exponent."""
    return format(amount, "f")


def period_bounds(period: str, now: float) -> tuple[int, int | None]:
    """Start and end (Unix seconds, UTC) of the `period` that `now` lies in; ``total`` never ends."""
    if period == "total":
        return 0, None
    today = datetime.fromtimestamp(now, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if period == "day":
        start = int(today.timestamp())
        return start, start + 86_400
    first = today.replace(day=1)
    following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    return int(first.timestamp()), int(following.timestamp())


@dataclass(frozen=True, slots=True)
class Budget:
    """What a key may spend per period."""

    limit: Decimal
    period: str = "total"
    currency: str = CURRENCY

    def resets_at(self, now: float) -> int | None:
        """When the period ends; None for ``total``."""
        return period_bounds(self.period, now)[1]

    def render(self, spending: Spending, now: float) -> dict[str, Any]:
        """The budget of a key object."""
        spent = spending.spent(self.period, now)
        return {
            "limit": money(self.limit),
            "spent": money(spent),
            "remaining": money(max(self.limit - spent, Decimal(0))),
            "currency": self.currency,
            "period": self.period,
            "resets_at": self.resets_at(now),
        }


@dataclass(slots=True)
class Spending:
    """What a lineage has spent, in each kind of period, so that a changed period counts what was spent before."""

    _by_period: dict[str, tuple[int, Decimal]] = field(default_factory=dict)

    def spent(self, period: str, now: float) -> Decimal:
        """Spent in the `period` that `now` lies in."""
        start, _ = period_bounds(period, now)
        recorded_start, amount = self._by_period.get(period, (start, Decimal(0)))
        return amount if recorded_start == start else Decimal(0)

    def charge(self, amount: Decimal, now: float) -> None:
        """Add `amount` to every period."""
        for period in PERIODS:
            self._by_period[period] = (period_bounds(period, now)[0], self.spent(period, now) + amount)
