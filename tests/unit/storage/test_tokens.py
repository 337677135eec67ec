"""Every token that holds an active lease is looked up in its turn, by one process at a time, until it holds none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.storage.samples import NOW, intent, lease

from aikeys.framework.clock import SystemClock
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.storage import SqlStore, open_store
from aikeys.storage.records import TokenRecord, WitnessRecord
from aikeys.storage.tokens import FIRST_LOOK

SECOND = timedelta(seconds=1)
FIRST = NOW + FIRST_LOOK


def claim(store: SqlStore, now: datetime = FIRST, limit: int = 100) -> list[TokenRecord]:
    return store.claim_tokens(now, now + 20 * SECOND, now + 60 * SECOND, limit)


def claimed(store: SqlStore, now: datetime = FIRST, limit: int = 100) -> list[str]:
    return [token.accessor for token in claim(store, now, limit)]


def settle(store: SqlStore, tokens: Sequence[TokenRecord], due_at: datetime) -> None:
    store.settle_tokens([replace(token, seen_at=FIRST, due_at=due_at) for token in tokens])


@pytest.mark.parametrize("minted", [True, False])
def test_a_token_is_due_soon_after_its_first_lease(store: SqlStore, minted: bool) -> None:
    if minted:
        store.put_intent(intent())
        store.complete_intent(intent().intent_id, lease())
    else:
        store.put_lease(lease())
    assert claim(store, NOW) == []
    [token] = claim(store)
    assert (token.accessor, token.orphan, token.seen_at) == ("accessor-1", True, NOW)


def test_a_token_with_many_leases_is_looked_up_once(store: SqlStore) -> None:
    for number in range(5):
        store.put_lease(lease(number))
    assert claimed(store) == ["accessor-1"]


def test_a_later_lease_does_not_put_off_the_look_nor_forget_when_it_was_seen(store: SqlStore) -> None:
    store.put_lease(lease(1))
    settle(store, claim(store), FIRST + 5 * SECOND)
    store.put_lease(lease(2, issue_time=NOW + timedelta(hours=1)))
    [token] = claim(store, FIRST + 5 * SECOND)
    assert token.seen_at == FIRST


def test_a_batch_token_stands_for_its_parent_and_an_orphan_one_for_nobody(store: SqlStore) -> None:
    store.put_lease(lease(1, token_accessor="", token_type="batch", token_orphan=False, parent_accessor="p"))
    store.put_lease(lease(2, token_accessor="", token_type="batch"))
    [token] = claim(store)
    assert (token.accessor, token.orphan) == ("p", False)


def test_what_one_claims_no_other_gets_until_it_is_settled_or_the_claim_lapses(
    store: SqlStore, place: Path
) -> None:
    other = open_store(place, KeyFileSeal(place.with_name("seal.key")), clock=SystemClock())
    try:
        for number in range(10):
            store.put_lease(lease(number, token_accessor=f"token-{number}"))
        ours, theirs = claimed(store, limit=6), claimed(other, limit=6)
        assert (len(ours), len(theirs)) == (6, 4)
        assert not set(ours) & set(theirs)
        assert claimed(store, FIRST + 19 * SECOND) == []
        assert len(claimed(other, FIRST + 20 * SECOND)) == 10
    finally:
        other.close()


def test_the_longest_waiting_come_first(store: SqlStore) -> None:
    for number, age in enumerate((3, 9, 1, 5)):
        store.put_lease(
            lease(number, token_accessor=f"waits-{age}", issue_time=FIRST - age * SECOND - FIRST_LOOK)
        )
    assert sorted(claimed(store, limit=2)) == ["waits-5", "waits-9"]
    assert store.next_token_due() == FIRST - 3 * SECOND


def test_a_token_without_an_active_lease_is_forgotten_and_comes_back_with_the_next(store: SqlStore) -> None:
    store.put_lease(lease(1))
    store.put_lease(lease(2, token_accessor="other"))
    store.mark_revoking([lease(1).lease_id], NOW)
    store.delete_lease(lease(2).lease_id)
    assert claimed(store) == []
    assert store.next_token_due() is None
    store.put_lease(lease(3))
    assert claimed(store) == ["accessor-1"]


def test_a_token_is_kept_for_one_active_lease_among_others_and_for_a_child_s(store: SqlStore) -> None:
    store.put_lease(lease(1))
    store.put_lease(lease(2))
    store.put_lease(lease(3, token_accessor="parent", token_orphan=False))
    store.put_lease(lease(4, token_accessor="", token_type="batch", parent_accessor="parent"))
    store.mark_revoking([lease(1).lease_id, lease(3).lease_id], NOW)
    assert sorted(claimed(store)) == ["accessor-1", "parent"]


def test_a_lease_stored_while_its_tokens_end_is_noted_is_looked_after(store: SqlStore) -> None:
    store.put_lease(lease(1))
    [token] = claim(store)
    assert store.active_leases_of_tokens(["accessor-1"]) == [lease(1).lease_id]
    store.mark_revoking([lease(1).lease_id], FIRST)
    store.put_lease(lease(2))
    settle(store, [token], FIRST + SECOND)
    assert claimed(store, FIRST + SECOND) == ["accessor-1"]


def test_those_that_can_die_with_a_parent_are_hastened_alone_or_all(store: SqlStore) -> None:
    store.put_lease(lease(1, token_accessor="orphan"))
    store.put_lease(lease(2, token_accessor="child", token_orphan=False))
    settle(store, claim(store), FIRST + 30 * SECOND)
    assert store.hasten_tokens(FIRST, orphans=False) == 1
    assert claimed(store) == ["child"]
    assert store.hasten_tokens(FIRST, orphans=True) == 2
    assert sorted(claimed(store)) == ["child", "orphan"]


def test_a_clock_that_was_set_back_puts_no_look_off(store: SqlStore) -> None:
    store.put_lease(lease())
    settle(store, claim(store, NOW + timedelta(days=1)), NOW + timedelta(days=1, seconds=30))
    assert claimed(store, NOW) == ["accessor-1"]


def test_more_tokens_than_fit_one_statement_are_claimed_and_their_leases_found(store: SqlStore) -> None:
    for number in range(1100):
        store.put_lease(lease(number, token_accessor=f"token-{number:04d}"))
    accessors = claimed(store, limit=2000)
    assert len(accessors) == 1100
    assert len(store.active_leases_of_tokens(accessors)) == 1100


def test_a_batch_token_s_parent_is_known_until_the_token_ends(store: SqlStore) -> None:
    store.put_batch_parent("hash-1", "parent-1", NOW + 10 * SECOND, NOW)
    store.put_batch_parent("hash-2", "parent-2", NOW + 20 * SECOND, NOW)
    assert [store.batch_parent(name) for name in ("hash-1", "hash-2", "hash-3")] == [
        "parent-1",
        "parent-2",
        "",
    ]
    store.put_batch_parent("hash-3", "parent-3", NOW + 30 * SECOND, NOW + 10 * SECOND)
    assert [store.batch_parent(name) for name in ("hash-1", "hash-2")] == ["", "parent-2"]


def test_neither_the_witness_s_number_nor_the_restoration_goes_back(store: SqlStore) -> None:
    assert store.witness() is None
    for number, mounts, restored_at in (
        (5, "a", None),
        (4, "b", FIRST),
        (6, "cd", NOW),
        (6, "ce", None),
        (5, "x", None),
    ):
        store.put_witness(WitnessRecord(number, frozenset(mounts), restored_at))
    assert store.witness() == WitnessRecord(6, frozenset("ce"), FIRST)
