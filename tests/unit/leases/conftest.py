from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.leases.engine import MOUNT, OTHER, TestClock, World

from aikeys.framework.clock import SystemClock
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.storage import SqlStore, open_store
from aikeys.storage.failpoints import arm
from aikeys.storage.records import MountRecord


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """A store with the mounts `ai-keys/` and `other/`."""
    opened = open_store(tmp_path / "aikeys.db", KeyFileSeal(tmp_path / "seal.key"), clock=SystemClock())
    for mount in (MOUNT, OTHER):
        opened.put_mount(
            MountRecord(mount.uuid, mount.path, mount.accessor, mount.instance, 3600, 7200, mount.marker_key)
        )
    yield opened
    arm("")
    opened.close()


@pytest.fixture
def world(store: SqlStore) -> World:
    """Leases under a clock that stands still."""
    return World.make(store, TestClock())
