"""One intent is one key, and what it made can be found."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from tests.contract.holysheep_driver.bench import PREFIX, Bench, failing, soon

from aikeys.relays.interface import (
    KeyRef,
    KeyStatus,
    Kind,
    Outcome,
)


def test_the_same_intent_yields_the_same_key(bench: Bench) -> None:
    intent = bench.intent(rate_limit=5)
    first, second = (bench.driver.mint(intent, soon()) for _ in range(2))
    assert (first.ref, first.secret) == (second.ref, second.secret)
    assert len(bench.live()) == 1


def test_a_replay_without_the_plaintext_is_a_conflict_that_names_the_key_to_revoke(bench: Bench) -> None:
    intent = bench.intent()
    minted = bench.driver.mint(intent, soon())
    bench.control.advance(601)
    error = failing(bench.driver.mint, intent, soon())
    assert (error.kind, error.outcome, error.key_id) == (Kind.CONFLICT, Outcome.APPLIED, minted.ref.key_id)
    bench.driver.revoke(KeyRef("holysheep", bench.process.base_url, error.key_id, intent.name), soon())
    assert bench.live() == []


def test_another_order_under_the_same_idempotency_key_is_a_conflict(bench: Bench) -> None:
    intent = bench.intent()
    bench.driver.mint(intent, soon())
    error = failing(bench.driver.mint, replace(intent, name=intent.name + "x"), soon())
    assert (error.kind, error.outcome) == (Kind.CONFLICT, Outcome.UNKNOWN)
    assert len(bench.live()) == 1


def test_a_taken_name_is_a_conflict_that_names_its_holder(bench: Bench) -> None:
    intent = bench.intent()
    minted = bench.driver.mint(intent, soon())
    error = failing(bench.driver.mint, replace(intent, idempotency_key="aikeys-other"), soon())
    assert (error.kind, error.outcome, error.key_id) == (Kind.CONFLICT, Outcome.UNKNOWN, minted.ref.key_id)


def test_find_tells_every_key_an_intent_made_dead_or_alive(bench: Bench) -> None:
    intent = bench.intent()
    assert bench.driver.find(intent, soon()) == []
    first = bench.driver.mint(intent, soon())
    [found] = bench.driver.find(intent, soon())
    assert (found.ref, found.status, found.metadata) == (first.ref, KeyStatus.ACTIVE, {"role": "demo"})
    assert found.expires_at == intent.expires_at
    bench.driver.revoke(first.ref, soon())
    assert [info.status for info in bench.driver.find(intent, soon())] == [KeyStatus.REVOKED]
    # A dead key leaves its name free.
    second = bench.driver.mint(replace(intent, idempotency_key="aikeys-second"), soon())
    bench.driver.mint(replace(bench.intent(), name=intent.name + "x"), soon())
    found_now = {info.ref.key_id: info.status for info in bench.driver.find(intent, soon())}
    assert found_now == {first.ref.key_id: KeyStatus.REVOKED, second.ref.key_id: KeyStatus.ACTIVE}


def test_a_lagging_list_shows_nothing_and_the_same_intent_still_resolves(bench: Bench) -> None:
    bench.control.settings(list_lag_ms=30_000)
    bench.control.fault("commit_then_drop", method="POST", path="/v1/keys")
    intent = bench.intent()
    assert failing(bench.driver.mint, intent, soon()).outcome is Outcome.UNKNOWN
    assert bench.driver.find(intent, soon()) == []
    minted = bench.driver.mint(intent, soon())
    assert [key["id"] for key in bench.live()] == [minted.ref.key_id]


def test_a_list_has_every_live_key_of_the_prefix_over_all_pages(bench: Bench) -> None:
    bench.control.settings(max_live_keys=0)
    made = {bench.mint().ref.key_id for _ in range(205)}
    other = bench.driver.mint(replace(bench.intent(), name="vlt-otherxxx-1"), soon())
    dead = made.pop()
    bench.driver.revoke(KeyRef("holysheep", "", dead, ""), soon())
    found = [info.ref.key_id for info in bench.driver.list(PREFIX, soon())]
    assert len(found) == len(set(found))
    assert set(found) == made
    assert other.ref.key_id not in found


def test_a_list_can_begin_at_a_moment_and_shows_what_the_keys_carry(bench: Bench) -> None:
    bench.mint()
    bench.control.advance(60)
    since = datetime.fromtimestamp(int(bench.control.now()) - 30, UTC)
    younger = bench.mint().ref
    (info,) = bench.driver.list(PREFIX, soon(), created_after=since)
    assert (info.ref, info.metadata) == (younger, {"role": "demo"})
    assert info.created_at is not None
    assert info.created_at > since
