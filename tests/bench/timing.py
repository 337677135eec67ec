"""Where the time goes: the steps of a request, and what their stop-watches (``timed/sitecustomize.py``) say."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.bench.figures import NoResult

TIMER_FOLDER = Path(__file__).with_name("timed")
#: The workers write four times a second: after this long their files hold what happened before.
SETTLE_SECONDS = 0.6

#: Steps by the function that does them: module, function, name. The first is a whole request; each counts
#: without the steps it calls. A function of a class is timed wherever it is called, a function of a module where that
#: module itself looks it up.
STEPS: Sequence[tuple[str, str, str]] = (
    ("gunicorn.workers.gthread", "ThreadWorker.handle", "gunicorn: read the request, send the answer"),
    ("aikeys.sidecar.wsgi", "Front.__call__", "sidecar: path, whose it is, body"),
    ("aikeys.sidecar.passthrough", "Passthrough.__call__", "pass on: headers both ways"),
    ("aikeys.sidecar.upstream", "Upstream.stream", "pass on: ask OpenBao"),
    ("flask", "Flask.wsgi_app", "Flask: dispatch, response"),
    ("aikeys.sidecar.engine_paths", "handle", "sidecar: fields, envelope"),
    ("aikeys.sidecar.authorization", "prove", "proof: marker"),
    ("aikeys.sidecar.authorization", "_replay", "proof: replay at OpenBao"),
    ("aikeys.sidecar.identity", "Identity.lookup", "identity of the token (cached)"),
    ("aikeys.framework.backend", "Backend.handle", "engine: path and fields"),
    ("aikeys.engine.creds", "_Creds.issue", "engine: role, TTL, answer"),
    ("aikeys.minting.minter", "Minter.mint", "mint: the intent"),
    ("aikeys.storage.intents", "Intents.put_intent", "intent: to the database"),
    ("aikeys.relays.holysheep", "HolySheepDriver.mint", "relay: mint"),
    ("aikeys.leases.manager", "LeaseManager.register", "lease: the record"),
    ("aikeys.storage.leases", "Leases.complete_intent", "lease: to the database"),
    ("aikeys.storage.sqlite", "_SqliteTransactions.commit", ", commit"),
    ("aikeys.transport.connection", "Connection.send", ", send"),
    ("aikeys.transport.connection", "Connection._wait_readable", ", wait"),
)


@dataclass(frozen=True, slots=True)
class Spent:
    """Seconds, and how often the step was done."""

    calls: float = 0
    cpu: float = 0.0
    wall: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.calls + other.calls, self.cpu + other.cpu, self.wall + other.wall)

    def __sub__(self, other: Spent) -> Spent:
        return Spent(self.calls - other.calls, self.cpu - other.cpu, self.wall - other.wall)

    def per(self, count: int) -> Spent:
        return Spent(self.calls / count, self.cpu / count, self.wall / count)


Times = Mapping[str, Spent]


def environment(folder: Path) -> dict[str, str]:
    """What makes the workers of ``aikeys serve`` write their times into ``folder``."""
    return {
        "PYTHONPATH": str(TIMER_FOLDER),
        "BENCH_TIMES": str(folder),
        "BENCH_STEPS": json.dumps(STEPS),
    }


def read(folder: Path) -> Times:
    """All workers' times so far, added up. :class:`NoResult` when a step is not where the table says."""
    for file in folder.glob("*.error"):
        raise NoResult(f"the table of steps is out of date: {file.read_text().strip()}")
    total: dict[str, Spent] = {}
    for file in sorted(folder.glob("*.json")):
        for step, (calls, cpu, wall) in json.loads(file.read_text()).items():
            total[step] = total.get(step, Spent()) + Spent(calls, cpu / 1e9, wall / 1e9)
    return total


def read_settled(folder: Path) -> Times:
    """All times up to now."""
    time.sleep(SETTLE_SECONDS)
    return read(folder)


def between(before: Times, after: Times) -> Times:
    return {step: spent - before.get(step, Spent()) for step, spent in after.items()}


def total(times: Times) -> Spent:
    return sum(times.values(), Spent())


def in_order(times: Times) -> list[str]:
    """The steps that took part, in the order of the table; a step's ", wait" comes behind it."""
    names = [name for _, _, name in STEPS]
    tails = [name for name in names if name.startswith(",")]

    def place(step: str) -> tuple[int, int]:
        tail = next((tail for tail in tails if step.endswith(tail)), "")
        return names.index(step.removesuffix(tail)), tails.index(tail) if tail else -1

    return sorted((step for step, spent in times.items() if spent.calls), key=place)
