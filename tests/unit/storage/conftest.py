from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.storage.samples import mount

from aikeys.framework.clock import SystemClock
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.storage import SqlStore, open_store


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Where the database lies; its seal key beside it."""
    return tmp_path / "data" / "aikeys.db"


@pytest.fixture
def store(place: Path) -> Iterator[SqlStore]:
    """An open store with the mount `ai-keys/`."""
    opened = open_store(place, KeyFileSeal(place.with_name("seal.key")), clock=SystemClock())
    opened.put_mount(mount())
    yield opened
    opened.close()
