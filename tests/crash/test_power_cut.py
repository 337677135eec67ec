"""The power fails: what was not synced is gone, or half there, or out of order. What was promised is there.

A process is recorded with all that it wrote, synced, said and sent (`recording`), and killed. Then for many moments of
its life the states are made in which a disk could be found after a power cut at that moment (`disk`), and opened. For
the last moment the relay is as it was, so there a new process goes on, and the simulator's books are the judge.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.crash.books import Promises, check, recover
from tests.crash.conftest import ISSUANCES, Places, Relays
from tests.crash.disk import ANY, NOTHING, WAYS, Disk, fingerprint, write_down
from tests.crash.engine import Engine, Place
from tests.crash.recording import Event, record

from aikeys.framework.clock import SystemClock
from aikeys.relay_simulator.control import SimulatorControl
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.storage import open_store
from aikeys.storage.failpoints import VARIABLE
from aikeys.storage.records import LeaseRecord, LeaseState

# Many cuts take their time: `make crash` has no bound.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(0 if ISSUANCES else 300)]

CUTS = 400 if ISSUANCES else 30
LIVES = 20 if ISSUANCES else 1

_ORDER = re.compile(rb'POST /v1/keys HTTP.*"name": ?"(vlt-[a-z2-7]+-[a-z2-7]+)"', re.DOTALL)
_END = re.compile(rb"DELETE /v1/keys/(\w+)[ ?]")


@dataclass
class Told:
    """What the process had told others by a moment."""

    said: str = ""
    orders: set[str] = field(default_factory=set)
    ends: set[str] = field(default_factory=set)

    def note(self, event: Event) -> None:
        if event.kind == "said":
            self.said += event.data.decode()
        elif event.kind == "sent":
            self.orders |= {name.decode() for name in _ORDER.findall(event.data)}
            self.ends |= {key.decode() for key in _END.findall(event.data)}


@dataclass(frozen=True)
class Life:
    """One recorded life: where it was, what was there before it, what it did, and the relay's keys at its end."""

    place: Place
    disk: Callable[[], Disk]
    events: list[Event]
    keys: Mapping[str, dict[str, Any]]


def live(place: Place, relay: Any, folder: Path, points: str, **more: str) -> tuple[int, Life]:
    """Record a worker on the place until its end."""
    before = folder / "before"
    before.mkdir(parents=True)
    for path in place.folder.iterdir():
        (before / path.name).write_bytes(path.read_bytes())
    arguments = {"folder": str(place.folder), "base_url": place.base_url, "instance": place.instance}
    arguments |= {"management_key": place.management_key, **more}
    command = [sys.executable, "-m", "tests.crash.recorded", "life", json.dumps(arguments)]
    status, events = record(
        command, place.folder, log=folder / "log", environment=os.environ | {VARIABLE: points}
    )
    with SimulatorControl(relay.address) as control:
        keys = {str(key["name"]): key for key in control.keys(f"vlt-{place.instance}-")}
    return status, Life(place, lambda: Disk(before, known_as=place.folder), events, keys)


def in_order(events: list[Event]) -> list[Event]:
    """A sync counts when it has ended, all else when it begins."""
    return sorted(events, key=lambda event: event.ended if event.kind == "sync" else event.began)


def moments(life: Life, chance: random.Random, count: int) -> Iterator[tuple[Disk, Told]]:
    """The disk and what had been told, at `count` moments and at the end."""
    cuts = sorted(chance.sample(range(1, len(life.events)), min(count, len(life.events) - 1)))
    disk, told = life.disk(), Told()
    for number, event in enumerate(in_order(life.events)):
        if cuts and number == cuts[0]:
            cuts.pop(0)
            yield disk, told
        if event.kind in {"said", "sent"}:
            told.note(event)
        else:
            disk.apply(event)
    yield disk, told


@dataclass(frozen=True)
class Found:
    """What stands in a database that was found and opened."""

    mounts: int
    leases: Mapping[str, LeaseRecord]
    intents: frozenset[str]


class Finder:
    """Opens what is found. Each state once: many moments leave the same."""

    def __init__(self, folder: Path, database: str = "aikeys.db", key: str = "seal.key") -> None:
        self._folder = folder
        self._database = database
        self._key = key
        self._seen: dict[bytes, Found] = {}

    def open(self, state: Mapping[str, bytes | None]) -> Found:
        mark = fingerprint(state)
        if mark not in self._seen:
            place = self._folder / f"found-{len(self._seen)}"
            write_down(state, place)
            store = open_store(place / self._database, KeyFileSeal(place / self._key), clock=SystemClock())
            leases = {lease.lease_id: lease for lease in store.leases_with_prefix("", limit=100_000)}
            names = frozenset(intent.name for intent in store.intents())
            self._seen[mark] = Found(len(store.mounts()), leases, names)
            store.close()
            shutil.rmtree(place)
        return self._seen[mark]

    @property
    def states(self) -> int:
        return len(self._seen)


def broken_promises(found: Found, told: Told, keys: Mapping[str, dict[str, Any]]) -> list[str]:
    """What was promised and is not on this disk."""
    leases = found.leases
    names = {str(lease.internal["ref"]["name"]) for lease in leases.values()} | found.intents
    problems = [
        f"a key was asked for that is not on record: {name}"
        for name in told.orders & keys.keys() - names
        if keys[name]["id"] not in told.ends
    ]
    promises = Promises.parse(told.said)
    lost = promises.keys.keys() - promises.ending - promises.ended - leases.keys()
    problems += [f"a lease was handed out and is lost: {lease_id}" for lease_id in lost]
    for lease in leases.values():
        if lease.state is not LeaseState.ACTIVE:
            continue
        if lease.internal["ref"]["key_id"] in told.ends:
            problems.append(f"the relay was asked to end the key of an active lease: {lease.lease_id}")
        if lease.lease_id in promises.ended and "/short/" not in lease.lease_id:
            problems.append(f"a revocation was confirmed and is lost: {lease.lease_id}")
    return problems


@pytest.mark.parametrize("number", range(LIVES))
def test_after_a_power_cut_at_any_moment_all_that_was_promised_is_there(
    number: int, places: Places, relays: Relays, tmp_path: Path
) -> None:
    chance = random.Random(number)
    with relays.take(alone=True) as relay, SimulatorControl(relay.address) as control:
        place = places.new(relay)
        points = f"store.after_commit=kill:{chance.randint(20, 40)}"
        status, life = live(place, relay, tmp_path, points)
        assert status == -signal.SIGKILL
        finder = Finder(tmp_path)
        for disk, told in moments(life, chance, CUTS):
            for way in WAYS:
                found = finder.open(disk.found(way, chance))
                assert broken_promises(found, told, life.keys) == [], way
        assert told.orders, "nothing was asked of the relay"
        assert "issued" in told.said
        assert finder.states > CUTS
        assert sum(event.kind == "sync" for event in life.events) > 20
        # And on from the last moment, with the worst that can be found then.
        write_down(disk.found(ANY, chance), tmp_path / "last")
        engine = Engine(Place(tmp_path / "last", place.base_url, place.management_key, place.instance))
        try:
            recover(engine, within=30)
            check(engine.store, control, [place.instance], Promises.parse(told.said))
        finally:
            engine.close()


def test_without_syncs_the_same_judge_finds_what_is_lost(
    places: Places, relays: Relays, tmp_path: Path
) -> None:
    """The recording and the disk themselves: a database that does not sync breaks its promises."""
    chance = random.Random(1)
    with relays.take(alone=True) as relay:
        status, life = live(
            places.new(relay), relay, tmp_path, "store.after_commit=kill:25", pragma="PRAGMA synchronous=OFF"
        )
    assert status == -signal.SIGKILL
    finder, problems = Finder(tmp_path), list[str]()
    for disk, told in moments(life, chance, 20):
        problems += broken_promises(finder.open(disk.found(NOTHING, chance)), told, life.keys)
    assert any("asked for" in problem for problem in problems)
    assert any("handed out" in problem for problem in problems)


@pytest.mark.parametrize(
    ("database", "key"),
    [("data/aikeys.db", "data/aikeys.key"), ("var/lib/aikeys/aikeys.db", "etc/aikeys/keys/seal.key")],
    ids=["together", "apart"],
)
def test_a_first_start_may_be_cut_off_anywhere(database: str, key: str, tmp_path: Path) -> None:
    """The data folder, the key file and the tables come to be; whatever is found of them, a start makes the rest."""
    root = tmp_path / "root"
    root.mkdir()
    disk = Disk(root)
    arguments = {"database": str(root / database), "key": str(root / key)}
    command = [sys.executable, "-m", "tests.crash.recorded", "first_start", json.dumps(arguments)]
    status, events = record(command, root, log=tmp_path / "log", environment=dict(os.environ))
    assert status == 0
    chance, said, finder = random.Random(7), "", Finder(tmp_path, database, key)
    for event in in_order(events):
        if event.kind == "said":
            said += event.data.decode()
        elif event.kind != "sent":
            disk.apply(event)
        # Pages of one file are many and alike; each of the other steps is looked at in every way.
        if event.kind == "write" and event.path.endswith((".db", "-wal")) and chance.random() > 0.1:
            continue
        for way in WAYS:
            found = finder.open(disk.found(way, chance))
            stored = {line.split()[1] for line in said.splitlines() if line.startswith("stored")}
            assert stored <= found.leases.keys(), f"{way} after {event.kind} {event.path}"
            assert found.mounts or "mounted" not in said
    assert finder.states > 40
    assert said.count("stored") == 3
