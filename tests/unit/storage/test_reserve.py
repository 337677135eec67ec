"""Room for the end of keys is given up on a full disk and comes back by itself; without it no intent is stored."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.storage.samples import intent, lease, mount
from tests.unit.storage.test_database_file import _limit_pages

from aikeys.errors import DiskFull
from aikeys.framework.clock import SystemClock
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.storage import SqlStore, open_store
from aikeys.storage.reserve import Reserve

SIZE = 1024 * 1024


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[SqlStore]:
    """A store with a reserve."""
    made = open_store(
        tmp_path / "aikeys.db", KeyFileSeal(tmp_path / "seal.key"), clock=SystemClock(), reserve=SIZE
    )
    made.put_mount(mount())
    yield made
    made.close()


def blocks(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_it_takes_its_room_before_the_first_intent(kept: SqlStore, tmp_path: Path) -> None:
    file = tmp_path / "aikeys.db.reserve"
    assert not file.exists()
    kept.put_intent(intent(1))
    assert blocks(file) >= SIZE, "room, not a hole"
    assert file.stat().st_mode & 0o777 == 0o600


def test_on_a_full_disk_it_is_given_up_for_all_but_intents(kept: SqlStore, tmp_path: Path) -> None:
    kept.put_intent(intent(1))
    file = tmp_path / "aikeys.db.reserve"
    _limit_pages(kept, tmp_path / "aikeys.db", spare=0)
    with pytest.raises(DiskFull, match="no space left"):
        kept.put_intent(intent(2, order={"much": "x" * 40_000}))
    assert file.exists(), "it is not for new keys"
    with pytest.raises(DiskFull, match="no space left"):
        kept.put_lease(lease(1, internal={"much": "x" * 40_000}))
    assert not file.exists(), "given up, and the lease tried once more"


def test_it_comes_back_when_there_is_room_for_it_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = Reserve(tmp_path / "aikeys.db", SIZE)
    reserve.require()
    assert reserve.give_up()
    free = 2 * SIZE - 4096
    real = os.statvfs

    def scarce(path: Path) -> os.statvfs_result:
        found = list(real(path))
        found[0], found[1], found[4] = 4096, 4096, free // 4096
        return os.statvfs_result(found)

    monkeypatch.setattr(os, "statvfs", scarce)
    for _ in range(2):
        with pytest.raises(DiskFull, match=r"free 2 MiB there; until then no key is made"):
            reserve.require()
    free = 2 * SIZE
    end = time.monotonic() + 10
    while not reserve.path.exists():
        assert time.monotonic() < end, "asking again and again must not put off the next look"
        try:
            reserve.require()
        except DiskFull:
            time.sleep(0.05)


def test_a_store_without_one_asks_nothing_of_the_disk(store: SqlStore, place: Path) -> None:
    store.put_intent(intent(1))
    assert not list(place.parent.glob("*.reserve"))
