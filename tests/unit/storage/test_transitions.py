"""What changes together changes in one transaction, and what one has taken no other gets."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.storage.samples import MOUNT, NOW, intent, lease, mount

from aikeys.errors import StorageError
from aikeys.storage import SqlStore
from aikeys.storage.records import IntentState, LeaseState, WrappedRecord

LATER = NOW + timedelta(hours=2)
UNTIL = LATER + timedelta(seconds=20)


def test_an_intent_becomes_a_lease_in_one_step(store: SqlStore) -> None:
    store.put_intent(intent())
    store.complete_intent(intent().intent_id, lease())
    assert store.intents() == []
    assert store.lease(lease().lease_id) == lease()


def test_without_its_intent_no_lease_is_stored(store: SqlStore) -> None:
    with pytest.raises(StorageError, match="was settled meanwhile"):
        store.complete_intent("gone", lease())
    assert store.lease(lease().lease_id) is None


def test_an_intent_that_somebody_settles_becomes_no_lease(store: SqlStore) -> None:
    store.put_intent(intent())
    assert [record.state for record in store.claim_intents(LATER, UNTIL, 5)] == [IntentState.SETTLING]
    with pytest.raises(StorageError, match="was settled meanwhile"):
        store.complete_intent(intent().intent_id, lease())
    assert len(store.intents()) == 1


def test_a_lease_that_cannot_be_stored_keeps_its_intent(store: SqlStore) -> None:
    store.put_intent(intent())
    store.put_lease(lease())
    with pytest.raises(StorageError):
        store.complete_intent(intent().intent_id, lease())
    assert len(store.intents()) == 1


def test_an_intent_is_claimed_once_until_the_claim_lapses(store: SqlStore) -> None:
    store.put_intent(intent())
    assert store.claim_intents(NOW, UNTIL, 5) == [], "not due yet"
    assert len(store.claim_intents(LATER, UNTIL, 5)) == 1
    assert store.claim_intents(LATER, UNTIL, 5) == []
    assert len(store.claim_intents(UNTIL, UNTIL + timedelta(seconds=20), 5)) == 1


def test_all_intents_of_a_mount_can_be_settled_at_once(store: SqlStore) -> None:
    store.put_intent(intent())
    store.hasten_intents(MOUNT, NOW)
    assert len(store.claim_intents(NOW, UNTIL, 5)) == 1
    store.hasten_intents(MOUNT, NOW)
    assert store.claim_intents(NOW, UNTIL, 5) == [], "what is claimed stays with its claimant"


def test_an_undone_issue_has_no_lease_and_an_intent_with_the_key(store: SqlStore) -> None:
    store.put_intent(intent())
    store.complete_intent(intent().intent_id, lease())
    known = replace(intent(), state=IntentState.SETTLING, key_ref={"key_id": "key_1"})
    store.reopen_intent(known, lease().lease_id)
    assert store.lease(lease().lease_id) is None
    assert store.intents() == [known]


def test_an_active_lease_is_due_at_its_end_and_nowhere_else(store: SqlStore) -> None:
    store.put_lease(lease(due_at=NOW))
    assert store.claim_due_leases(NOW + timedelta(minutes=59), UNTIL, 5) == []
    assert store.next_due() == lease().expire_time


def test_a_due_lease_is_revoking_from_the_moment_it_is_taken(store: SqlStore) -> None:
    store.put_lease(lease())
    (taken,) = store.claim_due_leases(LATER, UNTIL, 5)
    assert taken.state is LeaseState.REVOKING
    assert store.lease(lease().lease_id) == taken
    assert store.claim_due_leases(LATER, UNTIL, 5) == []
    assert len(store.claim_due_leases(UNTIL, UNTIL + timedelta(seconds=20), 5)) == 1, (
        "a dead process's claim lapses"
    )


def test_a_claim_can_be_kept(store: SqlStore) -> None:
    store.put_lease(lease())
    store.claim_due_leases(LATER, UNTIL, 5)
    store.extend_claims([lease().lease_id], UNTIL + timedelta(seconds=20))
    assert store.claim_due_leases(UNTIL, UNTIL + timedelta(seconds=20), 5) == []


def test_a_renewal_comes_too_late_once_the_end_is_decided(store: SqlStore) -> None:
    store.put_lease(lease())
    longer = replace(lease(), expire_time=NOW + timedelta(hours=3))
    assert store.update_lease(longer, expected=LeaseState.ACTIVE)
    assert store.claim_due_leases(LATER, UNTIL, 5) == [], "it was renewed in time"
    store.mark_revoking([lease().lease_id], LATER)
    assert not store.update_lease(longer, expected=LeaseState.ACTIVE)
    store.delete_lease(lease().lease_id)
    assert not store.update_lease(longer, expected=LeaseState.REVOKING)


def test_marked_leases_end_now_and_are_due_now(store: SqlStore) -> None:
    ids = [lease(number).lease_id for number in range(1200)]
    for number in range(1200):
        store.put_lease(lease(number))
    assert store.mark_revoking(ids, NOW) == 1200
    assert store.mark_revoking(ids, NOW) == 0
    record = store.lease(ids[7])
    assert record is not None
    assert (record.state, record.expire_time, record.due_at) == (LeaseState.REVOKING, NOW, NOW)
    assert len(store.claim_due_leases(NOW, UNTIL, 5000)) == 1200


def test_a_lease_marked_with_a_claim_is_left_to_the_claimant(store: SqlStore) -> None:
    store.put_lease(lease())
    store.mark_revoking([lease().lease_id], NOW, NOW + timedelta(seconds=20))
    assert store.claim_due_leases(NOW + timedelta(seconds=19), UNTIL, 5) == []
    assert len(store.claim_due_leases(NOW + timedelta(seconds=20), UNTIL, 5)) == 1


def test_a_lease_that_is_due_already_can_be_claimed_by_marking_it(store: SqlStore) -> None:
    store.put_lease(lease())
    store.mark_revoking([lease().lease_id], NOW)
    store.mark_revoking([lease().lease_id], NOW, NOW + timedelta(seconds=20))
    assert store.claim_due_leases(NOW + timedelta(seconds=19), UNTIL, 5) == []


def test_a_waiting_lease_that_is_marked_again_is_due_now(store: SqlStore) -> None:
    store.put_lease(lease(state=LeaseState.REVOKING, attempts=4, due_at=NOW + timedelta(minutes=5)))
    assert store.mark_revoking([lease().lease_id], NOW) == 0
    assert len(store.claim_due_leases(NOW, UNTIL, 5)) == 1


def test_mounts_are_claimed_apart(store: SqlStore) -> None:
    store.put_mount(mount("other", "other/"))
    store.put_lease(lease(1, expire_time=NOW + timedelta(minutes=2)))
    store.put_lease(lease(2, mount_uuid="other", expire_time=NOW + timedelta(minutes=1)))
    assert store.due_mounts(NOW) == []
    assert store.due_mounts(LATER) == ["other", MOUNT]
    assert [record.lease_id for record in store.claim_due_leases(LATER, UNTIL, 5, MOUNT)] == [
        lease(1).lease_id
    ]
    assert [record.lease_id for record in store.claim_due_leases(LATER, UNTIL, 5)] == [lease(2).lease_id]


def test_failing_leases_can_be_hastened_but_not_taken_from_their_claimant(store: SqlStore) -> None:
    waiting = NOW + timedelta(hours=1)
    for number in (1, 2):
        store.put_lease(lease(number, state=LeaseState.REVOKING, attempts=2, due_at=waiting))
    store.put_lease(lease(3))
    store.put_lease(lease(4, state=LeaseState.REVOKING, attempts=1, due_at=NOW))
    store.claim_due_leases(NOW, UNTIL, 5)
    assert store.hasten(MOUNT, NOW, limit=1) == 1
    assert store.hasten(MOUNT, NOW) == 1
    assert store.hasten(MOUNT, NOW) == 0
    assert len(store.claim_due_leases(NOW, UNTIL, 5)) == 2


def test_work_for_an_impossible_moment_is_released(store: SqlStore) -> None:
    store.put_lease(lease(1, state=LeaseState.REVOKING, due_at=NOW + timedelta(days=9)))
    store.put_lease(lease(2))
    store.put_intent(intent(due_at=NOW + timedelta(days=9)))
    assert store.release_stale(NOW, NOW + timedelta(minutes=8)) == 2
    assert len(store.claim_due_leases(NOW, UNTIL, 5)) == 1
    assert len(store.claim_intents(NOW, UNTIL, 5)) == 1


def test_the_next_due_moment_is_that_of_leases_intents_and_wrapped_answers(store: SqlStore) -> None:
    assert store.next_due() is None
    store.put_lease(lease(expire_time=NOW + timedelta(minutes=3)))
    assert store.next_due() == NOW + timedelta(minutes=3)
    store.put_intent(intent(due_at=NOW + timedelta(minutes=2)))
    assert store.next_due() == NOW + timedelta(minutes=2)
    store.put_wrapped(WrappedRecord("t", "a", {}, "", NOW + timedelta(minutes=1)))
    assert store.next_due() == NOW + timedelta(minutes=1)


def test_an_unread_wrapped_answer_takes_its_lease_with_it_in_one_step(store: SqlStore) -> None:
    store.put_lease(lease(1))
    store.put_lease(lease(2))
    store.put_wrapped(WrappedRecord("t1", "a1", {"x": 1}, lease(1).lease_id, NOW))
    store.put_wrapped(WrappedRecord("t2", "a2", {"x": 2}, lease(2).lease_id, LATER))
    assert [record.token_hash for record in store.lapsed_wrapped(NOW, 10)] == ["t1"]
    assert store.lapsed_wrapped(NOW, 10) == []
    first, second = store.lease(lease(1).lease_id), store.lease(lease(2).lease_id)
    assert first is not None
    assert second is not None
    assert (first.state, second.state) == (LeaseState.REVOKING, LeaseState.ACTIVE)
