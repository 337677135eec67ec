"""What a role allows holds for all who ask at once, in one process and in several, and after a restart."""

from __future__ import annotations

import multiprocessing
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.storage.samples import MOUNT, NOW, intent, lease, mount

from aikeys.errors import StorageError
from aikeys.framework.clock import SystemClock
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.storage import SqlStore, open_store
from aikeys.storage.records import IntentState, IssueLimits, LeaseState, LimitReached

FIVE_LEASES = IssueLimits(leases=5)
TWO_A_MINUTE = IssueLimits(issues=2, period=60)


def at(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def admitted(
    store: SqlStore, number: int, limits: IssueLimits, moment: datetime = NOW, role: str = "demo"
) -> bool:
    try:
        store.put_intent(intent(number, created_at=moment, role=role), limits)
    except LimitReached:
        return False
    return True


def test_leases_and_mints_under_way_count_together(store: SqlStore) -> None:
    for number in range(3):
        store.put_lease(lease(number))
    assert [admitted(store, number, FIVE_LEASES) for number in range(3)] == [True, True, False]
    assert len(store.intents()) == 2, "the refused one left nothing behind"


def test_a_lease_counts_until_the_relay_has_confirmed_its_end(store: SqlStore) -> None:
    store.put_lease(lease(1, state=LeaseState.REVOKING, attempts=3))
    one = IssueLimits(leases=1)
    assert not admitted(store, 1, one)
    store.delete_lease(lease(1).lease_id)
    assert admitted(store, 1, one)


def test_an_unknown_outcome_counts_until_it_is_settled(store: SqlStore) -> None:
    store.put_intent(intent(1, state=IntentState.SETTLING))
    one = IssueLimits(leases=1)
    assert not admitted(store, 2, one)
    store.delete_intent(intent(1).intent_id)
    assert admitted(store, 2, one)


def test_other_roles_and_other_mounts_do_not_count(store: SqlStore) -> None:
    store.put_mount(mount("other", "other/"))
    store.put_lease(lease(1, role="b"))
    store.put_lease(lease(2, mount_uuid="other"))
    store.put_intent(intent(3, mount_uuid="other"))
    limits = IssueLimits(leases=1, issues=1, period=60)
    assert admitted(store, 4, limits)
    assert admitted(store, 5, limits, role="c")


def test_no_span_of_the_period_holds_more_issues_than_the_limit(store: SqlStore) -> None:
    admissions = [
        second
        for number, second in enumerate(range(0, 300, 7))
        if admitted(store, number, TWO_A_MINUTE, at(second))
    ]
    assert len(admissions) >= 8, "it goes on as soon as it may"
    for first in admissions:
        assert sum(1 for one in admissions if first <= one < first + 60) <= 2


def test_who_is_refused_is_told_when_the_next_one_is_allowed(store: SqlStore) -> None:
    assert admitted(store, 1, TWO_A_MINUTE, at(0))
    assert admitted(store, 2, TWO_A_MINUTE, at(30.5))
    with pytest.raises(LimitReached) as refused:
        store.put_intent(intent(3, created_at=at(40)), TWO_A_MINUTE)
    assert refused.value.retry_after == 20
    assert admitted(store, 4, TWO_A_MINUTE, at(60))
    with pytest.raises(LimitReached) as refused:
        store.put_intent(intent(5, created_at=at(60)), TWO_A_MINUTE)
    assert refused.value.retry_after == 30.5


def test_a_refused_request_is_no_issue(store: SqlStore) -> None:
    limits = IssueLimits(leases=1, issues=1, period=60)
    store.put_lease(lease())
    assert not admitted(store, 1, limits)
    store.delete_lease(lease().lease_id)
    assert admitted(store, 2, limits)
    assert not admitted(store, 3, IssueLimits(issues=1, period=60), at(59.9))
    assert admitted(store, 4, IssueLimits(issues=1, period=60), at(60))


def test_a_clock_that_was_set_back_stops_no_role_for_longer_than_two_periods(store: SqlStore) -> None:
    assert admitted(store, 1, TWO_A_MINUTE, at(3600))
    assert admitted(store, 2, TWO_A_MINUTE, at(3600))
    assert admitted(store, 3, TWO_A_MINUTE, at(0))
    assert admitted(store, 4, TWO_A_MINUTE, at(0))
    assert not admitted(store, 5, TWO_A_MINUTE, at(59))
    assert admitted(store, 6, TWO_A_MINUTE, at(60))


def test_what_no_limit_looks_at_is_let_go(store: SqlStore) -> None:
    many = IssueLimits(issues=10_000, period=60)
    for number in range(5):
        assert admitted(store, number, many, at(number))
    assert store.forget(at(3)) == 3
    assert store.forget(at(3)) == 0
    assert not admitted(store, 9, TWO_A_MINUTE, at(5)), "the others are still there"


def test_a_rate_holds_after_a_restart(store: SqlStore, place: Path) -> None:
    assert admitted(store, 1, TWO_A_MINUTE)
    assert admitted(store, 2, TWO_A_MINUTE)
    again = open_store(place, KeyFileSeal(place.with_name("seal.key")), clock=SystemClock())
    try:
        assert not admitted(again, 3, TWO_A_MINUTE, at(59))
        assert admitted(again, 4, TWO_A_MINUTE, at(60))
    finally:
        again.close()


def test_a_role_without_limits_is_not_counted(store: SqlStore) -> None:
    store.put_intent(intent(1), IssueLimits(issues=1, period=60))
    store.put_intent(intent(2), None)
    with pytest.raises(StorageError):
        store.put_intent(intent(2), IssueLimits(leases=100))
    assert len(store.intents(MOUNT)) == 2


def _ask(place: Path, numbers: range, limits: IssueLimits, ready: threading.Barrier) -> int:
    store = open_store(place, KeyFileSeal(place.with_name("seal.key")), clock=SystemClock())
    got: list[int] = []

    def one(number: int) -> None:
        ready.wait()
        if admitted(store, number, limits):
            got.append(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    return len(got)


@pytest.mark.parametrize("limits", [FIVE_LEASES, IssueLimits(issues=5, period=3600)], ids=["leases", "rate"])
def test_requests_at_once_in_two_processes_cannot_pass_a_limit_together(
    store: SqlStore, place: Path, limits: IssueLimits
) -> None:
    spawning = multiprocessing.get_context("spawn")
    with spawning.Manager() as manager, spawning.Pool(2) as pool:
        ready = manager.Barrier(16)
        asked = [
            pool.apply_async(_ask, (place, range(start, start + 8), limits, ready)) for start in (0, 100)
        ]
        admissions = [one.get(timeout=60) for one in asked]
    assert sum(admissions) == 5
    assert len(store.intents()) == 5
