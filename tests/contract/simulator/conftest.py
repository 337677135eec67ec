"""One simulator process per module, as it was started before every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.simulator.helpers import Relay

from aikeys.relay_simulator.process import RelaySimulatorProcess


@pytest.fixture(scope="module")
def relay_process() -> Iterator[Relay]:
    """The process; tests use `relay`."""
    with RelaySimulatorProcess(second_node=True) as process:
        relay = Relay(process)
        yield relay
        relay.close()


@pytest.fixture
def relay(relay_process: Relay) -> Relay:
    """The relay with nothing in it."""
    relay_process.control.reset()
    return relay_process
