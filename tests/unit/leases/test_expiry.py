"""What is to end ends, in every process, whatever fails meanwhile. With the real clock and real threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.leases.engine import MOUNT, OTHER, World

from aikeys.backoff import Backoff
from aikeys.framework.clock import SystemClock
from aikeys.framework.response import EngineError, RelayRateLimited, Unavailable
from aikeys.leases.expiry import Background
from aikeys.leases.pool import RevocationPool
from aikeys.leases.settings import LeaseSettings
from aikeys.storage import SqlStore
from aikeys.storage.failpoints import arm
from aikeys.storage.records import LeaseRecord, LeaseState, WrappedRecord

AWAY = Unavailable("the relay is away")
# Vault's waits divided by a hundred.
FAST = LeaseSettings(
    workers=8,
    claim=1.5,
    poll=0.1,
    backoff=Backoff(base=0.1, cap=3.0),
    trip=5,
    probe=0.15,
    hasten=0.3,
    tidy_every=0.5,
)
# What happens soon under these does not happen by looking often, or by a back-off that ends.
RARE_LOOKS = pytest.mark.parametrize("world", [replace(FAST, poll=30.0)], indirect=True)
LONG_WAITS = pytest.mark.parametrize(
    "world", [replace(FAST, backoff=Backoff(base=10.0, cap=300.0))], indirect=True
)


class NoIntents:
    def run_once(self) -> int:
        return 0


@pytest.fixture
def world(store: SqlStore, request: pytest.FixtureRequest) -> World:
    return World.make(store, SystemClock(), getattr(request, "param", FAST))


@pytest.fixture
def start(world: World) -> Iterator[Callable[[], Background]]:
    """Starts one more background on the store, as another process would."""
    started: list[Background] = []

    def begin() -> Background:
        background = Background(world.store, world.manager, NoIntents(), world.clock)
        background.start()
        started.append(background)
        return background

    yield begin
    for background in started:
        background.stop(5)


def until(condition: Callable[[], object], seconds: float = 15.0) -> None:
    """Wait for `condition`."""
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < seconds, "it did not come about"
        time.sleep(0.01)


def put(
    world: World, count: int, mount_uuid: str = MOUNT.uuid, ends_in: float = 0.0, **changes: object
) -> list[str]:
    """Leases that end in a while; their keys are called key_<mount>_<n>."""
    now = world.clock.now()
    ids = []
    for number in range(count):
        key_id = f"key_{mount_uuid}_{number}"
        world.keys.live.add(key_id)
        fields: dict[str, object] = {
            "lease_id": f"{world.mounts[mount_uuid].path}creds/demo/{number:024d}",
            "mount_uuid": mount_uuid,
            "path": f"{world.mounts[mount_uuid].path}creds/demo",
            "secret_type": "api_key",
            "internal": {"ref": {"key_id": key_id, "name": key_id}},
            "issue_time": now,
            "expire_time": now + timedelta(seconds=ends_in),
            "due_at": now + timedelta(seconds=ends_in),
        }
        record = LeaseRecord(**(fields | changes))  # type: ignore[arg-type]
        world.store.put_lease(record)
        ids.append(record.lease_id)
    return ids


@RARE_LOOKS
def test_a_lease_ends_when_it_should_and_not_before(world: World, start: Callable[[], Background]) -> None:
    (lease_id,) = put(world, 1, ends_in=0.6)
    end = world.record(lease_id).expire_time
    start()
    until(lambda: not world.keys.live)
    assert world.clock.now() >= end
    until(lambda: world.manager.count() == 0)


@RARE_LOOKS
def test_a_revocation_nobody_waits_for_is_done_at_once(world: World, start: Callable[[], Background]) -> None:
    (lease_id,) = put(world, 1, ends_in=3600)
    start()
    time.sleep(0.2)
    world.manager.revoke(lease_id, sync=False)
    until(lambda: not world.keys.live)


def test_many_leases_end_each_exactly_once_with_several_processes(
    world: World, start: Callable[[], Background]
) -> None:
    put(world, 400)
    for _ in range(3):
        start()
    until(lambda: world.manager.count() == 0, 30)
    assert sorted(world.keys.asked) == sorted(set(world.keys.asked))
    assert world.keys.live == set()


@RARE_LOOKS
def test_a_backlog_keeps_all_threads_busy_until_it_is_gone(
    world: World, start: Callable[[], Background]
) -> None:
    world.keys.seconds = 0.005
    put(world, 500)
    start()
    until(lambda: world.manager.count() == 0, 7)


def test_what_a_dead_process_had_claimed_comes_back(world: World, start: Callable[[], Background]) -> None:
    put(world, 5)
    now = world.clock.now()
    lapse = now + timedelta(seconds=0.8)
    assert len(world.store.claim_due_leases(now, lapse, 5)) == 5
    start()
    until(lambda: world.manager.count() == 0)
    assert world.clock.now() >= lapse


def test_a_slow_revocation_keeps_its_claim(world: World, start: Callable[[], Background]) -> None:
    world.keys.seconds = 4.0
    put(world, 1)
    start()
    start()
    until(lambda: world.manager.count() == 0)
    assert len(world.keys.asked) == 1, "longer than a claim, and nobody else took it up"


def test_a_failing_revocation_is_tried_again_and_again_and_never_given_up(
    world: World, start: Callable[[], Background]
) -> None:
    (lease_id,) = put(world, 1)
    world.keys.failures = [EngineError("no")] * 12
    start()
    until(lambda: world.manager.count() == 0, 30)
    assert len(world.keys.asked) == 13, "Vault would have stopped after the sixth"
    assert world.state(lease_id) is None


@LONG_WAITS
def test_after_an_outage_everything_ends_at_once(world: World, start: Callable[[], Background]) -> None:
    put(world, 200)
    world.keys.down = AWAY
    start()
    time.sleep(2.0)
    asked = len(world.keys.asked)
    assert asked < 60, "a relay that is away is not asked by every lease"
    assert world.manager.count() == 200
    world.keys.down = None
    until(lambda: world.manager.count() == 0)
    assert world.keys.live == set()


@LONG_WAITS
def test_one_lease_alone_does_not_sleep_through_the_relays_return(
    world: World, start: Callable[[], Background]
) -> None:
    put(world, 1)
    world.keys.down = AWAY
    start()
    until(lambda: len(world.keys.asked) >= 4)
    world.keys.down = None
    until(lambda: world.manager.count() == 0)


def test_a_restart_takes_up_what_failed_before(world: World, start: Callable[[], Background]) -> None:
    later = world.clock.now() + timedelta(seconds=40)
    put(world, 3, state=LeaseState.REVOKING, attempts=9, due_at=later)
    start()
    until(lambda: world.manager.count() == 0)


def test_a_rate_limit_pauses_the_whole_mount_and_no_other(
    world: World, start: Callable[[], Background]
) -> None:
    put(world, 100)
    put(world, 20, OTHER.uuid)
    world.keys.down_mounts = {MOUNT.uuid: RelayRateLimited("slow down", 3)}
    start()
    until(lambda: world.manager.count(OTHER.uuid) == 0, 2.5)
    asked = [key for key in world.keys.asked if MOUNT.uuid in key]
    assert len(asked) <= FAST.workers, "those that were under way when the relay said so"
    world.keys.down_mounts = {}
    until(lambda: world.manager.count() == 0)


def test_a_slow_mount_does_not_hold_up_another(world: World, start: Callable[[], Background]) -> None:
    release = threading.Event()
    real = world.keys.revoke

    def slow(secret: object, mount: object) -> object:
        if mount is MOUNT:
            release.wait(20)
        return real(secret, mount)  # type: ignore[arg-type]

    world.keys.revoke = slow  # type: ignore[method-assign, assignment]
    put(world, 50)
    start()
    until(lambda: threading.active_count() > FAST.workers)
    put(world, 20, OTHER.uuid)
    try:
        until(lambda: world.manager.count(OTHER.uuid) == 0)
        assert world.manager.count(MOUNT.uuid) == 50
    finally:
        release.set()
    until(lambda: world.manager.count() == 0)


@RARE_LOOKS
def test_an_unread_wrapped_answer_takes_its_lease_with_it(
    world: World, start: Callable[[], Background]
) -> None:
    (lease_id,) = put(world, 1, ends_in=3600)
    world.store.put_wrapped(WrappedRecord("t", "a", {}, lease_id, world.clock.now() + timedelta(seconds=0.4)))
    start()
    until(lambda: not world.keys.live)
    assert world.store.wrapped("t") is None


def test_a_failing_store_stops_nothing_for_good(world: World, start: Callable[[], Background]) -> None:
    put(world, 3)
    arm("store.before_commit=error:1,expiry.claimed=error:1,revoke.lease_deleted=error:1")
    start()
    until(lambda: world.manager.count() == 0)


def test_an_orderly_stop_gives_the_rest_back_at_once(world: World, start: Callable[[], Background]) -> None:
    world.keys.seconds = 0.3
    put(world, 60)
    first = start()
    until(lambda: len(world.keys.asked) >= FAST.workers)
    first.stop(5)
    assert len(world.keys.revoked) == len(world.keys.asked), "what was under way was finished"
    now = world.clock.now()
    assert len(world.store.claim_due_leases(now, now, 100)) == 60 - len(world.keys.revoked)


def test_nothing_runs_after_a_stop(world: World, start: Callable[[], Background]) -> None:
    # Another test's sidecar may run in this very process.
    others = set(threading.enumerate())
    start().stop(5)
    put(world, 3)
    time.sleep(0.4)
    assert world.keys.asked == []
    left = [thread.name for thread in set(threading.enumerate()) - others]
    assert [name for name in left if name.startswith("aikeys")] == []


def test_an_idle_process_costs_next_to_nothing(world: World, start: Callable[[], Background]) -> None:
    put(world, 10, ends_in=3600)
    start()
    time.sleep(0.2)
    before = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - before < 0.1


def test_the_pool_shares_its_threads_between_mounts() -> None:
    order: list[str] = []
    gate = threading.Event()

    def run(lease: LeaseRecord) -> None:
        gate.wait(5)
        time.sleep(0.005)
        order.append(lease.mount_uuid)

    pool = RevocationPool(2, run, lambda _mount, _in_flight: True)
    now = SystemClock().now()
    leases = [
        LeaseRecord(f"{mount}/{number}", mount, mount, "api_key", {}, now, now, now)
        for mount in ("a", "b")
        for number in range(20)
    ]
    pool.add("a", leases[:20])
    pool.add("b", leases[20:])
    gate.set()
    until(lambda: len(order) == 40)
    assert 7 <= order[:20].count("b") <= 13
    assert pool.stop(1) == []


def test_a_lease_that_is_made_due_again_while_it_is_revoked_is_not_revoked_twice() -> None:
    """As by two requests for the same prefix."""
    done: list[str] = []
    begun, gate = threading.Event(), threading.Event()

    def run(lease: LeaseRecord) -> None:
        begun.set()
        gate.wait(10)
        done.append(lease.lease_id)

    pool = RevocationPool(2, run, lambda _mount, _in_flight: True)
    now = SystemClock().now()
    first, second = (LeaseRecord(f"a/{n}", "a", "a", "api_key", {}, now, now, now) for n in (1, 2))
    pool.add("a", [first])
    assert begun.wait(10)
    pool.add("a", [first, second])
    pool.add("a", [first, second])
    gate.set()
    until(lambda: pool.held() == [])
    assert sorted(done) == ["a/1", "a/2"]
    assert pool.stop(10) == []
