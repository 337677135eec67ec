"""One world before each product, for all tests in here: use tokens of your own. And watches, each with a mount of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.token_deaths.watch import Watch, Watches
from tests.integration.token_deaths.world import World, run
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.server import Server
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


@pytest.fixture
def watches(tmp_path: Path) -> Iterator[Watches]:
    made = Watches(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["openbao", "vault"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def watch(watches: Watches, server: Server) -> Watch:
    made = watches.at(server)
    made.sweep.start()
    return made
