"""What an operator gives up by force while the relay is away stays on record, and is revoked when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from structlog.testing import capture_logs
from tests.unit.leases.engine import MOUNT, OTHER, World

from aikeys.backoff import Backoff
from aikeys.errors import StorageError
from aikeys.framework.clock import SystemClock
from aikeys.framework.request import Caller, Mount
from aikeys.framework.response import InvalidRequest, Secret, Unavailable
from aikeys.leases.expiry import Background
from aikeys.leases.lease import StillAccepted
from aikeys.leases.settings import LeaseSettings
from aikeys.redaction import SecretString
from aikeys.sidecar.mount_table import MountTable
from aikeys.storage import SqlStore
from aikeys.storage.failpoints import arm

AWAY = Unavailable("the relay is away")
KEY_LIFE = 3600


def forced(world: World, count: int = 1, **changes: object) -> list[str]:
    """Leases that were revoked by force while the relay was away."""
    ids = [world.issue(**changes).lease_id for _ in range(count)]  # type: ignore[arg-type]
    world.keys.down = AWAY
    world.manager.revoke_force("ai-keys/")
    return ids


def run(world: World, after: float = 0.0) -> int:
    """Move the clock and try all that is due; how many."""
    world.clock.moved += after
    tried = 0
    while some := world.manager.forced.run_once():
        tried += some
    return tried


def test_a_lease_revoked_by_force_is_gone_for_everybody_and_its_key_on_record(world: World) -> None:
    (lease_id,) = forced(world)
    assert world.manager.lookup(lease_id) is None
    assert world.manager.list("") == []
    assert (world.manager.count(), world.manager.failing()) == (0, [])
    (key,) = world.store.forced_keys()
    assert (key.lease_id, key.key_id, key.role, key.mount_uuid) == (lease_id, "key_1", "demo", MOUNT.uuid)
    assert (key.forced_at, key.last_error) == (world.clock.now(), "the relay is away")
    assert key.key_ends == world.clock.now() + timedelta(seconds=KEY_LIFE)
    assert (world.store.count_forced(MOUNT.uuid), world.store.count_forced(OTHER.uuid)) == (1, 0)


def test_what_the_relay_did_revoke_is_no_risk(world: World) -> None:
    world.issue()
    world.manager.revoke_force("ai-keys/")
    assert (world.keys.live, world.store.forced_keys()) == (set(), [])


def test_the_relay_is_asked_again_with_growing_pauses_until_it_revokes(world: World) -> None:
    forced(world)
    asked = len(world.keys.asked)
    assert run(world) == 0, "not at once: it has just not answered"
    for pause in (20, 20, 40, 80, 160, 300, 300):
        assert run(world, pause - 1) == 0
        assert run(world, 1) == 1
    assert len(world.keys.asked) == asked + 7
    world.keys.down = None
    with capture_logs() as logs:
        run(world, 300)
    assert (world.keys.live, world.store.forced_keys()) == (set(), [])
    assert [entry["key_id"] for entry in logs] == ["key_1"]


def test_when_one_is_revoked_the_others_follow_at_once(world: World) -> None:
    forced(world, 30)
    run(world, 20)
    world.keys.down = None
    (first, *_) = world.store.forced_keys()
    world.store.update_forced(replace(first, due_at=world.clock.now()))
    assert run(world) == 30
    assert (world.keys.live, world.store.forced_keys()) == (set(), [])


def test_a_key_that_has_ended_by_itself_is_a_risk_no_more(world: World) -> None:
    forced(world)
    run(world, KEY_LIFE + 890)
    assert len(world.store.forced_keys()) == 1, "the relay's clock may be behind ours"
    with capture_logs() as logs:
        run(world, 400)
    assert world.store.forced_keys() == []
    assert any("ended at the relay by itself" in entry["event"] for entry in logs)


def test_a_key_without_an_end_is_tried_for_ever(world: World) -> None:
    secret = world.secret()
    internal = {**secret.internal_data, "upstream_expires_at": None}
    world.manager.register(
        MOUNT, "ai-keys/creds/demo", replace(secret, internal_data=internal), Caller(accessor="a")
    )
    forced(world, 0)
    for _ in range(20):
        run(world, 86_400)
    (key,) = world.store.forced_keys()
    assert key.attempts == 20


def test_a_deletion_that_is_not_yet_a_refusal_is_remembered(world: World) -> None:
    """So that the bound and the lag go on counting from it."""
    deleted_at = world.clock.now()
    told: list[object] = []

    def still(secret: Secret, mount: Mount) -> dict[str, object]:
        told.append(secret.deleted_at)
        raise StillAccepted("still accepted", None, deleted_at=deleted_at, effective_by=deleted_at)

    world.issue()
    world.keys.revoke = still  # type: ignore[method-assign]
    world.manager.revoke_force("ai-keys/")
    run(world, 20)
    assert told == [None, deleted_at]
    (key,) = world.store.forced_keys()
    assert key.deleted_at == deleted_at


def test_neither_lease_nor_key_is_lost_when_the_risk_cannot_be_put_on_record(world: World) -> None:
    lease_id = world.issue().lease_id
    world.keys.down = AWAY
    with pytest.raises(InvalidRequest):
        world.manager.revoke(lease_id)
    arm("store.before_commit=error:1")
    with pytest.raises(StorageError, match="fail point"):
        world.manager.revocation.force(world.record(lease_id), ask_relay=False)
    arm("")
    assert world.manager.lookup(lease_id) is not None
    assert world.store.forced_keys() == []


def test_a_mistake_while_trying_loses_no_key_and_shows_no_secret(world: World) -> None:
    forced(world)
    secret = SecretString("unlike any pattern 0123456789")
    world.keys.down = KeyError(secret.reveal())
    assert run(world, 20) == 1
    (key,) = world.store.forced_keys()
    assert (key.attempts, key.last_error) == (1, "KeyError")
    world.keys.down = Unavailable(f"echo {secret.reveal()}")
    assert run(world, 40) == 1
    assert secret.reveal() not in world.store.forced_keys()[0].last_error


def test_what_a_dead_process_had_claimed_comes_back(world: World) -> None:
    forced(world)
    now = world.clock.now() + timedelta(seconds=20)
    assert len(world.store.claim_forced(now, now + timedelta(seconds=120), 5)) == 1
    assert run(world, 20) == 0
    world.keys.down = None
    assert run(world, 120) == 1
    assert world.store.forced_keys() == []


def test_a_mount_goes_with_its_forced_keys_and_each_is_told(world: World) -> None:
    forced(world)
    other = world.issue(mount=OTHER).lease_id
    world.manager.revoke_force("other/")
    with capture_logs() as logs:
        MountTable(world.store).remove(MOUNT.uuid)
    assert [(entry["key_id"], entry["log_level"]) for entry in logs] == [("key_1", "warning")]
    assert [key.lease_id for key in world.store.forced_keys()] == [other]


def test_the_key_itself_is_sealed(world: World) -> None:
    secret = world.secret()
    probe_key = "sk-holysheep-" + "p" * 32
    internal = {**secret.internal_data, "probe_key": probe_key}
    world.manager.register(
        MOUNT, "ai-keys/creds/demo", replace(secret, internal_data=internal), Caller(accessor="a")
    )
    forced(world, 0)
    (key,) = world.store.forced_keys()
    assert key.internal["probe_key"] == probe_key
    rows = world.store._database.read(
        lambda connection: connection.exec_driver_sql("SELECT * FROM forced_keys").all()
    )
    assert probe_key not in repr(rows)


# in the background

FAST = LeaseSettings(poll=0.1, backoff=Backoff(base=0.1, cap=0.5))


@pytest.fixture
def live_world(store: SqlStore) -> World:
    return World.make(store, SystemClock(), FAST)


@pytest.fixture
def start(live_world: World) -> Iterator[Callable[[], Background]]:
    started: list[Background] = []

    class NoIntents:
        def run_once(self) -> int:
            return 0

    def begin() -> Background:
        background = Background(live_world.store, live_world.manager, NoIntents(), live_world.clock)
        background.start()
        started.append(background)
        return background

    yield begin
    for background in started:
        background.stop(5)


def test_every_process_closes_risks_also_those_of_before_it_started(
    live_world: World, start: Callable[[], Background]
) -> None:
    forced(live_world, 40)
    live_world.keys.down = None
    start()
    start()
    end = time.monotonic() + 15
    while live_world.store.forced_keys():
        assert time.monotonic() < end
        time.sleep(0.02)
    assert live_world.keys.live == set()
