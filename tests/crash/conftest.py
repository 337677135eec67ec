from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.crash.engine import Engine, Place

from aikeys.relay_simulator.control import SimulatorControl
from aikeys.relay_simulator.process import RelaySimulatorProcess
from aikeys.storage.failpoints import VARIABLE

_numbers = itertools.count()
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


@pytest.fixture(scope="module")
def relay() -> Iterator[RelaySimulatorProcess]:
    with RelaySimulatorProcess(max_live_keys=0) as process:
        yield process


@pytest.fixture
def control(relay: RelaySimulatorProcess) -> Iterator[SimulatorControl]:
    with SimulatorControl(relay.address) as made:
        made.clear_faults()
        yield made
        made.clear_faults()


@pytest.fixture
def place(tmp_path: Path, relay: RelaySimulatorProcess) -> Place:
    """A new engine's folder, with the mount, its config and its roles in it."""
    number = next(_numbers)
    instance = "crash" + "".join(_ALPHABET[number >> shift & 31] for shift in (10, 5, 0))
    made = Place(tmp_path / "data", relay.base_url, relay.management_key, instance)
    engine = Engine(made)
    engine.set_up()
    engine.close()
    return made


Start = Callable[..., subprocess.Popen[str]]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def start(place: Place) -> Start:
    """Starts a worker on the place, with fail points armed."""

    def begin(points: str, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "tests.crash.worker",
                f"--folder={place.folder}",
                f"--base-url={place.base_url}",
                f"--management-key={place.management_key}",
                f"--instance={place.instance}",
                *options,
            ],
            env=os.environ | {VARIABLE: points},
            cwd=Path(__file__).parents[2],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return begin


@pytest.fixture
def run(start: Start) -> Run:
    """The same, to its end: how it ended and what it said."""

    def work(points: str, *options: str) -> subprocess.CompletedProcess[str]:
        with start(points, *options) as process:
            try:
                said, complained = process.communicate(timeout=90)
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(process.args, process.returncode, said, complained)

    return work
