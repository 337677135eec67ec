"""Very many leases: how fast they end when they all end at once, and how soon a sidecar serves again that holds them."""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import httpx
from tests.bench import processes
from tests.bench.figures import NoResult
from tests.bench.processes import Memory
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.process import ChildProcess, clean_environment, free_port
from tests.sidecar_stack import MOUNT, SidecarStack

from aikeys.engine.creds import SECRET_TYPE
from aikeys.engine.lease_data import LeaseData
from aikeys.framework.clock import SystemClock
from aikeys.leases.lease import new_lease_id
from aikeys.relays.interface import KeyRef
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.storage import open_store
from aikeys.storage.records import LeaseRecord

ENDING = 30_000
HELD = 100_000
RELAY_DELAY_MS = 20
ROLE = "many"
#: Issues a second that an app asks for meanwhile, one after the other.
PACE = 20
#: The aim for its p99.
LONGEST_P99_MS = 100
_LEAD_SECONDS = 8.0
_LONGEST_SECONDS = 300.0


@dataclass(slots=True)
class Many:
    """``rate``: leases ended a second, from the moment they were due to the last one's end at the relay."""

    ending: int = 0
    seconds: float = 0.0
    issue_ms: list[float] = field(default_factory=list)
    issue_alone_ms: list[float] = field(default_factory=list)
    held: int = 0
    serving_seconds: float = 0.0
    memory: Memory | None = None

    @property
    def rate(self) -> float:
        return self.ending / self.seconds if self.seconds else 0.0


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98] if len(values) > 1 else 0.0


def measure_many(folder: Path, say: Callable[[str], None], *, ending: int = ENDING, held: int = HELD) -> Many:
    """Both runs."""
    found = Many(ending=ending, held=held)
    with _relay(folder) as relay:
        with _stack(folder / "ending", relay) as stack:
            say(f"{ending} leases that end at once")
            _all_at_once(stack, relay, found)
            say(f"  {found.rate:.0f}/s, issuing meanwhile p99 {p99(found.issue_ms):.0f} ms")
        with _stack(folder / "held", relay) as stack:
            say(f"a start with {held} leases")
            found.memory = _start_with(stack, found)
            say(f"  served after {found.serving_seconds:.1f} s with {found.memory.resident:.0f} MiB")
    return found


@contextmanager
def _relay(folder: Path) -> Iterator[str]:
    port = free_port()
    process = ChildProcess(
        [sys.executable, "-m", "tests.bench.fast_relay", str(port), str(RELAY_DELAY_MS)],
        folder=folder,
        name="fast-relay",
        env=clean_environment(PYTHONPATH=str(Path(__file__).parents[2])),
    )
    address = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        try:
            return httpx.get(f"{address}/counts", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    process.start(ready, deadline=20)
    try:
        yield address
    finally:
        process.stop()


@contextmanager
def _stack(folder: Path, relay: str) -> Iterator[SidecarStack]:
    """A sidecar in front of an OpenBao of its own, that mints at the fast relay."""
    with OpenBaoProcess(folder / "server") as server, SidecarStack(server, folder) as stack:
        _configure(stack, relay)
        yield stack


def _configure(stack: SidecarStack, relay: str) -> None:
    config = {"relay": "holysheep", "base_url": f"{relay}/v1", "management_key": "hsmk-not-a-secret-bench"}
    for path, body in (
        (f"{MOUNT}/config", config),
        (f"{MOUNT}/roles/{ROLE}", {"ttl": "1h", "max_ttl": "24h"}),
    ):
        if (answer := stack.request("PUT", path, body)).status_code not in {200, 204}:
            raise NoResult(f"{path} was answered {answer.status_code}: {answer.text}")


def _seed(stack: SidecarStack, count: int, ends: datetime) -> None:
    """Leases straight into the database, as the sidecar itself stores them; it must not run meanwhile."""
    clock = SystemClock()
    data = stack.folder / "data"
    store = open_store(data / "aikeys.db", KeyFileSeal(data / "aikeys.key"), clock=clock)
    try:
        (mount,) = store.mounts()
        now = clock.now()

        def put(number: int) -> None:
            ref = KeyRef(
                "holysheep", "http://127.0.0.1/v1", f"key_seed{number:07d}", f"vlt-seed-{number:07d}"
            )
            store.put_lease(
                LeaseRecord(
                    lease_id=new_lease_id(f"{MOUNT}/creds/{ROLE}"),
                    mount_uuid=mount.uuid,
                    path=f"{MOUNT}/creds/{ROLE}",
                    secret_type=SECRET_TYPE,
                    internal=LeaseData(ref, ROLE, ends + timedelta(hours=1)).to_json(),
                    issue_time=now,
                    expire_time=ends,
                    due_at=ends,
                    role=ROLE,
                    ttl=3600,
                    max_ttl=86_400,
                )
            )

        with ThreadPoolExecutor(32) as pool:
            for _ in pool.map(put, range(count)):
                pass
    finally:
        store.close()


def _all_at_once(stack: SidecarStack, relay: str, found: Many) -> None:
    stack.stop_sidecar()
    # Far enough away for the seeding; what is left of it is waited for below.
    ends = SystemClock().now() + timedelta(seconds=found.ending / 1500 + 2 * _LEAD_SECONDS)
    _seed(stack, found.ending, ends)
    stack.start_sidecar()
    left = (ends - SystemClock().now()).total_seconds()
    if left < _LEAD_SECONDS / 4:
        raise NoResult(f"the leases could not be stored in time: {left:.1f} s are left")
    stopping = threading.Event()
    timings: list[tuple[float, float]] = []
    asking = threading.Thread(target=_ask, args=(stack, stopping, timings))
    asking.start()
    try:
        time.sleep(max(0.0, (ends - SystemClock().now()).total_seconds()))
        began = time.monotonic()
        while (done := _counts(relay)["deleted"]) < found.ending:
            if time.monotonic() - began > _LONGEST_SECONDS:
                raise NoResult(f"only {done} of {found.ending} leases ended in {_LONGEST_SECONDS:.0f} s")
            time.sleep(0.05)
        found.seconds = time.monotonic() - began
    finally:
        stopping.set()
        asking.join()
    found.issue_alone_ms = [took for at, took in timings if at < began]
    found.issue_ms = [took for at, took in timings if began <= at <= began + found.seconds]


def _ask(stack: SidecarStack, stopping: threading.Event, timings: list[tuple[float, float]]) -> None:
    reader = stack.reader(ROLE).token
    with httpx.Client(base_url=stack.address, timeout=60, trust_env=False) as client:
        while not stopping.is_set():
            began = time.monotonic()
            answer = client.get(f"/v1/{MOUNT}/creds/{ROLE}", headers={"X-Vault-Token": reader})
            took = time.monotonic() - began
            if answer.status_code != 200:
                # An aim that is missed shows as such; an error would pass for speed.
                took = float("inf")
            timings.append((began, took * 1000))
            stopping.wait(max(0.0, 1 / PACE - took))


def _counts(relay: str) -> dict[str, int]:
    answer: dict[str, int] = httpx.get(f"{relay}/counts", timeout=30, trust_env=False).json()
    return answer


def _start_with(stack: SidecarStack, found: Many) -> Memory:
    reader = stack.reader(ROLE).token
    stack.stop_sidecar()
    _seed(stack, found.held, SystemClock().now() + timedelta(hours=12))
    began = time.monotonic()
    stack.start_sidecar()
    while stack.request("GET", f"{MOUNT}/creds/{ROLE}", token=reader).status_code != 200:
        if time.monotonic() - began > _LONGEST_SECONDS:
            raise NoResult("no key was issued after the start")
        time.sleep(0.05)
    found.serving_seconds = time.monotonic() - began
    time.sleep(2)
    return processes.memory(stack.sidecar_pid)
