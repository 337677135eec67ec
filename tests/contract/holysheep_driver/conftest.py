from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.contract.holysheep_driver.bench import Bench

from aikeys.redaction import SecretString
from aikeys.relay_simulator.control import SimulatorControl
from aikeys.relay_simulator.process import RelaySimulatorProcess
from aikeys.relays.interface import RelayConfig
from aikeys.relays.registry import make_driver


@pytest.fixture(scope="module")
def process() -> Iterator[RelaySimulatorProcess]:
    with RelaySimulatorProcess(signing_secret="hs-sign-" + "s" * 43) as process:
        yield process


@pytest.fixture
def bench(process: RelaySimulatorProcess) -> Iterator[Bench]:
    with SimulatorControl(process.address) as control:
        control.reset()
        control.settings(management_signature_required=False)
        config = RelayConfig("holysheep", process.base_url, SecretString(process.management_key))
        driver = make_driver(config)
        yield Bench(process, control, driver)
        driver.close()
