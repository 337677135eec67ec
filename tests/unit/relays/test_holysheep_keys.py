"""Shapes of the key API: what a role may ask, the bytes of a mint, and key objects that lie."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from aikeys.relays import holysheep_keys as keys
from aikeys.relays.interface import Budget, KeyStatus, MintIntent, Scopes

SCOPES = Scopes(
    permissions=("chat", "embeddings"),
    allowed_models=("gpt-4.1", "claude-*"),
    rate_limit=60,
    max_tpm=100_000,
    budget=Budget(Decimal("12.50"), "USD", "month"),
    team_id="team-a",
)
INTENT = MintIntent(
    intent_id="abcdefghijklmnop",
    name="vlt-abcdefgh-abcdefghijklmnop",
    idempotency_key="aikeys-abcdefghijklmnop",
    scopes=SCOPES,
    expires_at=datetime(2026, 1, 1, 0, 1, tzinfo=UTC),
    metadata={"role": "demo"},
)
END = 1767225660
TRUE_ANSWER = {
    "id": "key_01",
    "name": INTENT.name,
    "key": "sk-holysheep-" + "A" * 32,
    "expires_at": END,
    "permissions": ["chat", "embeddings"],
    "allowed_models": ["gpt-4.1", "claude-*"],
    "rate_limit": 60,
    "max_tpm": 100_000,
    "budget": {"limit": "12.5", "spent": "0", "remaining": "12.5", "currency": "USD", "period": "month"},
    "team_id": "team-a",
}


def test_a_mint_says_everything_the_role_asks() -> None:
    assert json.loads(keys.mint_body(INTENT)) == {
        "name": INTENT.name,
        "expires_at": END,
        "auto_rotate": False,
        "metadata": {"role": "demo"},
        "permissions": ["chat", "embeddings"],
        "allowed_models": ["gpt-4.1", "claude-*"],
        "rate_limit": 60,
        "max_tpm": 100_000,
        "budget": {"limit": "12.50", "currency": "USD", "period": "month"},
        "team_id": "team-a",
    }


def test_a_mint_leaves_out_what_the_role_does_not_ask() -> None:
    bare = replace(INTENT, scopes=Scopes(), metadata={})
    assert json.loads(keys.mint_body(bare)) == {"name": INTENT.name, "expires_at": END, "auto_rotate": False}


def test_the_same_intent_gives_the_same_bytes() -> None:
    one = replace(INTENT, metadata={"a": "1", "b": "é"})
    other = replace(INTENT, metadata={"b": "é", "a": "1"})
    assert keys.mint_body(one) == keys.mint_body(other)


@pytest.mark.parametrize(
    ("amount", "text"), [("1E+2", "100"), ("0.000001", "0.000001"), ("12.50", "12.50"), ("1E-7", "0.0000001")]
)
def test_money_is_plain_digits(amount: str, text: str) -> None:
    assert keys.decimal_text(Decimal(amount)) == text


def test_a_role_within_the_relays_bounds_has_no_problems() -> None:
    assert keys.role_problems(SCOPES, 31_536_000) == []
    assert keys.role_problems(Scopes(), 0) == []


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"permissions": ("chat", "admin")}, "'admin'"),
        ({"permissions": ("keys:rotate_self",)}, "keys:rotate_self"),
        ({"allowed_models": ("gpt*4",)}, "gpt"),
        ({"allowed_models": ("a,b",)}, "allowed_models"),
        ({"allowed_models": ("",)}, "allowed_models"),
        ({"rate_limit": 0}, "rate_limit"),
        ({"rate_limit": 1001}, "1000"),
        ({"max_tpm": 10_000_001}, "max_tpm"),
        ({"budget": Budget(Decimal(0))}, "budget"),
        ({"budget": Budget(Decimal(-1))}, "budget"),
        ({"budget": Budget(Decimal("NaN"))}, "budget"),
        ({"budget": Budget(Decimal("Infinity"))}, "budget"),
        ({"budget": Budget(Decimal("1E+12"))}, "12 digits"),
        ({"budget": Budget(Decimal("1E-13"))}, "12 digits"),
        ({"budget": Budget(Decimal(1), "EUR")}, "EUR"),
        ({"budget": Budget(Decimal(1), "USD", "week")}, "week"),
        ({"team_id": "a b"}, "team_id"),
    ],
)
def test_a_role_that_cannot_be_enforced_is_told_why(change: dict[str, Any], word: str) -> None:
    [problem] = keys.scope_problems(replace(SCOPES, **change))
    assert word in problem


def test_a_life_longer_than_the_relay_allows_is_a_problem() -> None:
    assert "31536000" in keys.role_problems(Scopes(), 31_536_001)[0]


def test_a_key_as_asked_is_accepted() -> None:
    keys.check_minted(TRUE_ANSWER, INTENT)
    keys.check_minted({"id": "key_01", "name": INTENT.name, "key": "x"}, INTENT)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "vlt-abcdefgh-other"},
        {"name": None},
        {"expires_at": END + 1},
        {"expires_at": None},
        {"expires_at": str(END)},
        {"expires_at": True},
        {"rate_limit": 61},
        {"rate_limit": None},
        {"max_tpm": 100_001},
        {"max_tpm": "100000"},
        {"permissions": ["chat", "images"]},
        {"permissions": []},
        {"permissions": None},
        {"allowed_models": []},
        {"allowed_models": ["*"]},
        {"allowed_models": None},
        {"budget": None},
        {"budget": {"limit": "12.51", "currency": "USD", "period": "month"}},
        {"budget": {"limit": "12.50", "currency": "EUR", "period": "month"}},
        {"budget": {"limit": "12.50", "currency": "USD", "period": "day"}},
        {"budget": {"limit": 12.5, "currency": "USD", "period": "month"}},
        {"budget": {"limit": "NaN", "currency": "USD", "period": "month"}},
        {"budget": {"limit": "much", "currency": "USD", "period": "month"}},
        {"team_id": "team-b"},
    ],
)
def test_a_key_that_may_do_more_than_was_asked_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(keys.Unusable):
        keys.check_minted({**TRUE_ANSWER, **change}, INTENT)


@pytest.mark.parametrize(
    "value", [5, "", "short", "a" * 15, "a b" * 10, "a" * 513, "a" * 20 + "\n", "é" * 20, ["x"]]
)
def test_a_secret_that_no_header_can_carry_is_refused(value: Any) -> None:
    with pytest.raises(keys.Unusable) as failed:
        keys.secret_of({"key": value})
    assert str(value) not in str(failed.value) or value == ""


def test_an_absent_secret_is_none() -> None:
    assert keys.secret_of({"key": None}) is None
    assert keys.secret_of({}) is None


def test_a_key_object_is_read() -> None:
    info = keys.key_info(
        {**TRUE_ANSWER, "status": "retiring", "created_at": 1767225600, "metadata": {"a": "1", "b": 2}},
        "https://relay.example/v1",
    )
    assert (info.ref.key_id, info.ref.name, info.status) == ("key_01", INTENT.name, KeyStatus.RETIRING)
    assert (info.created_at, info.expires_at) == (datetime(2026, 1, 1, tzinfo=UTC), INTENT.expires_at)
    assert info.metadata == {"a": "1"}


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "key_01",
        {**TRUE_ANSWER, "status": "sleeping"},
        {**TRUE_ANSWER},
        {**TRUE_ANSWER, "status": "active", "id": "../x"},
        {**TRUE_ANSWER, "status": "active", "id": None},
        {**TRUE_ANSWER, "status": "active", "name": "a b"},
        {**TRUE_ANSWER, "status": "active", "expires_at": 10**15},
        {**TRUE_ANSWER, "status": "active", "expires_at": -1},
        {**TRUE_ANSWER, "status": "active", "created_at": 1.5},
    ],
)
def test_what_is_no_key_object_is_refused(data: Any) -> None:
    with pytest.raises(keys.Unusable):
        keys.key_info(data, "https://relay.example/v1")


@pytest.mark.parametrize(("value", "seconds"), [(500, 0.5), (0, 0.0), (60_000, 60.0), (None, 0.5)])
def test_the_promise_of_a_deletion_is_read(value: Any, seconds: float) -> None:
    assert keys.effective_within({"effective_within_ms": value}) == seconds


@pytest.mark.parametrize("value", [-1, "500", 1.5, True, 10**12])
def test_a_promise_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(keys.Unusable):
        keys.effective_within({"effective_within_ms": value})
