"""One such world before each product, for all tests in here: use tokens of your own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.token_deaths.world import World, run
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.vault import VaultProcess

PRODUCTS = {"openbao": OpenBaoProcess, "vault": VaultProcess}


@pytest.fixture(scope="session", params=sorted(PRODUCTS))
def shared_world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp(f"token-deaths-{request.param}")
    with run(PRODUCTS[request.param](folder / "server", storage="raft"), folder / "sidecar") as world:
        yield world


@pytest.fixture
def world(shared_world: World) -> Iterator[World]:
    yield shared_world
    shared_world.proxy.behave()
