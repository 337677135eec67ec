"""A key from mint to its end, with every limit its role gives it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import pytest
from tests.contract.holysheep_driver.bench import Bench, failing, soon

from aikeys.relays.holysheep_keys import CAPABILITIES
from aikeys.relays.interface import (
    Budget,
    Kind,
    Probe,
    Scopes,
)


def test_a_key_lives_from_mint_to_revocation(bench: Bench) -> None:
    minted = bench.mint()
    assert bench.driver.probe(minted.secret, soon()) is Probe.ACCEPTED
    result = bench.driver.revoke(minted.ref, soon())
    assert (result.already_gone, result.effective_within) == (False, 0.5)
    assert bench.driver.probe(minted.secret, soon()) is Probe.REJECTED
    again = bench.driver.revoke(minted.ref, soon())
    assert again.already_gone


def test_a_minted_key_calls_models_at_the_base_url_it_came_with(bench: Bench) -> None:
    minted = bench.mint()
    answer = httpx.post(
        f"{minted.base_url}/chat/completions",
        headers={"Authorization": f"Bearer {minted.secret.reveal()}"},
        json={"model": "gpt-4.1", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1},
        trust_env=False,
    )
    assert answer.status_code == 200


def test_every_limit_of_the_role_stands_in_the_relays_books(bench: Bench) -> None:
    minted = bench.mint(
        permissions=("chat",),
        allowed_models=("gpt-4.1", "claude-*"),
        rate_limit=7,
        max_tpm=1234,
        budget=Budget(Decimal("0.10"), "USD", "day"),
        team_id="team-a",
    )
    [key] = bench.live()
    assert key["id"] == minted.ref.key_id
    assert (key["permissions"], key["allowed_models"]) == (["chat"], ["gpt-4.1", "claude-*"])
    assert (key["rate_limit"], key["max_tpm"], key["team_id"]) == (7, 1234, "team-a")
    assert (Decimal(key["budget"]["limit"]), key["budget"]["period"]) == (Decimal("0.10"), "day")
    assert (key["auto_rotate"], key["metadata"]) == (False, {"role": "demo"})
    assert minted.upstream_expires_at is not None
    assert key["expires_at"] == int(minted.upstream_expires_at.timestamp())


@pytest.mark.parametrize(
    "scopes",
    [
        {"permissions": tuple(sorted(CAPABILITIES.permissions))},
        {"rate_limit": 1, "max_tpm": 1},
        {"rate_limit": 1000, "max_tpm": 10_000_000},
        {"budget": Budget(Decimal(999_999_999_999))},
        {"budget": Budget(Decimal("0.000000000001"), "USD", "month")},
        {"allowed_models": ("*",)},
        {"allowed_models": ("a" * 128 + "*", "a/b:c-1.2_3")},
        {"team_id": "t" * 128},
    ],
)
def test_what_validate_role_allows_the_relay_takes(bench: Bench, scopes: dict[str, Any]) -> None:
    assert bench.driver.validate_role(Scopes(**scopes), 60, 31_536_000) == []
    bench.mint(life=31_535_990, **scopes)


def test_the_relay_ends_the_key_by_itself(bench: Bench) -> None:
    minted = bench.mint(life=100)
    bench.control.advance(99)
    assert bench.driver.probe(minted.secret, soon()) is Probe.ACCEPTED
    bench.control.advance(2)
    assert bench.driver.probe(minted.secret, soon()) is Probe.REJECTED
    assert bench.driver.revoke(minted.ref, soon()).already_gone


def test_an_extended_key_lives_until_its_new_end(bench: Bench) -> None:
    minted = bench.mint(life=100)
    assert minted.upstream_expires_at is not None
    bench.driver.extend(minted.ref, minted.upstream_expires_at + timedelta(seconds=100), soon())
    bench.control.advance(150)
    assert bench.driver.probe(minted.secret, soon()) is Probe.ACCEPTED
    bench.control.advance(60)
    assert bench.driver.probe(minted.secret, soon()) is Probe.REJECTED


def test_what_has_ended_or_never_was_is_not_extended(bench: Bench) -> None:
    minted = bench.mint()
    bench.driver.revoke(minted.ref, soon())
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    assert failing(bench.driver.extend, minted.ref, end, soon()).kind is Kind.CONFLICT
    unknown = replace(minted.ref, key_id="key_00000000000000000000000000")
    assert failing(bench.driver.extend, unknown, end, soon()).kind is Kind.NOT_FOUND
    assert failing(bench.driver.revoke, unknown, soon()).kind is Kind.NOT_FOUND


def test_a_lagging_relay_tells_its_lag_and_the_probe_sees_it(bench: Bench) -> None:
    bench.control.settings(revoke_lag_ms=60_000)
    minted = bench.mint()
    assert bench.driver.revoke(minted.ref, soon()).effective_within == 60.0
    assert bench.driver.probe(minted.secret, soon()) is Probe.ACCEPTED
    bench.control.advance(61)
    assert bench.driver.probe(minted.secret, soon()) is Probe.REJECTED
