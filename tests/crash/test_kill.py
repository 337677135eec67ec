"""The process is killed at each durable step of a lease's life, under concurrency; the relay's books are the judge.

SIGKILL at the n-th time a point is reached, then a fresh process on the same folder. No key is left that no lease
knows, no lease without a key, nothing that a client was told is lost, and it is clean within half a minute.
"""

from __future__ import annotations

import signal

import pytest
from tests.crash.books import Promises, check, recover
from tests.crash.conftest import Run, Start
from tests.crash.engine import Engine, Place

from aikeys.leases.settings import LeaseSettings
from aikeys.minting.bounds import MintBounds
from aikeys.relay_simulator.control import SimulatorControl
from aikeys.storage.failpoints import POINTS
from aikeys.storage.interface import LeaseState

pytestmark = pytest.mark.slow

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


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_each_durable_step_nothing_is_lost(
    point: str, run: Run, place: Place, control: SimulatorControl
) -> None:
    before, faults, nth = TROUBLE.get(point, ("", [], 6))
    for fault in faults:
        control.fault(**fault)  # type: ignore[arg-type]
    ended = run(f"{before}{point}=kill:{nth}")
    assert ended.returncode == -signal.SIGKILL, (
        f"{point} was not reached: {ended.stdout[-500:]} {ended.stderr[-2000:]}"
    )
    control.clear_faults()
    engine = Engine(place)
    try:
        recover(engine, within=30)
        check(engine, control, Promises.parse(ended.stdout))
    finally:
        engine.close()


def test_with_the_bounds_of_production_it_is_clean_within_half_a_minute(
    run: Run, place: Place, control: SimulatorControl
) -> None:
    """Mints of the dead process wait until they are surely over, claims until they lapse."""
    ended = run("issue.relay_answered=kill:20", "--real-bounds", "--threads=16")
    assert ended.returncode == -signal.SIGKILL
    engine = Engine(place, MintBounds(), LeaseSettings())
    try:
        assert engine.store.intents(), "the process left mints under way"
        recover(engine, within=30)
        check(engine, control, Promises.parse(ended.stdout))
    finally:
        engine.close()


def test_a_living_process_takes_over_what_a_dead_one_left(
    start: Start, place: Place, control: SimulatorControl
) -> None:
    with start("revoke.relay_revoked=kill:9") as dying, start("", "--count=16") as living:
        said = dying.communicate(timeout=60)[0] + living.communicate(timeout=60)[0]
    assert (dying.returncode, living.returncode) == (-signal.SIGKILL, 0)
    engine = Engine(place)
    try:
        # The survivor stayed longer than a claim lasts; nothing has been started to help it.
        left = [lease for lease in engine.store.leases_with_prefix("") if lease.state is LeaseState.REVOKING]
        assert left == []
        recover(engine, within=30)
        check(engine, control, Promises.parse(said))
    finally:
        engine.close()


def test_without_a_kill_all_is_done_and_nothing_is_left(
    run: Run, place: Place, control: SimulatorControl
) -> None:
    """The judge itself: an orderly run passes, and a key that no lease knows would not."""
    ended = run("")
    assert ended.returncode == 0, ended.stderr[-2000:]
    promises = Promises.parse(ended.stdout)
    assert promises.done
    assert len(promises.keys) == 8 * 12 + 2
    assert promises.refused == []
    engine = Engine(place)
    try:
        check(engine, control, promises)
        lease_id = next(lease for lease in promises.keys if engine.store.lease(lease) is not None)
        engine.store.delete_lease(lease_id)
        with pytest.raises(AssertionError, match="that no lease knows"):
            check(engine, control, promises)
    finally:
        engine.close()
