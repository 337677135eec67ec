"""Session fixtures of the real parts: each starts when the first test asks for it and is gone after the last."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from tests.realparts.chromium import chromium as start_chromium
from tests.realparts.containers import OpenBaoContainer, VaultContainer
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.postgres import PostgresProcess
from tests.realparts.vault import VaultProcess


@pytest.fixture(scope="session")
def parts_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the session's parts keep their logs and data."""
    return tmp_path_factory.mktemp("parts")


@pytest.fixture(scope="session")
def openbao(parts_folder: Path) -> Iterator[OpenBaoProcess]:
    """One OpenBao in dev mode for the whole session: use mounts and policies of your own names."""
    with OpenBaoProcess(parts_folder / "openbao") as server:
        yield server


@pytest.fixture(scope="session")
def vault(parts_folder: Path) -> Iterator[VaultProcess]:
    """One HashiCorp Vault in dev mode for the whole session: use mounts and policies of your own names."""
    with VaultProcess(parts_folder / "vault") as server:
        yield server


@pytest.fixture(scope="session")
def openbao_container(parts_folder: Path) -> Iterator[OpenBaoContainer]:
    """One OpenBao in dev mode in a container, for the whole session."""
    with OpenBaoContainer(parts_folder / "openbao-container") as server:
        yield server


@pytest.fixture(scope="session")
def vault_container(parts_folder: Path) -> Iterator[VaultContainer]:
    """One HashiCorp Vault in dev mode in a container, for the whole session."""
    with VaultContainer(parts_folder / "vault-container") as server:
        yield server


@pytest.fixture(scope="session")
def postgres(parts_folder: Path) -> Iterator[PostgresProcess]:
    """One PostgreSQL for the whole session: make databases and roles of your own names."""
    with PostgresProcess(parts_folder / "postgres") as server:
        yield server


@pytest.fixture(scope="session")
def chromium(parts_folder: Path) -> Iterator[webdriver.Chrome]:
    """One browser for the whole session; it keeps what each page stored, by the page's origin."""
    with start_chromium(parts_folder / "chromium") as browser:
        yield browser
