"""No secret stands in the database in clear, and no box opens anywhere but where it was put."""

from __future__ import annotations

import base64
import sqlite3
from pathlib import Path

import pytest
from tests.unit.storage.samples import MOUNT, NOW, lease, mount

from aikeys.errors import SealError, SettingsError, StorageError
from aikeys.framework.clock import SystemClock
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.storage import SqlStore, open_store
from aikeys.storage.barrier import Barrier
from aikeys.storage.records import WrappedRecord

SECRET = "sk-holysheep-CanaryCanaryCanaryCanaryCanary01"


def test_no_secret_is_in_any_file_of_the_database(store: SqlStore, place: Path) -> None:
    store.put_mount(mount(marker_key=SECRET))
    store.entries(MOUNT).put("config", {"management_key": SECRET})
    store.put_lease(lease(internal={"probe_key": SECRET}))
    store.put_wrapped(WrappedRecord("t", "a", {"data": {"api_key": SECRET}}, "", NOW))
    forms = [SECRET.encode(), base64.b64encode(SECRET.encode()).rstrip(b"="), SECRET.encode().hex().encode()]
    written = b"".join(path.read_bytes() for path in place.parent.iterdir() if path.is_file())
    assert b"ai-keys/creds/demo" in written, "the files that were read are those that were written"
    assert [form for form in forms if form in written] == []
    assert store.entries(MOUNT).get("config") == {"management_key": SECRET}


def test_a_box_opens_only_at_its_own_table_row_and_column() -> None:
    barrier = Barrier(b"k" * 32)
    box = barrier.seal(b"plain", "leases", "row", "internal")
    assert barrier.open(box, "leases", "row", "internal") == b"plain"
    for place in (("mounts", "row", "internal"), ("leases", "row2", "internal"), ("leases", "row", "other")):
        with pytest.raises(StorageError, match="does not open"):
            barrier.open(box, *place)
    # No two places may run together into the same bytes.
    with pytest.raises(StorageError):
        barrier.open(barrier.seal(b"plain", "ab", "c", "d"), "a", "bc", "d")


def test_a_changed_box_or_another_key_version_does_not_open() -> None:
    barrier = Barrier(b"k" * 32)
    box = barrier.seal(b"plain", "leases", "row", "internal")
    with pytest.raises(StorageError, match="does not open"):
        barrier.open(box[:-1] + bytes([box[-1] ^ 1]), "leases", "row", "internal")
    for short in (box[:1], box[:8], box[:20]):
        with pytest.raises(StorageError, match="does not open"):
            barrier.open(short, "leases", "row", "internal")
    with pytest.raises(StorageError, match="unknown version"):
        Barrier(b"k" * 32, version=2).open(box, "leases", "row", "internal")
    with pytest.raises(StorageError):
        Barrier(b"x" * 32).open(box, "leases", "row", "internal")


def test_no_two_boxes_are_alike() -> None:
    barrier = Barrier(b"k" * 32)
    assert len({barrier.seal(b"plain", "t", "r", "c") for _ in range(100)}) == 100


def test_a_box_moved_to_another_row_of_the_file_is_noticed(store: SqlStore, place: Path) -> None:
    store.put_lease(lease(1))
    store.put_lease(lease(2))
    with sqlite3.connect(place) as raw:
        raw.execute(
            "UPDATE leases SET sealed_internal=(SELECT sealed_internal FROM leases WHERE lease_id=?) WHERE lease_id=?",
            (lease(1).lease_id, lease(2).lease_id),
        )
    raw.close()
    with pytest.raises(StorageError, match="does not open"):
        store.lease(lease(2).lease_id)
    assert [record.lease_id for record in store.leases_with_prefix("ai-keys/")] == [lease(1).lease_id], (
        "one damaged lease does not hide the others"
    )


def test_a_reopened_store_reads_what_was_written(store: SqlStore, place: Path) -> None:
    store.put_lease(lease())
    digest = store.keyed_hash("token")
    store.close()
    again = open_store(f"sqlite:///{place}", KeyFileSeal(place.with_name("seal.key")), clock=SystemClock())
    assert again.lease(lease().lease_id) == lease()
    assert again.keyed_hash("token") == digest
    again.close()


def test_the_wrong_seal_is_named_when_the_store_is_opened(store: SqlStore, place: Path) -> None:
    store.close()
    other = KeyFileSeal(place.with_name("other.key"))
    other.wrap(b"x" * 32)
    with pytest.raises(SealError, match="put the original key file back"):
        open_store(place, other, clock=SystemClock())

    class Transit(KeyFileSeal):
        name = "transit"

    with pytest.raises(SealError, match="closed by the seal 'keyfile', the settings name 'transit'"):
        open_store(place, Transit(place.with_name("seal.key")), clock=SystemClock())


def test_a_new_database_does_not_appear_when_its_key_cannot_be_wrapped(tmp_path: Path) -> None:
    (tmp_path / "seal.key").write_text("no key")
    (tmp_path / "seal.key").chmod(0o600)
    for _ in range(2):
        with pytest.raises(SealError):
            open_store(tmp_path / "aikeys.db", KeyFileSeal(tmp_path / "seal.key"), clock=SystemClock())
    (tmp_path / "seal.key").unlink()
    open_store(tmp_path / "aikeys.db", KeyFileSeal(tmp_path / "seal.key"), clock=SystemClock()).close()


def test_an_unknown_kind_of_storage_is_a_setting_to_correct(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="mysql"):
        open_store("mysql://host/db", KeyFileSeal(tmp_path / "k"), clock=SystemClock())
