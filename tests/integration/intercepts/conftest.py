"""One sidecar before each product, for all tests in here; each test has mounts of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.intercepts.stand import Stand
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.vault import VaultProcess

PRODUCTS = {"openbao": OpenBaoProcess, "vault": VaultProcess}


@pytest.fixture(scope="session", params=sorted(PRODUCTS))
def product_stand(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stand]:
    folder = tmp_path_factory.mktemp(f"intercepts-{request.param}")
    with PRODUCTS[request.param](folder / "server") as server, Stand(server, folder / "sidecar") as running:
        yield running


@pytest.fixture
def stand(product_stand: Stand) -> Iterator[Stand]:
    yield product_stand
    product_stand.clean()
