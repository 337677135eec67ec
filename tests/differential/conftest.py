"""The worlds, once for each product: two servers of it, one PostgreSQL, one sidecar with its relay."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.differential.driver import set_up
from tests.differential.pair import Pair
from tests.differential.worlds import Ours, Reference
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.postgres import PostgresProcess
from tests.realparts.vault import VaultProcess
from tests.sidecar_stack import SidecarStack

from aikeys.dev.provision import MORE_POLICY, dev_folder

#: So that no example waits for long: for a token that was revoked past the sidecar, and after a failed revocation.
SETTINGS = {
    "AIKEYS_TOKEN_SWEEP_INTERVAL": "3",
    "AIKEYS_REVOCATION_RETRY_BASE": "0.5",
    "AIKEYS_RELAY_PROBE_INTERVAL": "1",
}
PRODUCTS = {"openbao": OpenBaoProcess, "vault": VaultProcess}


def run_pair(product: str, folder: Path, postgres: PostgresProcess) -> Iterator[Pair]:
    kind = PRODUCTS[product]
    with (
        kind(folder / "reference", log_level="warn") as reference,
        kind(folder / "upstream", log_level="warn") as upstream,
        SidecarStack(upstream, folder / "sidecar", settings=SETTINGS) as stack,
    ):
        # The mounts of `worlds.fresh_path`, which the stack does not know of, are those that development allows.
        allowed = dev_folder().policy(MORE_POLICY)
        assert allowed is not None
        upstream.request("PUT", f"sys/policies/acl/{MORE_POLICY}", {"policy": allowed.text})
        pair = Pair(product, Reference(reference, postgres), Ours(stack))
        set_up(pair)
        yield pair
        pair.close()


@pytest.fixture(scope="session")
def openbao_pair(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresProcess) -> Iterator[Pair]:
    yield from run_pair("openbao", tmp_path_factory.mktemp("differential-openbao"), postgres)


@pytest.fixture(scope="session")
def vault_pair(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresProcess) -> Iterator[Pair]:
    yield from run_pair("vault", tmp_path_factory.mktemp("differential-vault"), postgres)


@pytest.fixture(params=["openbao", "vault"], scope="session")
def pair(request: pytest.FixtureRequest) -> Pair:
    found = request.getfixturevalue(f"{request.param}_pair")
    assert isinstance(found, Pair)
    return found
