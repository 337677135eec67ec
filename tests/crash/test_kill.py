"""The process is killed at each durable step of a lease's life, under concurrency; the relay's books are the judge.

SIGKILL at the n-th time a point is reached, then a fresh process on the same folder. No key is left that no lease
knows, no lease without a key, nothing that a client was told is lost, and it is clean within half a minute.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from tests.crash.books import Promises, check, recover
from tests.crash.conftest import ISSUANCES, Places, Relays, start_worker
from tests.crash.engine import QUICK_LEASES, QUICK_MINT, Engine, Place

from aikeys.leases.settings import LeaseSettings
from aikeys.minting.bounds import MintBounds
from aikeys.relay_simulator.control import SimulatorControl
from aikeys.storage.failpoints import POINTS
from aikeys.storage.records import LeaseState

pytestmark = pytest.mark.slow

#: A life with the bounds that a deployment has, in place of the tests' short ones.
PRODUCTION = "bounds of production"
# The rest are reached through the listener only: test_kill_door.py.
LIFE = [
    point
    for point in POINTS
    if point.split(".")[0] in {"store", "issue", "renew", "revoke", "expiry", "resolve", "tidy"}
]
KEYS = "/v1/keys"
KEY = "/v1/keys/*"
# Most points are reached by ordinary work, at the sixth time with eight clients under way. The others need trouble:
# the fail points and faults that lead there, and the time at which they are reached.
UNKNOWN = [{"kind": "commit_then_drop", "method": "POST", "path": KEYS, "nth": 3, "count": 16}]
NEVER_ARRIVED = [{"kind": "close", "method": "POST", "path": KEYS, "nth": 3, "count": 16}]
REFUSED = [{"kind": "rate_limit", "method": "POST", "path": KEYS, "nth": 5, "count": 8}]
UNREVOKED = [{"kind": "error", "status": 500, "method": "DELETE", "path": KEY, "nth": 2, "count": 8}]
TROUBLE: dict[str, tuple[str, list[dict[str, object]], int]] = {
    "issue.unknown_noted": ("", UNKNOWN, 2),
    "issue.refusal_noted": ("", REFUSED, 2),
    "issue.abandoned": ("issue.before_lease=error:7,", [], 1),
    "revoke.failure_noted": ("", UNREVOKED, 2),
    "resolve.claimed": ("", UNKNOWN, 1),
    "resolve.found": ("", UNKNOWN, 2),
    "resolve.revoked": ("", UNKNOWN, 1),
    "resolve.replayed": ("", NEVER_ARRIVED, 1),
    "resolve.settled": ("", UNKNOWN, 1),
    # Both keys' end is on record and nothing has been done about it.
    "tidy.recorded": ("", [], 2),
}


def kill_at(point: str, relays: Relays, places: Places, nth: int = 6) -> Promises:
    """One life that ends at `point`, and what came after; what it had promised."""
    before, faults, nth = TROUBLE.get(point, ("", [], nth))
    mint, leases, threads = QUICK_MINT, QUICK_LEASES, 8
    if point == PRODUCTION:
        # Mints of the dead process wait until they are surely over, claims until they lapse.
        point, nth = "issue.relay_answered", 20
        mint, leases, threads = MintBounds(), LeaseSettings(), 16
    with relays.take(alone=bool(faults)) as relay, SimulatorControl(relay.address) as control:
        place = places.new(relay)
        for fault in faults:
            control.fault(**fault)  # type: ignore[arg-type]
        worker = start_worker(place, f"{before}{point}=kill:{nth}", mint=mint, leases=leases, threads=threads)
        status = worker.wait()
        assert status == -signal.SIGKILL, f"{point} was not reached: {status} {worker.read()[-3000:]}"
        control.clear_faults()
        promises = Promises.parse(worker.read())
        engine = Engine(place, mint, leases)
        try:
            assert threads == 8 or engine.store.intents(), "the process left mints under way"
            recover(engine, within=30)
            check(engine.store, control, [place.instance], promises)
        finally:
            engine.close()
    return promises


@pytest.fixture(scope="module")
def lives(
    request: pytest.FixtureRequest, relays: Relays, places: Places, pool: ThreadPoolExecutor
) -> Mapping[str, Future[Promises]]:
    """One for each point that is wanted, several at once."""
    wanted = {
        item.callspec.params["point"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    }
    # Those that take longest go first.
    order = sorted(wanted, key=lambda point: (point != PRODUCTION, point not in TROUBLE))
    return {point: pool.submit(kill_at, point, relays, places) for point in order}


@pytest.mark.parametrize("point", [PRODUCTION, *LIFE])
def test_killed_at_each_durable_step_nothing_is_lost(
    point: str, lives: Mapping[str, Future[Promises]]
) -> None:
    lives[point].result()


def kill_again_and_again(
    relays: Relays, places: Places, pool: ThreadPoolExecutor, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every point in turn, each time at another moment of its life, until so many keys have been issued."""
    chance = random.Random(ISSUANCES)
    issued = kills = 0
    while issued < ISSUANCES:
        runs = [pool.submit(kill_at, point, relays, places, chance.randint(1, 24)) for point in LIFE]
        for run in runs:
            issued += len(run.result().keys)
            kills += 1
        with capsys.disabled():
            print(f"\n{issued} keys handed out, {kills} kills, nothing lost")


if ISSUANCES:
    test_killed_again_and_again_nothing_is_lost = pytest.mark.timeout(0)(kill_again_and_again)


def test_a_living_process_takes_over_what_a_dead_one_left(place: Place, control: SimulatorControl) -> None:
    dying = start_worker(place, "revoke.relay_revoked=kill:9")
    living = start_worker(place, "", count=16)
    assert (dying.wait(), living.wait()) == (-signal.SIGKILL, 0)
    engine = Engine(place)
    try:
        # The survivor stayed longer than a claim lasts; nothing has been started to help it.
        left = [lease for lease in engine.store.leases_with_prefix("") if lease.state is LeaseState.REVOKING]
        assert left == []
        recover(engine, within=30)
        check(engine.store, control, [place.instance], Promises.parse(dying.read() + living.read()))
    finally:
        engine.close()


def test_without_a_kill_all_is_done_and_nothing_is_left(place: Place, control: SimulatorControl) -> None:
    """The judge itself: an orderly run passes, and a key that no lease knows would not."""
    worker = start_worker(place, "")
    assert worker.wait() == 0, worker.read()[-3000:]
    promises = Promises.parse(worker.read())
    assert promises.done
    assert len(promises.keys) == 8 * 12 + 2
    assert promises.refused == []
    engine = Engine(place)
    try:
        check(engine.store, control, [place.instance], promises)
        lease_id = next(lease for lease in promises.keys if engine.store.lease(lease) is not None)
        engine.store.delete_lease(lease_id)
        with pytest.raises(AssertionError, match="that no lease knows"):
            check(engine.store, control, [place.instance], promises)
    finally:
        engine.close()
