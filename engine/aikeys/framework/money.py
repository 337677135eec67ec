"""Money in a field: a decimal amount, its currency, and the period in which it may be spent.

Vault has no such type. Two spellings are taken: a decimal ("5.00", 5) means US dollars in total; an object
`{"limit": "5.00", "currency": "USD", "period": "day"}` says all three. An empty text is no limit. What was written
is what is kept and read back, except that numbers become text: JSON numbers are floats in too many clients.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

DEFAULT_CURRENCY = "USD"
DEFAULT_PERIOD = "total"
PERIODS = ("total", "day", "month")
# A token can cost less than a millionth of a dollar, a budget cannot usefully: twelve digits before the point, six after.
_AMOUNT = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_KEYS = ("limit", "currency", "period")


class MoneyError(ValueError):
    """The value is no amount of money; the text says what is allowed."""


@dataclass(frozen=True, slots=True)
class Money:
    limit: Decimal
    currency: str = DEFAULT_CURRENCY
    period: str = DEFAULT_PERIOD

    @classmethod
    def of(cls, written: str | Mapping[str, str]) -> Money | None:
        """From what `check_money` returned; None for the empty text."""
        if not written:
            return None
        if isinstance(written, str):
            return cls(Decimal(written))
        return cls(
            Decimal(written["limit"]),
            written.get("currency", DEFAULT_CURRENCY),
            written.get("period", DEFAULT_PERIOD),
        )


def check_money(raw: object) -> str | dict[str, str]:
    """`raw` in the form it is kept in: a decimal text, "", or an object of texts with at least "limit".

    Keys of the object that are null count as absent. Raises `MoneyError`.
    """
    if isinstance(raw, Mapping):
        return _check_object({key: value for key, value in raw.items() if value is not None})
    return "" if raw == "" else _check_amount(raw)


def _check_object(raw: dict[str, Any]) -> dict[str, str]:
    unknown = sorted(set(raw) - set(_KEYS))
    if unknown:
        raise MoneyError(f"unknown key {unknown[0]!r}, allowed are limit, currency and period")
    if "limit" not in raw:
        raise MoneyError("limit is missing")
    checked = {"limit": _check_amount(raw["limit"])}
    if "currency" in raw:
        currency = raw["currency"]
        if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency):
            raise MoneyError("currency must be three capital letters, such as USD")
        checked["currency"] = currency
    if "period" in raw:
        period = raw["period"]
        if not isinstance(period, str) or period not in PERIODS:
            raise MoneyError(f"period must be one of {', '.join(PERIODS)}")
        checked["period"] = period
    return checked


def _check_amount(raw: object) -> str:
    if isinstance(raw, bool) or not isinstance(raw, str | int | float | Decimal):
        raise MoneyError("must be a decimal amount or an object with limit, currency and period")
    # `str` of a float is the shortest text that reads back the same: 5.1 stays 5.1.
    text = raw if isinstance(raw, str) else str(raw)
    if not _AMOUNT.fullmatch(text) or Decimal(text) <= 0:
        raise MoneyError(
            "the amount must be a positive decimal with at most 12 digits before and 6 after the point"
        )
    return text
