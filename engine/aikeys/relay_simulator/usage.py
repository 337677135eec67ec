"""What was used, by hour, key and model, and the buckets a report asks for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from aikeys.relay_simulator.budgets import CURRENCY, money
from aikeys.relay_simulator.keys import Key

BUCKET_SECONDS = {"1h": 3600, "1d": 86_400}
GROUPS = ("key", "model", "team")


@dataclass(slots=True)
class _Cell:
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: Decimal = Decimal(0)

    def add(self, other: _Cell) -> None:
        self.requests += other.requests
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cost += other.cost

    def render(self) -> dict[str, Any]:
        return {
            "requests": self.requests,
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "total_tokens": self.input_tokens + self.output_tokens,
            "cost": money(self.cost),
            "currency": CURRENCY,
        }


class UsageLedger:
    """Not thread-safe: the account's lock guards it."""

    def __init__(self) -> None:
        self._cells: dict[tuple[int, str, str], tuple[Key, _Cell]] = {}
        self._by_key: dict[str, _Cell] = {}

    def record(
        self, key: Key, model: str, *, input_tokens: int, output_tokens: int, cost: Decimal, now: float
    ) -> None:
        """One answered model call."""
        cell = _Cell(1, input_tokens, output_tokens, cost)
        hour = int(now) // 3600 * 3600
        self._cells.setdefault((hour, key.id, model), (key, _Cell()))[1].add(cell)
        self._by_key.setdefault(key.id, _Cell()).add(cell)

    def of_key(self, key: Key) -> dict[str, Any]:
        """All that one key ever used."""
        return self._by_key.get(key.id, _Cell()).render()

    def buckets(
        self, keys: Iterable[str] | None, start: int, end: int, bucket: str, group_by: str | None
    ) -> list[dict[str, Any]]:
        """Hours or days that overlap [start, end), for the ids in `keys`, split by `group_by`."""
        width = BUCKET_SECONDS[bucket]
        wanted = None if keys is None else set(keys)
        summed: dict[tuple[int, str], _Cell] = {}
        for (hour, key_id, model), (key, cell) in self._cells.items():
            if hour + 3600 <= start or hour >= end or (wanted is not None and key_id not in wanted):
                continue
            group = {"key": key_id, "model": model, "team": key.team_id or ""}.get(group_by or "", "")
            summed.setdefault((hour // width * width, group), _Cell()).add(cell)
        return [
            {
                "bucket_start": at,
                "bucket_end": at + width,
                "key_id": group if group_by == "key" else None,
                "model": group if group_by == "model" else None,
                "team_id": (group or None) if group_by == "team" else None,
                **cell.render(),
            }
            for (at, group), cell in sorted(summed.items())
        ]
