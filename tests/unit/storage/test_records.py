"""What is stored comes back as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.storage.samples import MOUNT, NOW, intent, lease, mount

from aikeys.errors import StorageError
from aikeys.storage import SqlStore
from aikeys.storage.records import IntentState, LeaseState, WrappedRecord


def test_a_mount_comes_back_whole_and_is_overwritten_in_place(store: SqlStore) -> None:
    store.put_mount(mount(options={"a": "b"}, description="keys", tainted=True, namespace="team/"))
    assert store.mounts() == [mount(options={"a": "b"}, description="keys", tainted=True, namespace="team/")]


def test_a_mount_written_again_keeps_its_entries(store: SqlStore) -> None:
    store.entries(MOUNT).put("config", {"relay": "holysheep"})
    store.put_mount(mount(max_lease_ttl=99))
    assert store.entries(MOUNT).get("config") == {"relay": "holysheep"}


def test_entries_are_listed_one_level_deep_and_sorted(store: SqlStore) -> None:
    entries = store.entries(MOUNT)
    for key in ("roles/b", "roles/a", "roles/deep/x", "config", "rolesx"):
        entries.put(key, {"key": key})
    assert entries.list("roles/") == ["a", "b", "deep/"]
    assert entries.list("") == ["config", "roles/", "rolesx"]
    entries.delete("roles/a")
    assert entries.get("roles/a") is None
    assert entries.list("roles/") == ["b", "deep/"]


def test_entries_of_two_mounts_do_not_meet(store: SqlStore) -> None:
    store.put_mount(mount("other", "other/"))
    store.entries("other").put("config", {"who": "other"})
    assert store.entries(MOUNT).get("config") is None


def test_the_generation_rises_with_mounts_and_entries_only(store: SqlStore) -> None:
    before = store.generation()
    store.put_lease(lease())
    store.put_intent(intent())
    store.entries(MOUNT).delete("roles/never-there")
    assert store.generation() == before
    changes: list[Callable[[], None]] = [
        lambda: store.entries(MOUNT).put("roles/a", {}),
        lambda: store.entries(MOUNT).delete("roles/a"),
        lambda: store.put_mount(mount(description="x")),
    ]
    for change in changes:
        change()
        assert store.generation() > before
        before = store.generation()


def test_a_mount_with_leases_or_intents_is_not_deleted(store: SqlStore) -> None:
    store.put_lease(lease())
    with pytest.raises(StorageError, match="still has 1 leases and 0 open mint intents"):
        store.delete_mount(MOUNT)
    store.delete_lease(lease().lease_id)
    store.put_intent(intent())
    with pytest.raises(StorageError, match="still has 0 leases and 1 open mint intents"):
        store.delete_mount(MOUNT)
    store.delete_intent(intent().intent_id)
    store.entries(MOUNT).put("config", {})
    store.delete_mount(MOUNT)
    assert store.mounts() == []
    store.put_mount(mount())
    assert store.entries(MOUNT).get("config") is None, "its entries went with it"


def test_a_lease_comes_back_whole(store: SqlStore) -> None:
    full = lease(
        last_renewal=NOW + timedelta(seconds=1),
        ttl=60,
        max_ttl=180,
        renewable=False,
        namespace="team/",
        token_type="batch",
        token_orphan=False,
        token_expire_time=NOW + timedelta(minutes=5),
        parent_accessor="parent",
        entity_id="entity",
        state=LeaseState.REVOKING,
        due_at=NOW + timedelta(seconds=7),
        attempts=3,
        last_error="relay away",
        effective_by=NOW + timedelta(seconds=9),
    )
    store.put_lease(full)
    assert store.lease(full.lease_id) == full


def test_an_intent_comes_back_whole(store: SqlStore) -> None:
    full = intent(
        attempts=2,
        looks=1,
        first_look=NOW,
        key_ref={"key_id": "key_1"},
        last_error="x",
        state=IntentState.SETTLING,
    )
    stored = replace(full, serial=store.put_intent(full))
    assert store.intents() == [stored]
    assert store.intents(MOUNT) == [stored]
    assert store.intents("other") == []
    changed = replace(full, looks=2, last_error="y")
    store.update_intent(changed)
    assert store.intents() == [changed]


def test_a_wrapped_answer_is_found_by_both_hashes_and_taken_once(store: SqlStore) -> None:
    record = WrappedRecord(
        "t-hash", "a-hash", {"data": {"api_key": "secret"}}, "", NOW + timedelta(seconds=60)
    )
    store.put_wrapped(record)
    assert store.wrapped("t-hash") == record
    assert store.wrapped("a-hash") == record
    assert store.take_wrapped("t-hash") == record
    assert store.take_wrapped("t-hash") is None


def test_a_keyed_hash_is_the_same_after_reopening_and_no_plain_hash(store: SqlStore) -> None:
    import hashlib

    assert store.keyed_hash("token") == store.keyed_hash("token") != store.keyed_hash("token2")
    assert store.keyed_hash("token") != hashlib.sha256(b"token").hexdigest()


def test_lease_names_are_one_level_and_jump_over_what_lies_below(store: SqlStore) -> None:
    for lease_id in (
        "ai-keys/creds/a/1",
        "ai-keys/creds/a/2",
        "ai-keys/creds/b/3",
        "ai-keys2/creds/c/4",
        "plain",
    ):
        store.put_lease(lease(lease_id=lease_id))
    assert store.lease_names("") == ["ai-keys/", "ai-keys2/", "plain"]
    assert store.lease_names("ai-keys/") == ["creds/"]
    assert store.lease_names("ai-keys/creds/") == ["a/", "b/"]
    assert store.lease_names("ai-keys/creds/a/") == ["1", "2"]
    assert store.lease_names("nothing/") == []


def test_prefixes_are_compared_byte_by_byte(store: SqlStore) -> None:
    for lease_id in ("ai-keys/creds/A/1", "ai-keys/creds/a/1", "ai-keys/creds/a%/1", "ai-keys/creds/aé/1"):
        store.put_lease(lease(lease_id=lease_id))
    assert store.lease_ids_with_prefix("ai-keys/creds/a/") == ["ai-keys/creds/a/1"]
    assert len(store.lease_ids_with_prefix("ai-keys/creds/a")) == 3
    assert [record.lease_id for record in store.leases_with_prefix("ai-keys/creds/aé/")] == [
        "ai-keys/creds/aé/1"
    ]


def test_nothing_stands_under_a_name_that_is_no_text(store: SqlStore) -> None:
    store.put_lease(lease(lease_id="ai-keys/creds/a/1"))
    odd = b"ai-keys/creds/\xff/".decode(errors="surrogateescape")
    assert store.lease(odd) is None
    assert store.leases_with_prefix(odd) == []
    assert store.lease_ids_with_prefix(odd) == store.lease_names(odd) == []


def test_leases_of_a_token_include_those_of_batch_tokens_below_it(store: SqlStore) -> None:
    store.put_lease(lease(1, token_accessor="x"))
    store.put_lease(lease(2, token_accessor="", parent_accessor="x", token_type="batch"))
    store.put_lease(lease(3, token_accessor=""))
    assert store.active_leases_of_tokens(["x"]) == [lease(1).lease_id, lease(2).lease_id]
    assert store.active_leases_of_tokens([""]) == []


def test_leases_are_counted_by_mount_role_and_failure(store: SqlStore) -> None:
    store.put_mount(mount("other", "other/"))
    store.put_lease(lease(1))
    store.put_lease(lease(2, role="b", state=LeaseState.REVOKING, attempts=1))
    store.put_lease(lease(3, mount_uuid="other"))
    assert store.count_leases() == 3
    assert store.count_leases(MOUNT) == 2
    assert store.count_leases(MOUNT, "b") == 1
    assert store.count_leases(failing=True) == 1
    assert [record.lease_id for record in store.failing_leases()] == [lease(2).lease_id]
    assert store.failing_leases("other") == []
