from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.faults.bench import SETTINGS, Bench
from tests.faults.upstream_bench import SETTINGS as IMPATIENT
from tests.faults.upstream_bench import UpstreamBench
from tests.integration.faulty_proxy import FaultyProxy
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


@pytest.fixture(scope="module")
def running_upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpstreamBench]:
    folder = tmp_path_factory.mktemp("upstream")
    with OpenBaoProcess(folder / "server", storage="raft") as server, FaultyProxy(server.address) as proxy:
        settings = {**IMPATIENT, "AIKEYS_UPSTREAM_ADDR": proxy.address}
        with SidecarStack(server, folder, settings=settings) as stack:
            yield UpstreamBench(stack, proxy)


@pytest.fixture
def upstream(running_upstream: UpstreamBench) -> Iterator[UpstreamBench]:
    """One for each module, and well again after each test."""
    yield running_upstream
    running_upstream.proxy.behave()
    running_upstream.forget_other()
