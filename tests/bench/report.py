"""The page ``docs/benchmarks.md``, of what a run measured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from statistics import median

from tests.bench import timing
from tests.bench.figures import (
    Aim,
    Bound,
    NoResult,
    Result,
    median_latency_of,
    paired_difference,
    paired_ratio,
    rate_of,
    ratio,
)
from tests.bench.many import LONGEST_P99_MS, PACE, RELAY_DELAY_MS, Many, p99
from tests.bench.scenarios import DATABASE_CONNECTIONS, Measured, Results, Timed
from tests.bench.timing import Spent

#: With more of the machine in others' hands the absolute figures are worth little.
QUIET = 0.05
BUSY = (
    "**This run is no verdict**: other programs used {others:.0%} of the processors meanwhile. Rates and latencies are far from"
    " what they are on a quiet machine; CPU per request and memory suffer least.\n"
)
INTRODUCTION = (
    "`make bench` wrote this page: every figure below is from one run on one machine. Compare the ratios, not the"
    " absolute figures; those belong to the machine.\n"
)


def page(measured: Measured, machine: Sequence[tuple[str, str]]) -> str:
    parts = [
        "# Benchmarks\n",
        INTRODUCTION,
        *([BUSY.format(others=measured.others)] if measured.others > QUIET else []),
        "## Aims\n",
        *_aims(measured),
        "## Machine and method\n",
        _table(
            ("", ""), [*machine, ("other programs meanwhile", f"{measured.others:.0%} of the processors")]
        ),
        _method(measured),
    ]
    if measured.issue:
        parts += ["## Issuing a key\n", *_issue(measured)]
    if measured.pass_through:
        parts += ["## Passing through\n", *_pass(measured)]
    if measured.memory_loaded:
        parts += ["## Memory\n", *_memory(measured)]
    if measured.many is not None:
        parts += ["## Very many leases\n", *_many(measured.many)]
    if measured.issue_times:
        parts += ["## Where the time goes\n", *_profile(measured)]
    return "\n".join(parts).rstrip() + "\n"


# -- aims -------------------------------------------------------------------------------------------------------


def aims(measured: Measured) -> list[Aim]:
    """The promises in figures; those this run left out have nothing measured."""
    one, many = measured.issue.get(1), measured.issue.get(50)
    agent, sidecar = measured.memory_loaded.get("bao agent"), measured.memory_loaded.get("sidecar")
    found = [
        Aim(
            "issuance at 50 clients, times the `database` engine's rate",
            Bound.AT_LEAST,
            4.0,
            None if many is None else paired_ratio(many["sidecar"], many["database engine"], rate_of),
        ),
        Aim(
            "CPU per issued key at 50 clients, sidecar / OpenBao with the `database` engine",
            Bound.AT_MOST,
            1.0,
            None
            if many is None
            else ratio(many["sidecar"].cpu_ms("sidecar"), many["database engine"].cpu_ms("OpenBao")),
        ),
        Aim(
            "one client: median latency over the relay's own",
            Bound.AT_MOST,
            5.0,
            None if one is None else paired_difference(one["sidecar"], one["relay alone"], median_latency_of),
            " ms",
        ),
    ]
    for clients in (1, 50):
        passed = measured.pass_through.get(clients)
        found.append(
            Aim(
                f"pass-through with {_clients(clients)}, times the rate of `bao proxy`",
                Bound.AT_LEAST,
                0.9,
                None if passed is None else paired_ratio(passed["sidecar"], passed["bao proxy"], rate_of),
            )
        )
    found.append(
        Aim(
            "memory after load, sidecar / `bao agent`",
            Bound.AT_MOST,
            0.6,
            ratio(sidecar.resident, agent.resident) if agent and sidecar else None,
        )
    )
    return found + (aims_of_many(measured.many) if measured.many is not None else [])


def aims_of_many(many: Many) -> list[Aim]:
    return [
        Aim(
            f"{many.ending} leases that end at once, with a relay that takes {RELAY_DELAY_MS} ms: ended a second",
            Bound.AT_LEAST,
            2000,
            many.rate,
        ),
        Aim("issuing meanwhile, p99", Bound.AT_MOST, LONGEST_P99_MS, p99(many.issue_ms), " ms"),
        Aim(
            f"start with {many.held} leases: until a key is issued",
            Bound.AT_MOST,
            5,
            many.serving_seconds,
            " s",
        ),
        Aim(
            f"memory with {many.held} leases",
            Bound.AT_MOST,
            300,
            None if many.memory is None else many.memory.resident,
            " MiB",
        ),
    ]


def _aims(measured: Measured) -> Iterator[str]:
    rows = []
    for aim in aims(measured):
        seen = "" if aim.measured is None else f"{aim.measured:.2f}{aim.unit}"
        rows.append((aim.text, f"{aim.bound.value} {aim.limit:g}{aim.unit}", seen, aim.verdict))
    yield _table(("what", "aim", "measured", ""), rows)


# -- method -----------------------------------------------------------------------------------------------------


def _method(measured: Measured) -> str:
    return f"""
All programs run on this machine, which they share with the load generator, and talk over loopback. In each round the
contenders are measured one after the other for {measured.seconds:g} s each, {measured.rounds} rounds in all after a warm-up; figures are medians
over the rounds, and ratios are medians of the ratio within a round. A run in which one reply has another
status than the one expected is no result. Clients keep their connection and send the next request when the last is
answered. Nothing is cached between the client and what it measures.

- *Sidecar*: as `aikeys dev` starts it, in front of OpenBao in dev mode, with the relay simulator as its relay. Reading
  `ai-keys/creds/bench` proves the caller's right at OpenBao, mints at the relay and commits the intent and the lease to disk.
- *Database engine*: OpenBao's `database/creds/app` on a PostgreSQL with its default durability; the role is created
  with a password, an end and one grant, over at most {DATABASE_CONNECTIONS} connections. This OpenBao runs in dev mode too,
  so its leases are in memory, and ours are on disk.
- *Pass-through*: `GET` of a kv version 1 secret with the client's own token, through the sidecar, `bao proxy` and
  `bao agent` (no cache, the agent with AppRole auto-auth and a token file), all before the same OpenBao.
- *CPU* is what the whole process tree used (`/proc/<pid>/stat`), per answered request.
- *Memory* is what the process tree would take if nothing else ran: pages shared within the tree count once, program
  files that others map too count in full. *Anonymous* is the part of it that no file backs.
"""


# -- tables -----------------------------------------------------------------------------------------------------


def _issue(measured: Measured) -> Iterator[str]:
    yield _results(
        measured.issue, peer="database engine", columns=("sidecar", "OpenBao", "PostgreSQL", "relay")
    )
    yield (
        "\n*relay alone* is the load generator asking the relay for the same key itself. The relay simulator takes"
        " its share of the two contenders' machine as PostgreSQL does, and is no part of either product."
        f" After the runs the {measured.leases} leases of the role were counted: each has its key at the relay.\n"
    )


def _pass(measured: Measured) -> Iterator[str]:
    yield _results(
        measured.pass_through, peer="bao proxy", columns=("sidecar", "bao proxy", "bao agent", "OpenBao")
    )
    yield ""


def _results(results: Results, *, peer: str, columns: Sequence[str]) -> str:
    """A line for each contender; CPU columns in ms per request."""
    rows = []
    for clients, by_name in results.items():
        for name, result in by_name.items():
            rows.append(
                (
                    _clients(clients),
                    name,
                    f"{result.rate:.0f}",
                    f"{paired_ratio(result, by_name[peer], rate_of):.2f}",
                    *(f"{result.latency_ms(percentile):.2f}" for percentile in (50, 90, 99)),
                    *(_cpu(result, column) for column in columns),
                    f"{result.generator_cpu_ms:.2f}",
                    f"{result.spread:.0%}",
                )
            )
    head = (
        "clients",
        "contender",
        "per second",
        f"/ {peer}",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        *(f"CPU ms {column}" for column in columns),
        "CPU ms load",
        "spread",
    )
    return _table(head, rows)


def _cpu(result: Result, process: str) -> str:
    return f"{result.cpu_ms(process):.2f}" if process in result.rounds[0].cpu_seconds else ""


def _memory(measured: Measured) -> Iterator[str]:
    rows = []
    agent = measured.memory_loaded.get("bao agent")
    for name, loaded in measured.memory_loaded.items():
        idle = measured.memory_idle.get(name)
        rows.append(
            (
                name,
                "" if idle is None else f"{idle.resident:.0f}",
                f"{loaded.resident:.0f}",
                f"{loaded.anonymous:.0f}",
                "" if agent is None else f"{ratio(loaded.resident, agent.resident):.2f}",
                "" if agent is None else f"{ratio(loaded.anonymous, agent.anonymous):.2f}",
            )
        )
    yield _table(
        ("", "idle MiB", "after load MiB", "of it anonymous", "/ bao agent", "anonymous / bao agent"), rows
    )
    yield (
        "\n`bao proxy` and `bao agent` have passed requests on and hold no lease. *Sidecar* has done the same and issued"
        f" {measured.leases} keys besides, all of them under live leases.\n"
    )


def _many(many: Many) -> Iterator[str]:
    alone, meanwhile = many.issue_alone_ms, many.issue_ms
    yield _table(
        ("", "keys issued", "p50 ms", "p99 ms"),
        [
            (what, f"{len(seen)}", f"{median(seen):.0f}", f"{p99(seen):.0f}")
            for what, seen in (("before the leases end", alone), ("while they end", meanwhile))
            if seen
        ],
    )
    yield (
        f"\n{many.ending} leases were put into the sidecar's database with one and the same end; the last was revoked at the"
        f" relay {many.seconds:.1f} s after it. Meanwhile an app asked for {PACE} keys a second, one after the other. The relay"
        f" of this part answers everything after {RELAY_DELAY_MS} ms and costs next to no CPU. Then the sidecar was started"
        f" with {many.held} leases: from its start to the first key {many.serving_seconds:.1f} s.\n"
    )


# -- where the time goes ------------------------------------------------------------------------------------------


def _profile(measured: Measured) -> Iterator[str]:
    yield (
        "From separate runs with a stop-watch on each step in the sidecar's worker, which slows it a little: read the"
        " shares. Each step counts without the steps it calls. *Wall* is with one client, so it adds up to latency;"
        " *CPU* is the thread's own clock.\n"
    )
    for title, runs in (("Issuing a key", measured.issue_times), ("Passing through", measured.pass_times)):
        yield f"### {title}\n"
        yield _table(
            ("step", "times", "wall µs, 1 client", "CPU µs, 1 client", "CPU µs, 50 clients", "share of CPU"),
            step_rows(runs[1], runs[50]),
        )
        yield ""


OUTSIDE = "outside of requests: gunicorn's loop, background"


def step_rows(one: Timed, many: Timed) -> list[tuple[str, ...]]:
    """Per request: how often each step was done and its microseconds, and what the sidecar did beside requests."""
    whole = many.cpu_seconds / many.requests
    if whole <= 0:
        raise NoResult("no CPU was used")
    rows: list[tuple[str, ...]] = []
    for step in timing.in_order(many.times):
        alone = one.times.get(step, Spent()).per(one.requests)
        crowd = many.times[step].per(many.requests)
        rows.append(
            (
                step,
                f"{crowd.calls:.2f}",
                _us(alone.wall),
                _us(alone.cpu),
                _us(crowd.cpu),
                f"{crowd.cpu / whole:.0%}",
            )
        )
    inside_one, inside_many = (
        timing.total(one.times).per(one.requests),
        timing.total(many.times).per(many.requests),
    )
    outside = whole - inside_many.cpu
    rows.append(
        (
            OUTSIDE,
            "",
            "",
            _us(one.cpu_seconds / one.requests - inside_one.cpu),
            _us(outside),
            f"{outside / whole:.0%}",
        )
    )
    rows.append(("**all**", "", _us(inside_one.wall), _us(one.cpu_seconds / one.requests), _us(whole), ""))
    return rows


def _us(seconds: float) -> str:
    return f"{seconds * 1e6:.0f}"


# -- markdown ---------------------------------------------------------------------------------------------------


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _clients(count: int) -> str:
    return f"{count} client" if count == 1 else f"{count} clients"
