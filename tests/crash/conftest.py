from __future__ import annotations

import itertools
import os
import queue
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.crash.children import Child
from tests.crash.engine import QUICK_LEASES, QUICK_MINT, Engine, Place
from tests.crash.worker import work

from aikeys.leases.settings import LeaseSettings
from aikeys.minting.bounds import MintBounds
from aikeys.relay_simulator.control import SimulatorControl
from aikeys.relay_simulator.process import RelaySimulatorProcess

#: Issuances that `make crash` asks for; the tests of every day do one round.
ISSUANCES = int(os.environ.get("AIKEYS_CRASH_ISSUANCES", "0"))
# Most of a run is waiting for what a dead process had claimed, so this many go on at once.
AT_ONCE = 6
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"


class Relays:
    """Relay simulators: one that all share, and some that one run has for itself, to be made to fail."""

    def __init__(self, own: int) -> None:
        self._stack = ExitStack()
        with ThreadPoolExecutor(own + 1) as pool:
            made = [RelaySimulatorProcess(max_live_keys=0) for _ in range(own + 1)]
            list(pool.map(RelaySimulatorProcess.start, made))
        for relay in made:
            self._stack.callback(relay.stop)
        self.shared = made[0]
        self._free: queue.SimpleQueue[RelaySimulatorProcess] = queue.SimpleQueue()
        for relay in made[1:]:
            self._free.put(relay)

    @contextmanager
    def take(self, *, alone: bool) -> Iterator[RelaySimulatorProcess]:
        if not alone:
            yield self.shared
            return
        relay = self._free.get()
        try:
            yield relay
        finally:
            with SimulatorControl(relay.address) as control:
                control.clear_faults()
            self._free.put(relay)

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def relays() -> Iterator[Relays]:
    made = Relays(own=3)
    yield made
    made.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(AT_ONCE) as made:
        yield made


@pytest.fixture
def relay(relays: Relays) -> Iterator[RelaySimulatorProcess]:
    with relays.take(alone=True) as taken:
        yield taken


@pytest.fixture
def control(relay: RelaySimulatorProcess) -> Iterator[SimulatorControl]:
    with SimulatorControl(relay.address) as made:
        yield made


@dataclass
class Places:
    """New engines' folders, with the mount, its config and its roles in them."""

    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def new(self, relay: RelaySimulatorProcess) -> Place:
        number = next(self._numbers)
        instance = "crash" + "".join(_ALPHABET[number >> shift & 31] for shift in (10, 5, 0))
        place = Place(self.folder / f"{number}" / "data", relay.base_url, relay.management_key, instance)
        engine = Engine(place)
        engine.set_up()
        engine.close()
        return place


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    return Places(tmp_path_factory.mktemp("places"))


@pytest.fixture
def place(places: Places, relay: RelaySimulatorProcess) -> Place:
    return places.new(relay)


Start = Callable[..., Child]


def start_worker(
    place: Place,
    points: str,
    *,
    mint: MintBounds = QUICK_MINT,
    leases: LeaseSettings = QUICK_LEASES,
    threads: int = 8,
    count: int = 12,
    stay: float = 4.0,
) -> Child:
    """A process that issues, renews and revokes on the place, with fail points armed."""
    return Child(
        work, place, mint, leases, threads, count, stay, points=points, said=_free_name(place.folder.parent)
    )


def _free_name(folder: Path) -> Path:
    return next(path for number in itertools.count() if not (path := folder / f"said-{number}").exists())
