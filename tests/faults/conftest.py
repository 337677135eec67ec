from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.faults.bench import SETTINGS, Bench
from tests.realparts.openbao import OpenBaoProcess
from tests.sidecar_stack import SidecarStack


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """One for each module: they run beside one another."""
    folder = tmp_path_factory.mktemp("faults")
    with (
        OpenBaoProcess(folder / "upstream") as server,
        SidecarStack(server, folder, settings=SETTINGS) as stack,
    ):
        yield Bench(stack)
