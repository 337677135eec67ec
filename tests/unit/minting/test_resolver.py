"""Whatever became of a mint, in the end no live key is left that no lease knows, and nobody else's is touched."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.unit.minting.conftest import Mint
from tests.unit.minting.relay import LOST, MOUNT, UNREACHABLE, Fault, Key, ScriptedRelay, failure

from aikeys.framework.deadline import Deadline
from aikeys.framework.response import EngineError, InvalidRequest
from aikeys.minting.bounds import MintBounds
from aikeys.minting.resolver import IntentResolver
from aikeys.relays.interface import DriverError, Kind, Outcome
from aikeys.storage.records import IntentState

DENIED = failure(Kind.AUTH, Outcome.NOT_APPLIED)


def leave_unknown(mint: Mint, *, applied: bool, expires_in: float = 7200) -> None:
    """A mint whose answer was lost for good."""
    mint.relay.faults["mint"] = [Fault(LOST, applied=applied), Fault(LOST)]
    with pytest.raises(EngineError):
        mint.ask(expires_in=expires_in)
    mint.relay.faults["mint"] = []
    mint.relay.calls.clear()


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("idempotency", ["header", "none"])
@pytest.mark.parametrize("unlisted", [True, False])
def test_in_the_end_there_is_no_key_and_no_intent(
    mint: Mint, applied: bool, idempotency: str, unlisted: bool
) -> None:
    mint.relay.idempotency = idempotency
    leave_unknown(mint, applied=applied)
    mint.relay.unlisted = unlisted
    mint.settle(60)
    if unlisted and idempotency == "none":
        # The list lags: one look proves nothing.
        assert len(mint.open_intents) == 1
        mint.relay.unlisted = False
        mint.settle(1200)
    elif idempotency == "none" and not applied:
        assert len(mint.open_intents) == 1, "the call may still be on its way"
        mint.settle(1200)
    assert (mint.relay.live, mint.open_intents) == ([], [])


def test_a_listed_key_is_revoked_and_seen_dead(mint: Mint) -> None:
    leave_unknown(mint, applied=True)
    assert mint.resolver.run_once() == 1
    assert mint.relay.calls == ["find", "revoke", "find"]
    assert (mint.relay.live, mint.open_intents) == ([], [])
    assert mint.resolver.run_once() == 0


def test_an_unlisted_order_is_settled_by_repeating_it(mint: Mint) -> None:
    """Whether the first call arrived, is on its way or never left: its answer is now a key that is revoked."""
    leave_unknown(mint, applied=False)
    assert mint.resolver.run_once() == 1
    assert mint.relay.calls == ["find", "mint", "revoke"]
    assert [key.live for key in mint.relay.keys] == [False]
    assert mint.open_intents == []


def test_a_repetition_whose_key_cannot_be_revoked_keeps_the_intent(mint: Mint) -> None:
    leave_unknown(mint, applied=False)
    mint.relay.faults["revoke"] = [Fault(UNREACHABLE)]
    mint.resolver.run_once()
    assert len(mint.open_intents) == len(mint.relay.live) == 1
    mint.settle(10)
    assert (mint.relay.live, mint.open_intents) == ([], [])


def test_a_key_that_the_relay_shows_no_more_is_revoked_by_its_id(mint: Mint) -> None:
    """The record of an idempotency key outlives the plaintext: the repetition names the key and does not show it."""
    leave_unknown(mint, applied=True)
    mint.relay.unlisted = True
    (key,) = mint.relay.keys
    gone = DriverError(Kind.CONFLICT, Outcome.APPLIED, "shown no more", key_id=key.key_id)
    mint.relay.faults["mint"] = [Fault(gone, applied=True)]
    assert mint.resolver.run_once() == 1
    assert (mint.relay.live, mint.open_intents) == ([], [])


def test_an_idempotency_record_that_may_be_forgotten_is_not_relied_upon(mint: Mint) -> None:
    leave_unknown(mint, applied=False, expires_in=86400 * 30)
    mint.clock.moved += 86400
    mint.resolver.run_once()
    assert "mint" not in mint.relay.calls
    assert len(mint.open_intents) == 1


def test_absence_counts_only_after_several_looks_over_the_window(mint: Mint) -> None:
    mint.relay.idempotency = "none"
    mint.relay.list_lag = 900.0
    leave_unknown(mint, applied=False)
    mint.settle(890)
    assert len(mint.open_intents) == 1
    assert mint.relay.calls.count("find") >= 2
    mint.settle(600)
    assert mint.open_intents == []
    assert mint.relay.calls.count("find") >= 3


def test_two_looks_are_not_enough_however_far_apart(mint: Mint) -> None:
    """The process was away in between: a list that lagged twice proves nothing."""
    mint.relay.idempotency = "none"
    leave_unknown(mint, applied=False)
    mint.resolver.run_once()
    mint.clock.moved += 5000
    mint.resolver.run_once()
    assert mint.relay.calls.count("find") == 2
    assert len(mint.open_intents) == 1


def test_many_looks_at_once_are_not_enough(mint: Mint) -> None:
    """Somebody tries to disable the mount again and again."""
    mint.relay.idempotency = "none"
    leave_unknown(mint, applied=False)
    for _ in range(6):
        mint.clock.moved += 1
        assert mint.resolver.settle_mount(MOUNT.uuid, Deadline.after(5)) == 1
    assert mint.relay.calls.count("find") >= 5


def test_a_lagging_relays_key_is_found_when_it_shows_up(mint: Mint) -> None:
    mint.relay.idempotency = "none"
    mint.relay.list_lag = 900.0
    leave_unknown(mint, applied=True)
    mint.relay.unlisted = True
    mint.settle(600)
    mint.relay.unlisted = False
    mint.settle(900)
    assert (mint.relay.live, mint.open_intents) == ([], [])


def test_keys_of_other_names_are_never_touched(mint: Mint) -> None:
    others = [
        Key("key_a", "vlt-otherone-aaaaaaaaaaaaaaaa", mint.expiry(9999), "s"),
        Key("key_b", "vlt-abcdefgh-aaaaaaaaaaaaaaaa", mint.expiry(9999), "s"),
    ]
    mint.relay.keys.extend(others)
    leave_unknown(mint, applied=True)
    mint.settle(30)
    assert mint.relay.live == others
    assert mint.open_intents == []


def test_a_mint_under_way_is_left_alone_until_it_is_surely_over(mint: Mint) -> None:
    key = mint.ask()
    mint.clock.moved += 21
    assert mint.resolver.run_once() == 0
    mint.store.complete_intent(key.intent_id, mint.lease(key))
    mint.settle(60)
    assert [made.key_id for made in mint.relay.live] == [key.minted.ref.key_id]


def test_a_dead_processs_mint_is_cleaned_within_half_a_minute(mint: Mint) -> None:
    mint.ask()
    mint.settle(30, step=1.0)
    assert (mint.relay.live, mint.open_intents) == ([], [])


@pytest.mark.parametrize("call", ["find", "revoke", "mint"])
def test_an_outage_is_outlived_with_growing_patience(mint: Mint, call: str) -> None:
    leave_unknown(mint, applied=call != "mint")
    mint.relay.faults = {call: [Fault(UNREACHABLE)] * 1000}
    mint.settle(3600, step=0.5)
    assert len(mint.open_intents) == 1
    attempts = mint.open_intents[0].attempts
    assert 3600 / 32 < attempts < 3600 / 15, "every 20 s or so, neither a storm nor a surrender"
    mint.relay.faults = {}
    mint.settle(40)
    assert (mint.relay.live, mint.open_intents) == ([], [])


def test_the_relays_own_patience_is_respected(mint: Mint) -> None:
    leave_unknown(mint, applied=True)
    mint.relay.faults["find"] = [Fault(failure(Kind.RATE_LIMITED, Outcome.NOT_APPLIED, 120.0))]
    mint.settle(119)
    assert mint.relay.calls == ["find"]
    mint.settle(30)
    assert mint.open_intents == []


def test_a_key_that_is_not_found_counts_as_gone_only_with_a_valid_credential(mint: Mint) -> None:
    key = mint.ask()
    mint.relay.faults["revoke"] = [Fault(UNREACHABLE)]
    mint.minter.abandon(key.intent_id, key.minted, mint.relay, "x")
    mint.relay.wrong_address = True
    mint.relay.faults["check"] = [Fault(DENIED)] * 3
    mint.settle(2, step=0.1)
    assert "check" in mint.relay.calls
    assert len(mint.open_intents) == 1, "a wrong address must not end the matter"


def test_a_key_revoked_with_a_lost_answer_is_found_dead_and_the_matter_ends(mint: Mint) -> None:
    leave_unknown(mint, applied=True)
    mint.relay.faults["revoke"] = [Fault(LOST, applied=True)]
    mint.settle(30)
    assert mint.relay.calls == ["find", "revoke", "find"]
    assert mint.open_intents == []


def test_a_mount_without_a_relay_keeps_its_intents_until_their_keys_have_ended(mint: Mint) -> None:
    leave_unknown(mint, applied=True, expires_in=300)

    def no_relay(_uuid: str) -> ScriptedRelay:
        raise InvalidRequest("this mount has no relay yet")

    mint.resolver = IntentResolver(mint.store, mint.clock, no_relay, rng=lambda: 0.5)
    mint.settle(300)
    assert "no relay" in mint.open_intents[0].last_error
    mint.settle(MintBounds().expiry_margin + 60)
    assert (mint.relay.live, mint.open_intents) == ([], [])


def test_an_order_that_is_out_of_date_is_looked_for_until_its_key_would_have_ended(mint: Mint) -> None:
    """The relay refuses to repeat what would end in the past, so the repetition settles nothing."""
    leave_unknown(mint, applied=False, expires_in=70)
    mint.clock.moved += 75
    mint.settle(300)
    assert len(mint.open_intents) == 1, "our clock may be wrong"
    mint.settle(MintBounds().expiry_margin)
    assert (mint.relay.live, mint.open_intents) == ([], [])


def test_many_intents_are_settled_side_by_side(mint: Mint) -> None:
    for _ in range(9):
        leave_unknown(mint, applied=True)
    assert mint.resolver.run_once() == MintBounds().settlers
    mint.settle(5)
    assert (mint.relay.live, mint.open_intents) == ([], [])


def test_before_a_mount_goes_all_its_intents_are_settled(mint: Mint) -> None:
    leave_unknown(mint, applied=True)
    under_way = mint.ask()
    assert mint.resolver.settle_mount(MOUNT.uuid, Deadline.after(10)) == 0
    assert mint.relay.live == []
    with pytest.raises(Exception, match="settled meanwhile"):
        mint.store.complete_intent(under_way.intent_id, mint.lease(under_way))


def test_an_unsettled_mount_says_how_many_are_left_and_can_be_forced(mint: Mint) -> None:
    leave_unknown(mint, applied=True)
    mint.relay.faults["find"] = [Fault(UNREACHABLE)] * 50
    assert mint.resolver.settle_mount(MOUNT.uuid, Deadline.after(10)) == 1
    assert mint.resolver.forget_mount(MOUNT.uuid) == 1
    assert mint.open_intents == []


def test_two_resolvers_do_not_work_on_one_intent(mint: Mint) -> None:
    leave_unknown(mint, applied=True)
    now = mint.clock.now()
    (claimed,) = mint.store.claim_intents(now, now + timedelta(seconds=18), 4)
    assert claimed.state is IntentState.SETTLING
    assert mint.resolver.run_once() == 0
    mint.clock.moved += 18
    assert mint.resolver.run_once() == 1, "and a dead one's comes back"
