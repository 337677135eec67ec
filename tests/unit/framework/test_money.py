"""Money is a decimal from end to end, and what was written is what is read back."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from aikeys.framework.money import Money, MoneyError, check_money


@pytest.mark.parametrize(
    ("raw", "kept", "money"),
    [
        ("5", "5", Money(Decimal(5))),
        ("5.00", "5.00", Money(Decimal("5.00"))),
        (5, "5", Money(Decimal(5))),
        (0.1, "0.1", Money(Decimal("0.1"))),
        (Decimal("5.10"), "5.10", Money(Decimal("5.10"))),
        ({"limit": "2.50"}, {"limit": "2.50"}, Money(Decimal("2.50"))),
        (
            {"limit": 3, "currency": "EUR", "period": "day"},
            {"limit": "3", "currency": "EUR", "period": "day"},
            Money(Decimal(3), "EUR", "day"),
        ),
        ({"limit": "1", "period": None}, {"limit": "1"}, Money(Decimal(1))),
        ("", "", None),
    ],
)
def test_money_is_kept_as_it_was_written(raw: Any, kept: Any, money: Money | None) -> None:
    assert check_money(raw) == kept
    assert check_money(check_money(raw)) == kept, "what is read back can be written again"
    assert Money.of(check_money(raw)) == money


@pytest.mark.parametrize(
    "raw",
    [
        "0",
        "0.00",
        "-5",
        "+5",
        "5.",
        ".5",
        "1e3",
        "5,00",
        " 5",
        "NaN",
        "Infinity",
        "1" * 13,
        "1.0000001",
        "\u0665",
        1e-7,
        1e30,
        float("nan"),
        float("inf"),
        -1,
        True,
        [],
        ["5"],
        {},
        {"currency": "USD"},
        {"limit": None},
        {"limit": "5", "amount": "5"},
        {"limit": "5", "currency": "usd"},
        {"limit": "5", "currency": 5},
        {"limit": "5", "period": "week"},
        {"limit": {"limit": "5"}},
    ],
)
def test_what_is_no_positive_decimal_amount_is_refused(raw: Any) -> None:
    with pytest.raises(MoneyError):
        check_money(raw)
