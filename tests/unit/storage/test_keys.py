"""What a store knows of keys: a copy of it knows exactly what was given before the copy was made."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.unit.storage.samples import MOUNT, NOW, intent, lease, mount

from aikeys.errors import StorageError
from aikeys.framework.clock import SystemClock
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.storage import SqlStore, open_store
from aikeys.storage.keys import SERIES_LIFE
from aikeys.storage.records import IntentRecord, IssueLimits, KnownKeys, LimitReached

Open = Callable[[], SqlStore]


@pytest.fixture
def another(place: Path) -> Iterator[Open]:
    """Another process's store on the same file."""
    opened: list[SqlStore] = []

    def open_again() -> SqlStore:
        opened.append(open_store(place, KeyFileSeal(place.with_name("seal.key")), clock=SystemClock()))
        return opened[-1]

    yield open_again
    for store in opened:
        store.close()


def knows(store: SqlStore, serial: str) -> bool:
    series, number = serial.split(".")
    return store.serials().get(series, 0) >= int(number)


def set_back(place: Path, copy: Path) -> None:
    """The database as it was when it was copied, under the processes that have it open."""
    with closing(sqlite3.connect(copy)) as source, closing(sqlite3.connect(place)) as target:
        source.backup(target)


def test_every_intent_gets_a_serial_of_its_own_in_order(store: SqlStore, another: Open) -> None:
    serials = [store.put_intent(intent(number)) for number in range(3)]
    series = serials[0].split(".")[0]
    assert serials == [f"{series}.1", f"{series}.2", f"{series}.3"]
    assert {record.serial for record in store.intents()} == set(serials)

    other = another().put_intent(intent(3))
    assert other.split(".")[0] != series
    assert store.serials() == {series: 3, other.split(".")[0]: 1}


def test_a_serial_is_known_as_ones_own_only_to_the_process_that_gave_it(
    store: SqlStore, another: Open
) -> None:
    serial = store.put_intent(intent())
    assert store.gave(serial)
    assert not another().gave(serial)
    assert not store.gave("")


def test_a_copy_knows_what_was_given_before_it_and_nothing_after(
    store: SqlStore, another: Open, place: Path, tmp_path: Path
) -> None:
    before = store.put_intent(intent(1))
    set_back(tmp_path / "copy.db", place)
    after = [store.put_intent(intent(2)), another().put_intent(intent(3))]
    shutil.copy(place.with_name("seal.key"), tmp_path / "seal.key")
    copy = open_store(tmp_path / "copy.db", KeyFileSeal(tmp_path / "seal.key"), clock=SystemClock())
    try:
        # Also when it has given as many of its own since.
        own = [copy.put_intent(intent(number)) for number in range(4, 9)]
        assert [knows(copy, serial) for serial in [before, *after, *own]] == [True, False, False] + [True] * 5
        assert not any(knows(store, serial) for serial in own), "nor does the original know the copy's"
    finally:
        copy.close()


def test_a_process_whose_database_is_set_back_under_it_starts_another_series(
    store: SqlStore, place: Path, tmp_path: Path
) -> None:
    store.put_intent(intent(1))
    set_back(tmp_path / "copy.db", place)
    lost = store.put_intent(intent(2))
    set_back(place, tmp_path / "copy.db")
    again = store.put_intent(intent(3))
    assert again.split(".")[0] != lost.split(".")[0]
    assert not knows(store, lost)


def test_an_intent_that_is_not_stored_leaves_its_serial_to_nobody(store: SqlStore) -> None:
    first = store.put_intent(intent(1))
    with pytest.raises(StorageError):
        store.put_intent(intent(1))
    with pytest.raises(LimitReached):
        store.put_intent(intent(2), IssueLimits(leases=1))
    second = store.put_intent(intent(2))
    assert len({first, second}) == 2
    assert all(knows(store, serial) for serial in (first, second))


@pytest.mark.parametrize("later", [SERIES_LIFE, -timedelta(seconds=1)])
def test_a_series_is_used_for_an_hour_and_not_across_a_clock_that_was_set_back(
    store: SqlStore, later: timedelta
) -> None:
    def series(number: int, after: timedelta) -> str:
        return store.put_intent(intent(number, created_at=NOW + after)).split(".")[0]

    first = series(1, timedelta())
    assert series(2, SERIES_LIFE - timedelta(seconds=1)) == first
    assert series(3, later) != first


def test_serials_of_another_copy_can_be_adopted(store: SqlStore) -> None:
    own = store.put_intent(intent(1)).split(".")[0]
    store.adopt_serials({own: 7, "abcdefghij": 3})
    assert store.serials() == {own: 7, "abcdefghij": 3}
    store.adopt_serials({own: 2, "abcdefghij": 4})
    assert store.serials() == {own: 7, "abcdefghij": 4}, "what is known stays known"
    assert store.put_intent(intent(2)) == f"{own}.8"


def named(record: IntentRecord, name: str) -> IntentRecord:
    return replace(record, name=name)


def test_the_keys_that_are_known_are_those_of_leases_and_of_open_intents_of_the_mount(
    store: SqlStore,
) -> None:
    store.put_mount(mount("other", path="other/", instance="other234"))
    store.put_intent(named(intent(1), "vlt-abcdefgh-open"))
    store.put_lease(lease(1, internal={"ref": {"name": "vlt-abcdefgh-leased", "key_id": "key_1"}}))
    store.put_lease(lease(2, mount_uuid="other", internal={"ref": {"name": "vlt-other234-leased"}}))
    known = KnownKeys(frozenset({"vlt-abcdefgh-leased"}), frozenset({"vlt-abcdefgh-open"}))
    assert store.known_keys(MOUNT) == known


def test_a_lease_that_cannot_be_opened_still_protects_its_key(store: SqlStore, place: Path) -> None:
    store.put_lease(lease(1, internal={"ref": {"name": "vlt-abcdefgh-leased", "key_id": "key_1"}}))
    with closing(sqlite3.connect(place, isolation_level=None)) as raw:
        raw.execute("UPDATE leases SET sealed_internal = x'00'")
    with pytest.raises(StorageError):
        store.lease(lease(1).lease_id)
    assert store.known_keys(MOUNT).leased == {"vlt-abcdefgh-leased"}


HOUR = timedelta(hours=1)


def claim(store: SqlStore, at: timedelta, until: timedelta = HOUR) -> bool:
    return store.claim_chore("sweep", NOW + at, NOW + at + until, NOW + at + HOUR)


def test_a_chore_is_done_by_one_process_at_a_time_and_first_after_an_interval(
    store: SqlStore, another: Open
) -> None:
    other = another()
    assert not claim(store, timedelta()), "not before the first interval is over"
    assert claim(store, HOUR)
    assert not claim(other, HOUR + timedelta(seconds=1))
    store.put_off_chore("sweep", NOW + 2 * HOUR)
    assert not claim(store, HOUR + timedelta(minutes=59))
    assert claim(other, 2 * HOUR)
    assert claim(store, 3 * HOUR), "a claim lapses, should its process have died"


def test_a_chore_that_is_due_at_an_impossible_time_is_due(store: SqlStore) -> None:
    claim(store, timedelta())
    assert claim(store, -timedelta(days=1)), "the clock was set back"
    assert not claim(store, -timedelta(days=1) + timedelta(minutes=1))
