"""A key is found by its hashes while its lease lives and after; leases are found by who holds them."""

from __future__ import annotations

import sqlite3
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.unit.storage.samples import MOUNT, NOW, lease, mount

from aikeys.storage import SqlStore
from aikeys.storage.records import EndedLease, Holder


def ended(number: int = 1, **changes: Any) -> EndedLease:
    fields: dict[str, Any] = {
        "lease_id": f"ai-keys/creds/demo/{number:024d}",
        "mount_uuid": MOUNT,
        "key_hash": f"key-hash-{number}",
        "prefix_hash": "prefix-hash",
        "ended_at": NOW + timedelta(seconds=number),
        "role": "demo",
        "issue_time": NOW,
        "expire_time": NOW + timedelta(minutes=1),
        "token_accessor": "accessor-of-the-reader",
        "entity_id": "entity-of-the-reader",
        "login_path": "auth/approle/login",
        "login_role": "billing",
        "key_ref": {"key_id": f"key_{number}"},
        "cause": "expiry",
    }
    return EndedLease(**(fields | changes))


def end(store: SqlStore, number: int, **changes: Any) -> EndedLease:
    record = ended(number, **changes)
    store.put_lease(lease(number, mount_uuid=record.mount_uuid, key_hash=record.key_hash))
    assert store.delete_lease(lease(number).lease_id, record)
    return record


def test_a_lease_is_found_by_its_key_and_by_what_its_key_begins_with(store: SqlStore) -> None:
    store.put_mount(mount("other", "other/"))
    first = lease(1, key_hash="a", prefix_hash="p")
    second = lease(2, key_hash="b", prefix_hash="p", issue_time=NOW - timedelta(seconds=1))
    for record in (first, second, lease(3), lease(4, mount_uuid="other", key_hash="a", prefix_hash="p")):
        store.put_lease(record)

    assert store.leases_of_key(MOUNT, key_hash="a") == [first]
    assert store.leases_of_key(MOUNT, prefix_hash="p") == [second, first]
    assert store.leases_of_key(MOUNT, key_hash="p") == []


def test_an_empty_hash_finds_nothing_instead_of_all_that_have_none(store: SqlStore) -> None:
    store.put_lease(lease())
    for find in (store.leases_of_key, store.ended_of_key):
        with pytest.raises(ValueError, match="either the key's hash or its prefix's"):
            find(MOUNT)
    with pytest.raises(ValueError, match="nobody is named"):
        store.lease_ids_of(MOUNT, Holder())


def test_what_is_remembered_of_an_ended_lease_comes_back_whole(store: SqlStore) -> None:
    full = end(
        store,
        1,
        forced=True,
        key_ends=NOW + timedelta(hours=1),
        lag=0.25,
        effective_by=NOW + timedelta(seconds=9),
    )
    assert store.ended_of_key(MOUNT, key_hash=full.key_hash) == [full]
    assert store.ended_of_key("other", key_hash=full.key_hash) == []
    assert store.remembered_since(MOUNT) == full.ended_at


def test_a_lease_is_remembered_by_whoever_removes_it_and_once(store: SqlStore) -> None:
    end(store, 1)
    assert not store.delete_lease(lease(1).lease_id, ended(1))
    assert len(store.ended_of_key(MOUNT, prefix_hash="prefix-hash")) == 1


def test_a_lease_that_cannot_be_remembered_is_not_removed(store: SqlStore) -> None:
    """One transaction: a crash in between would forget whose key it was."""
    store.put_lease(lease())
    with pytest.raises(Exception, match="FOREIGN KEY"):
        store.delete_lease(lease().lease_id, ended(mount_uuid="no such mount"))
    assert store.lease(lease().lease_id) is not None


def test_who_held_an_ended_lease_does_not_stand_in_the_database_in_clear(
    store: SqlStore, place: Path
) -> None:
    end(store, 1)
    files = b"".join(path.read_bytes() for path in place.parent.iterdir())
    assert b"entity-of-the-reader" not in files
    assert b"key-hash-1" in files, "this would find it"


def test_the_oldest_are_forgotten_by_age_and_by_number(
    store: SqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aikeys.storage.leases.MOST_REMEMBERED", 5)

    def left() -> list[str]:
        found = store.ended_of_key(MOUNT, prefix_hash="prefix-hash")
        return [record.key_hash.removeprefix("key-hash-") for record in found]

    for number in range(1, 11):
        end(store, number)
    assert left() == ["6", "7", "8", "9", "10"]
    assert store.remembered_since(MOUNT) == NOW + timedelta(seconds=6)
    assert store.forget(NOW + timedelta(seconds=8)) == 2
    assert left() == ["8", "9", "10"]
    assert store.forget(NOW + timedelta(seconds=8)) == 0


def test_a_damaged_record_does_not_hide_the_others(store: SqlStore, place: Path) -> None:
    end(store, 1)
    whole = end(store, 2)
    store.put_lease(lease(3, prefix_hash="p"))
    living = lease(4, prefix_hash="p")
    store.put_lease(living)
    with sqlite3.connect(place) as raw:
        raw.execute("UPDATE ended_leases SET sealed_details=x'01' WHERE key_hash='key-hash-1'")
        raw.execute("UPDATE leases SET sealed_internal=x'01' WHERE lease_id=?", (lease(3).lease_id,))
    raw.close()
    assert store.leases_of_key(MOUNT, prefix_hash="p") == [living]
    assert store.ended_of_key(MOUNT, prefix_hash="prefix-hash") == [whole]


def test_a_mount_that_goes_takes_its_ended_leases_along(store: SqlStore) -> None:
    end(store, 1)
    store.delete_mount(MOUNT)
    assert store.ended_of_key(MOUNT, key_hash="key-hash-1") == []


def test_leases_are_found_by_each_kind_of_holder(store: SqlStore) -> None:
    store.put_mount(mount("other", "other/"))
    login = {"login_path": "auth/approle/login", "login_role": "billing"}
    store.put_lease(lease(1, role="a", entity_id="e1", token_accessor="t1", **login))
    store.put_lease(lease(2, role="b", entity_id="e1", token_accessor="t2"))
    store.put_lease(lease(3, role="b", token_accessor="", parent_accessor="t1", **login))
    store.put_lease(lease(4, role="a", login_path="auth/Approle/login", login_role="billing"))
    store.put_lease(lease(5, role="a", login_path="auth/approle2/login", login_role="billing"))
    store.put_lease(lease(6, mount_uuid="other", role="a", entity_id="e1", token_accessor="t1", **login))

    def found(**holder: str) -> list[int]:
        return [int(one.rpartition("/")[2]) for one in store.lease_ids_of(MOUNT, Holder(**holder))]

    assert found(role="a") == [1, 4, 5]
    assert found(entity_id="e1") == [1, 2]
    assert found(token_accessor="t1") == [1, 3]
    assert found(login_role="billing", auth_mount="approle") == [1, 3]
    assert found(login_role="billing", auth_mount="Approle") == [4]
    assert found(role="b", entity_id="e1") == [2]
    assert found(role="nobody") == []
