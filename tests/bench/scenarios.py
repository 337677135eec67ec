"""The runs: each contender in turn, round after round, and the CPU of every process meanwhile."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench import load, processes, timing
from tests.bench.figures import Result, Round
from tests.bench.load import Call
from tests.bench.many import Many, measure_many
from tests.bench.ours import Ours
from tests.bench.peers import BaoDaemon, DatabaseEngine
from tests.bench.processes import Memory
from tests.bench.timing import Times

CLIENTS = (1, 50)
WARM_UP_SECONDS = 1
#: More than PostgreSQL can use here: OpenBao's default of 4 was measured to be slower, and the peer gets its best.
DATABASE_CONNECTIONS = 50
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody to measure: what to send it and whose CPU to count, by name."""

    name: str
    call: Callable[[], Call]
    processes: Mapping[str, int]


#: Results by number of clients, then by contender.
Results = dict[int, dict[str, Result]]


@dataclass(slots=True)
class Measured:
    """All that one run of the bench found; what was left out is empty."""

    seconds: float
    rounds: int
    issue: Results = field(default_factory=dict)
    pass_through: Results = field(default_factory=dict)
    memory_idle: dict[str, Memory] = field(default_factory=dict)
    memory_loaded: dict[str, Memory] = field(default_factory=dict)
    leases: int = 0
    many: Many | None = None
    others: float = 0.0
    """Part of the machine's processors that programs outside of this run used meanwhile, 0 to 1."""
    issue_times: Mapping[int, Timed] = field(default_factory=dict)
    pass_times: Mapping[int, Timed] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Timed:
    """A timed run: how many requests, the CPU seconds of the whole sidecar, and of the steps."""

    requests: int
    cpu_seconds: float
    times: Times


def measure(
    contenders: Sequence[Contender], *, clients: int, seconds: float, rounds: int, say: Say
) -> dict[str, Result]:
    """Each contender once per round, in the order given, after one unmeasured run of each."""
    found: dict[str, list[Round]] = {contender.name: [] for contender in contenders}
    for contender in contenders:
        load.run(contender.call(), clients=clients, seconds=WARM_UP_SECONDS).checked(contender.name)
    for number in range(rounds):
        for contender in contenders:
            before = {name: processes.cpu_seconds(pid) for name, pid in contender.processes.items()}
            seen = load.run(contender.call(), clients=clients, seconds=seconds).checked(contender.name)
            spent = {
                name: processes.cpu_seconds(pid) - before[name] for name, pid in contender.processes.items()
            }
            found[contender.name].append(Round(seen, spent))
            say(
                f"  {clients:>2} clients, round {number + 1}: {contender.name:<18} {seen.rate:8.0f}/s"
                f"  p50 {seen.latency_ms[50]:7.2f} ms  p99 {seen.latency_ms[99]:7.2f} ms"
            )
    return {name: Result(name, tuple(each)) for name, each in found.items()}


def measure_all(only: frozenset[str], *, seconds: float, rounds: int, folder: Path, say: Say) -> Measured:
    """``only`` names some of ``issue``, ``pass``, ``many`` and ``profile``."""
    measured = Measured(seconds, rounds)
    began = time.monotonic()
    busy, own = processes.busy_seconds(), processes.cpu_seconds(os.getpid())
    if only & {"issue", "pass"}:
        with ExitStack() as stack:
            ours = stack.enter_context(Ours())
            measured.memory_idle["sidecar"] = processes.memory(ours.sidecar_pid)
            if "pass" in only:
                _pass_through(measured, ours, folder, say)
                measured.memory_loaded["sidecar, only passing"] = processes.memory(ours.sidecar_pid)
            if "issue" in only:
                _issue(measured, ours, folder, say)
            measured.memory_loaded["sidecar"] = processes.memory(ours.sidecar_pid)
    if "many" in only:
        measured.many = measure_many(folder, say)
    if "profile" in only:
        say("where the time goes")
        with Ours(timed=True) as ours:
            measured.issue_times = {n: _timed(ours, ours.issue, n, seconds) for n in CLIENTS}
            call = ours.read_secret(ours.address)
            measured.pass_times = {n: _timed(ours, call, n, seconds) for n in CLIENTS}
    elsewhere = processes.busy_seconds() - busy - (processes.cpu_seconds(os.getpid()) - own)
    measured.others = max(0.0, elsewhere) / ((time.monotonic() - began) * len(os.sched_getaffinity(0)))
    return measured


def _issue(measured: Measured, ours: Ours, folder: Path, say: Say) -> None:
    with DatabaseEngine(folder, max_open_connections=DATABASE_CONNECTIONS) as engine:
        contenders = [
            Contender(
                "sidecar",
                lambda: ours.issue,
                {"sidecar": ours.sidecar_pid, "OpenBao": ours.openbao_pid, "relay": ours.relay_pid},
            ),
            Contender(
                "database engine",
                lambda: Call(engine.url, token=engine.token, expect=200),
                {"OpenBao": engine.openbao.pid, "PostgreSQL": engine.postgres.pid},
            ),
            Contender("relay alone", ours.mint_at_relay, {"relay": ours.relay_pid}),
        ]
        for clients in CLIENTS:
            say(f"issuance, {clients} clients")
            measured.issue[clients] = measure(
                contenders, clients=clients, seconds=measured.seconds, rounds=measured.rounds, say=say
            )
        replies = sum(results["sidecar"].requests for results in measured.issue.values())
        measured.leases = ours.check_books(replies)
        measured.memory_loaded["OpenBao with database engine"] = processes.memory(engine.openbao.pid)


def _pass_through(measured: Measured, ours: Ours, folder: Path, say: Say) -> None:
    role_id, secret_id = ours.app_role
    with ExitStack() as stack:
        proxy = stack.enter_context(BaoDaemon("proxy", folder, upstream=ours.upstream_address))
        agent = stack.enter_context(
            BaoDaemon("agent", folder, upstream=ours.upstream_address, app_role=(role_id, secret_id))
        )
        daemons = {"sidecar": (ours.address, ours.sidecar_pid)} | {
            f"bao {daemon.program}": (daemon.address, daemon.pid) for daemon in (proxy, agent)
        }
        for daemon in (proxy, agent):
            measured.memory_idle[f"bao {daemon.program}"] = processes.memory(daemon.pid)
        contenders = [
            Contender(name, _read(ours, address), {name: pid, "OpenBao": ours.openbao_pid})
            for name, (address, pid) in daemons.items()
        ]
        contenders.append(
            Contender("direct", _read(ours, ours.upstream_address), {"OpenBao": ours.openbao_pid})
        )
        for clients in CLIENTS:
            say(f"pass-through, {clients} clients")
            measured.pass_through[clients] = measure(
                contenders, clients=clients, seconds=measured.seconds, rounds=measured.rounds, say=say
            )
        for daemon in (proxy, agent):
            measured.memory_loaded[f"bao {daemon.program}"] = processes.memory(daemon.pid)


def _read(ours: Ours, address: str) -> Callable[[], Call]:
    return lambda: ours.read_secret(address)


def _timed(ours: Ours, call: Call, clients: int, seconds: float) -> Timed:
    load.run(call, clients=clients, seconds=WARM_UP_SECONDS).checked("warm-up")
    before, cpu_before = timing.read_settled(ours.times), processes.cpu_seconds(ours.sidecar_pid)
    seen = load.run(call, clients=clients, seconds=seconds).checked("the timed run")
    cpu_seconds = processes.cpu_seconds(ours.sidecar_pid) - cpu_before
    return Timed(seen.requests, cpu_seconds, timing.between(before, timing.read_settled(ours.times)))
