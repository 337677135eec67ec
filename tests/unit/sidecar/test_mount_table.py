"""A path belongs to the mount it lies below; what one process changes every other one sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from aikeys.framework.clock import SystemClock
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.sidecar.mount_table import MountTable
from aikeys.sidecar.routing import Owner, route
from aikeys.storage import SqlStore, open_store


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[SqlStore, SqlStore]]:
    """One database, opened as by two processes."""
    seal = KeyFileSeal(tmp_path / "key")
    opened = [open_store(tmp_path / "aikeys.db", seal, clock=SystemClock()) for _ in range(2)]
    yield opened[0], opened[1]
    for store in opened:
        store.close()


def add(table: MountTable, path: str, uuid: str = "") -> None:
    table.add(path=path, uuid=uuid or path, accessor="kv_1", default_lease_ttl=60, max_lease_ttl=120)


def test_a_path_matches_the_mount_it_lies_below(stores: tuple[SqlStore, SqlStore]) -> None:
    table = MountTable(stores[0])
    assert table.match("ai-keys/creds/x") is None
    add(table, "ai-keys")
    add(table, "nested/ai/keys/")
    for path, mount, rest in (
        ("ai-keys/creds/x", "ai-keys/", "creds/x"),
        ("ai-keys/", "ai-keys/", ""),
        ("ai-keys", "ai-keys/", ""),
        ("nested/ai/keys/roles/", "nested/ai/keys/", "roles/"),
    ):
        found = table.match(path)
        assert found is not None
        assert (found[0].path, found[1]) == (mount, rest)
    for path in (
        "AI-KEYS/creds/x",
        "ai-keysx/creds",
        "ai-key",
        "nested/ai",
        "nested/ai/keysx",
        "",
        "/ai-keys/x",
        "/",
    ):
        assert table.match(path) is None, path
    assert table.match("ai-keys/creds/x", "other") is None


def test_a_mount_that_was_set_aside_is_never_reached(stores: tuple[SqlStore, SqlStore]) -> None:
    table = MountTable(stores[0])
    add(table, "//gone/uuid")
    assert table.match("//gone/uuid/creds/x") is None


def test_a_change_is_seen_by_every_process_at_once(stores: tuple[SqlStore, SqlStore]) -> None:
    here, there = MountTable(stores[0]), MountTable(stores[1])
    assert there.match("ai-keys/creds/x") is None
    add(here, "ai-keys", "u")
    found = there.match("ai-keys/creds/x")
    assert found is not None
    assert found[0] == here.by_uuid("u")
    assert len(found[0].marker_key) == 64
    assert len(found[0].instance) == 8

    there.move("u", "moved")
    assert here.match("ai-keys/creds/x") is None
    moved = here.match("moved/creds/x")
    assert moved is not None
    assert moved[0].marker_key == found[0].marker_key
    here.update("u", max_lease_ttl=30, tainted=True)
    assert (there.by_uuid("u").max_lease_ttl, there.by_uuid("u").tainted) == (30, True)
    here.remove("u")
    assert there.all() == []
    with pytest.raises(KeyError):
        there.by_uuid("u")
    with pytest.raises(KeyError):
        there.update("u", tainted=False)


def test_whose_a_path_is_depends_on_mount_verb_and_namespace(stores: tuple[SqlStore, SqlStore]) -> None:
    table = MountTable(stores[0])
    add(table, "ai-keys")
    for path, method, namespace, owner in (
        ("ai-keys/creds/x", "GET", "", Owner.ENGINE),
        ("ai-keys/creds/x", "FOO", "", Owner.ENGINE),
        ("ai-keys/creds/x", "HEAD", "", Owner.PASS),
        ("ai-keys/creds/x", "OPTIONS", "", Owner.PASS),
        ("ai-keys/creds/x", "GET", "apart", Owner.PASS),
        ("secret/x", "GET", "", Owner.PASS),
    ):
        assert route(path, method, table, [], namespace).owner is owner, (path, method, namespace)
