"""A mint is on record before the relay hears of it, is asked for once, and its outcome is never guessed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.unit.minting.conftest import Mint
from tests.unit.minting.relay import LOST, MOUNT, UNREACHABLE, Fault, failure

from aikeys.errors import StorageError
from aikeys.framework.response import EngineError
from aikeys.minting.errors import (
    MintNotRecorded,
    MintRateLimited,
    MintRefused,
    MintUnavailable,
    MintUnsettled,
)
from aikeys.minting.journal import intent_from_json
from aikeys.relays.interface import Kind, Outcome
from aikeys.storage.failpoints import arm
from aikeys.storage.records import IntentState


@pytest.fixture(autouse=True)
def disarmed() -> Iterator[None]:
    yield
    arm("")


def test_a_key_comes_with_an_intent_that_becomes_its_lease(mint: Mint) -> None:
    key = mint.ask()
    (record,) = mint.open_intents
    assert record.intent_id == key.intent_id
    assert record.name == key.minted.ref.name == f"vlt-abcdefgh-{key.intent_id[:16]}"
    assert len(record.intent_id) == 26
    assert (record.mount_uuid, record.role, record.state) == (MOUNT.uuid, "demo", IntentState.MINTING)
    mint.store.complete_intent(key.intent_id, mint.lease(key))
    assert mint.open_intents == []
    assert mint.relay.calls == ["mint"]


def test_the_intent_is_durable_before_the_first_byte(mint: Mint, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    real = mint.relay.mint

    def look(intent: object, deadline: object) -> object:
        seen.append([record.name for record in mint.open_intents])
        return real(intent, deadline)  # type: ignore[arg-type]

    monkeypatch.setattr(mint.relay, "mint", look)
    key = mint.ask()
    assert seen == [[key.minted.ref.name]]


def test_nothing_is_asked_of_the_relay_when_the_intent_cannot_be_stored(mint: Mint) -> None:
    arm("store.before_commit=error:1")
    with pytest.raises(MintNotRecorded, match="a key is only made when that can be put on record"):
        mint.ask()
    assert mint.relay.calls == []


def test_nothing_is_asked_when_the_time_is_over(mint: Mint) -> None:
    with pytest.raises(MintUnavailable, match="no key was made"):
        mint.ask(seconds=0.0)
    assert (mint.relay.calls, mint.open_intents) == ([], [])


def test_the_same_order_comes_back_from_the_journal(mint: Mint) -> None:
    key = mint.ask()
    (record,) = mint.open_intents
    intent = intent_from_json(record.order)
    assert (intent.name, intent.intent_id) == (record.name, key.intent_id)
    assert intent.scopes.permissions == ("chat",)
    assert intent.metadata == {"role": "demo"}
    assert mint.relay.mint(intent, None).ref == key.minted.ref, "so the relay answers with the same key"  # type: ignore[arg-type]
    assert len(mint.relay.keys) == 1


@pytest.mark.parametrize(
    ("kind", "status", "words"),
    [
        (Kind.AUTH, 400, "does not accept the management key"),
        (Kind.FORBIDDEN, 400, "scopes"),
        (Kind.INVALID_REQUEST, 400, "refused to make a key"),
        (Kind.SCOPE_UNSUPPORTED, 400, "refused"),
        (Kind.QUOTA, 400, "no further key"),
        (Kind.CONFIG, 400, "base_url"),
    ],
)
def test_a_lasting_refusal_is_a_400_that_go_clients_do_not_repeat(
    mint: Mint, kind: Kind, status: int, words: str
) -> None:
    mint.relay.faults["mint"] = [Fault(failure(kind, Outcome.NOT_APPLIED))]
    with pytest.raises(MintRefused, match=words) as caught:
        mint.ask()
    assert caught.value.status == status
    assert (mint.open_intents, mint.relay.calls) == ([], ["mint"])


def test_a_rate_limit_is_a_502_with_the_relays_own_patience(mint: Mint) -> None:
    mint.relay.faults["mint"] = [Fault(failure(Kind.RATE_LIMITED, Outcome.NOT_APPLIED, 6.4))]
    with pytest.raises(MintRateLimited, match="try again in 7 s") as caught:
        mint.ask()
    assert (caught.value.status, caught.value.retry_after) == (502, 7)
    assert (mint.open_intents, mint.relay.calls) == ([], ["mint"])


def test_a_failed_connection_is_tried_once_more_with_the_same_intent(mint: Mint) -> None:
    mint.relay.faults["mint"] = [Fault(UNREACHABLE)]
    key = mint.ask()
    assert mint.relay.calls == ["mint", "mint"]
    assert [record.intent_id for record in mint.open_intents] == [key.intent_id]


def test_an_unreachable_relay_is_a_503_and_leaves_nothing(mint: Mint) -> None:
    mint.relay.faults["mint"] = [Fault(UNREACHABLE)] * 5
    with pytest.raises(MintUnavailable, match="cannot be reached, no key was made") as caught:
        mint.ask()
    assert caught.value.status == 503
    assert (mint.open_intents, mint.relay.calls) == ([], ["mint", "mint"])


@pytest.mark.parametrize("applied", [True, False])
def test_a_lost_answer_is_resolved_by_asking_again_where_that_is_safe(mint: Mint, applied: bool) -> None:
    mint.relay.faults["mint"] = [Fault(LOST, applied=applied)]
    key = mint.ask()
    assert [made.key_id for made in mint.relay.keys] == [key.minted.ref.key_id], (
        "one key, and it is the one handed out"
    )


@pytest.mark.parametrize("applied", [True, False])
def test_a_lost_answer_is_never_asked_for_again_where_that_could_mint_twice(
    mint: Mint, applied: bool
) -> None:
    mint.relay.idempotency = "none"
    mint.relay.faults["mint"] = [Fault(LOST, applied=applied)]
    with pytest.raises(MintUnsettled, match=r"Nothing is lost.*will be revoked") as caught:
        mint.ask()
    assert caught.value.status == 503
    assert mint.relay.calls == ["mint"]
    (record,) = mint.open_intents
    assert (record.state, record.due_at) == (IntentState.SETTLING, mint.clock.now())


def test_an_outcome_that_stays_unknown_is_left_to_the_resolver(mint: Mint) -> None:
    mint.relay.faults["mint"] = [Fault(LOST, applied=True), Fault(LOST)]
    woken: list[bool] = []
    mint.minter.unsettled = lambda: woken.append(True)
    with pytest.raises(MintUnsettled):
        mint.ask()
    assert mint.relay.calls == ["mint", "mint"]
    assert len(mint.open_intents) == len(woken) == 1


@pytest.mark.parametrize("second", [UNREACHABLE, failure(Kind.RATE_LIMITED, Outcome.NOT_APPLIED)])
def test_a_refused_repetition_says_nothing_about_the_first_call(mint: Mint, second: Exception) -> None:
    mint.relay.faults["mint"] = [Fault(LOST, applied=True), Fault(second), Fault(second)]
    with pytest.raises(MintUnsettled):
        mint.ask()
    assert len(mint.open_intents) == len(mint.relay.live) == 1


def test_a_key_whose_secret_is_lost_is_settled_not_handed_out(mint: Mint) -> None:
    mint.relay.faults["mint"] = [Fault(failure(Kind.PROTOCOL, Outcome.APPLIED), applied=True)] * 2
    with pytest.raises(MintUnsettled):
        mint.ask()
    mint.settle(5)
    assert (mint.relay.live, mint.open_intents) == ([], [])


def test_a_relay_that_asks_for_long_patience_is_not_waited_for(mint: Mint) -> None:
    mint.relay.faults["mint"] = [Fault(failure(Kind.CONFLICT, Outcome.UNKNOWN, retry_after=30))]
    with pytest.raises(MintUnsettled):
        mint.ask()
    assert mint.clock.moved < 1


def test_a_drivers_own_mistake_counts_as_unknown(mint: Mint) -> None:
    mint.relay.faults["mint"] = [Fault(KeyError("oops"), applied=True)]
    with pytest.raises(MintUnsettled):
        mint.ask()
    assert [record.state for record in mint.open_intents] == [IntentState.SETTLING]


def test_an_abandoned_key_is_revoked_at_once(mint: Mint) -> None:
    key = mint.ask()
    mint.minter.abandon(key.intent_id, key.minted, mint.relay, "the client is gone")
    assert (mint.relay.live, mint.open_intents) == ([], [])


def test_an_abandoned_key_that_cannot_be_revoked_stays_on_record_with_its_id(mint: Mint) -> None:
    key = mint.ask()
    mint.relay.faults["revoke"] = [Fault(UNREACHABLE)]
    mint.minter.abandon(key.intent_id, key.minted, mint.relay, "the client is gone")
    (record,) = mint.open_intents
    assert record.key_ref == key.minted.ref.to_json()
    mint.settle(5)
    assert (mint.relay.live, mint.open_intents) == ([], [])


def test_no_intent_outlives_a_mint_by_more_than_half_a_minute(mint: Mint) -> None:
    """A process that dies leaves work that becomes due within that time."""
    mint.ask(seconds=3600)
    (record,) = mint.open_intents
    assert (record.due_at - mint.clock.now()).total_seconds() <= 30
    assert record.due_at >= record.deadline


def test_no_key_is_handed_out_for_an_intent_that_was_settled_meanwhile(mint: Mint) -> None:
    """The clock stepped forward while the relay was slow: the resolver took the intent for a dead process's."""
    key = mint.ask()
    mint.clock.moved += 600
    mint.settle(5)
    assert mint.relay.live == []
    with pytest.raises(StorageError, match="settled meanwhile"):
        mint.store.complete_intent(key.intent_id, mint.lease(key))


def test_every_error_is_an_answer(mint: Mint) -> None:
    for kind in Kind:
        for outcome in Outcome:
            mint.relay.faults["mint"] = [Fault(failure(kind, outcome))] * 4
            with pytest.raises(EngineError) as caught:
                mint.ask()
            assert caught.value.status in (400, 502, 503)
            left = len(mint.open_intents)
            assert left == (0 if outcome is Outcome.NOT_APPLIED else 1), (kind, outcome)
            for record in mint.open_intents:
                mint.store.delete_intent(record.intent_id)
