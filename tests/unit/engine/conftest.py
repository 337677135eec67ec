from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.engine.world import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """The engine on a mount without a config."""
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def ready(world: World) -> World:
    """The engine with a config and the role `demo` (ttl 60 s, max_ttl 180 s)."""
    world.configure()
    world.write("roles/demo", ttl="1m", max_ttl="3m", allowed_models="gpt-4.1,gpt-4.1-mini")
    world.books.calls.clear()
    return world
