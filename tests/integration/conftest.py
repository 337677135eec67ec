"""The sidecar in front of each server: each starts when the first test asks for it and is gone after the last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.realparts.containers import OpenBaoContainer, VaultContainer
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.vault import VaultProcess
from tests.sidecar_stack import SidecarStack

PROCESSES = ("openbao", "vault")
CONTAINERS = ("openbao-container", "vault-container")
UPSTREAMS = {
    "openbao": OpenBaoProcess,
    "vault": VaultProcess,
    "openbao-container": OpenBaoContainer,
    "vault-container": VaultContainer,
}


def run_stack(name: str, folder: Path) -> Iterator[SidecarStack]:
    with UPSTREAMS[name](folder / "upstream") as upstream, SidecarStack(upstream, folder) as stack:
        yield stack


@pytest.fixture(scope="session")
def stacks_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stacks")


@pytest.fixture(scope="session")
def openbao_stack(stacks_folder: Path) -> Iterator[SidecarStack]:
    """In front of an OpenBao of its own."""
    yield from run_stack("openbao", stacks_folder / "openbao")


@pytest.fixture(scope="session")
def vault_stack(stacks_folder: Path) -> Iterator[SidecarStack]:
    """In front of a HashiCorp Vault of its own."""
    yield from run_stack("vault", stacks_folder / "vault")


@pytest.fixture(scope="session")
def openbao_container_stack(stacks_folder: Path) -> Iterator[SidecarStack]:
    """In front of an OpenBao in a container."""
    yield from run_stack("openbao-container", stacks_folder / "openbao-container")


@pytest.fixture(scope="session")
def vault_container_stack(stacks_folder: Path) -> Iterator[SidecarStack]:
    """In front of a HashiCorp Vault in a container."""
    yield from run_stack("vault-container", stacks_folder / "vault-container")


def _stack(request: pytest.FixtureRequest) -> SidecarStack:
    found = request.getfixturevalue(f"{request.param.replace('-', '_')}_stack")
    assert isinstance(found, SidecarStack)
    # What an earlier test did to the relay is not this one's business.
    found.control.clear_faults()
    return found


@pytest.fixture(params=PROCESSES)
def stack(request: pytest.FixtureRequest) -> SidecarStack:
    """In front of both products, as processes. The whole session's: use names of your own."""
    return _stack(request)


@pytest.fixture(params=PROCESSES + CONTAINERS)
def every_stack(request: pytest.FixtureRequest) -> SidecarStack:
    """In front of both products, as processes and in containers."""
    return _stack(request)
