"""Many leases that end together: decided on the disk first, no failure holds up another, nothing is forgotten."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.leases.engine import MOUNT, World

from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Caller
from aikeys.framework.response import EngineError, Unavailable
from aikeys.leases.bulk import BulkRevocation, Outcome
from aikeys.leases.settings import LeaseSettings
from aikeys.storage import SqlStore
from aikeys.storage.failpoints import arm
from aikeys.storage.records import Holder, LeaseState

AWAY = Unavailable("the relay is away")
DEMO = Holder(role="demo")


def bulk(world: World) -> BulkRevocation:
    return BulkRevocation(world.store, world.clock, world.manager)


def issue(world: World, count: int) -> list[str]:
    return [world.issue().lease_id for _ in range(count)]


def end(world: World, ids: list[str], seconds: float = 60.0) -> Outcome:
    return bulk(world).end(ids, "revoke", Deadline.after(seconds))


def test_all_leases_of_a_holder_end(world: World) -> None:
    mine = issue(world, 40)
    other = world.issue(caller=Caller(accessor="another")).lease_id
    ids = bulk(world).of_holder(MOUNT.uuid, Holder(token_accessor="accessor-1"))
    assert ids == sorted(mine)

    assert end(world, ids) == Outcome(revoked=40)

    assert bulk(world).of_holder(MOUNT.uuid, DEMO) == [other]
    assert len(world.keys.live) == 1
    assert end(world, []) == Outcome()


def test_the_end_of_all_is_on_the_disk_before_the_first_is_tried(world: World) -> None:
    ids = issue(world, 20)
    seen: list[set[LeaseState | None]] = []
    real = world.keys.revoke

    def look(secret: object, mount: object) -> dict[str, object]:
        seen.append({world.state(lease_id) for lease_id in ids} - {None})
        return real(secret, mount)  # type: ignore[arg-type]

    world.keys.revoke = look  # type: ignore[method-assign]
    end(world, ids)
    assert len(seen) == 20
    assert all(states == {LeaseState.REVOKING} for states in seen)


def test_when_the_end_cannot_be_put_on_record_nothing_ends(world: World) -> None:
    ids = issue(world, 3)
    arm("store.before_commit=error:1")
    with pytest.raises(Unavailable):
        end(world, ids)
    assert world.keys.asked == []
    assert {world.state(lease_id) for lease_id in ids} == {LeaseState.ACTIVE}


def test_one_that_fails_holds_up_no_other_and_is_tried_again(world: World) -> None:
    ids = issue(world, 10)
    world.keys.failures = [EngineError("the relay stumbles"), RuntimeError("nobody expected this")]

    outcome = end(world, ids)

    assert outcome.revoked == 8
    assert sorted(outcome.failures.values()) == ["internal error (RuntimeError)", "the relay stumbles"]
    for lease_id in outcome.failures:
        record = world.record(lease_id)
        assert (record.state, record.attempts) == (LeaseState.REVOKING, 1)
        assert record.due_at > world.clock.now()


def test_a_relay_that_is_away_is_not_asked_about_every_single_one(store: SqlStore) -> None:
    from tests.unit.leases.engine import TestClock

    world = World.make(store, TestClock(), LeaseSettings(workers=2, trip=5))
    ids = issue(world, 60)
    world.keys.down = AWAY
    woken: list[bool] = []
    world.manager.wake = lambda: woken.append(True)

    outcome = end(world, ids)

    assert (outcome.revoked, len(outcome.failures) + outcome.pending) == (0, 60)
    assert 5 <= len(world.keys.asked) <= 6, "those in flight when it was clear"
    assert woken
    due = world.store.claim_due_leases(world.clock.now(), world.clock.now(), 100)
    assert len(due) == outcome.pending, "the background has them at once"


def test_the_answer_comes_in_time_and_the_rest_goes_on(store: SqlStore) -> None:
    from tests.unit.leases.engine import TestClock

    world = World.make(store, TestClock(), LeaseSettings(workers=4, bulk_wait=0.3))
    ids = issue(world, 30)
    world.keys.seconds = 0.2
    begin = time.monotonic()

    outcome = end(world, ids)

    assert time.monotonic() - begin < 5, (
        "thirty of them take longer than the bound, and it is waited for no more"
    )
    assert outcome.pending > 0
    assert outcome.revoked + outcome.pending == 30
    assert outcome.failures == {}
    states = {world.state(lease_id) for lease_id in ids}
    assert states <= {LeaseState.REVOKING, None}, "every end is decided"
    for thread in threading.enumerate():
        if thread.name.startswith("aikeys-bulk"):
            thread.join(10)
    due = world.store.claim_due_leases(world.clock.now(), world.clock.now(), 100)
    assert len(due) == 30 - len(world.keys.revoked)


def test_many_more_than_are_tried_at_once_all_end(store: SqlStore) -> None:
    from tests.unit.leases.engine import TestClock

    world = World.make(store, TestClock(), LeaseSettings(workers=4))
    ids = issue(world, 50)
    world.keys.failures = [EngineError("the relay stumbles")] * 3
    woken: list[bool] = []
    world.manager.wake = lambda: woken.append(True)

    outcome = end(world, ids)

    assert (outcome.revoked, len(outcome.failures), outcome.pending) == (47, 3, 0)
    assert world.keys.most_at_once <= 4
    assert woken, "the background may take part"


def test_the_callers_own_deadline_is_kept_too(world: World) -> None:
    ids = issue(world, 3)
    assert end(world, ids, seconds=0.0).pending == 3
    assert {world.state(lease_id) for lease_id in ids} == {LeaseState.REVOKING}


def test_those_that_are_tried_are_nobody_elses_meanwhile(world: World) -> None:
    ids = issue(world, 3)
    claimed: list[int] = []
    real = world.keys.revoke

    def look(secret: object, mount: object) -> dict[str, object]:
        soon = world.clock.now() + timedelta(seconds=19)
        claimed.append(len(world.store.claim_due_leases(soon, soon, 5)))
        return real(secret, mount)  # type: ignore[arg-type]

    world.keys.revoke = look  # type: ignore[method-assign]
    end(world, ids)
    assert claimed == [0, 0, 0]


def test_a_lease_that_has_ended_is_found_by_its_key(world: World) -> None:
    caller = Caller(
        accessor="accessor-1",
        entity_id="entity-1",
        token_path="auth/approle/login",
        metadata={"role_name": "billing"},
    )
    secret = replace(world.secret(), key_hash="k", prefix_hash="p")
    lease_id = world.manager.register(MOUNT, "ai-keys/creds/demo", secret, caller).lease_id
    (living,) = bulk(world).of_key(MOUNT.uuid, key_hash="k")
    assert living.lease_id == lease_id
    assert (living.login_path, living.login_role) == ("auth/approle/login", "billing")
    world.clock.moved += 7

    world.manager.revoke(lease_id)

    assert bulk(world).of_key(MOUNT.uuid, key_hash="k") == []
    (ended,) = bulk(world).ended_of_key(MOUNT.uuid, prefix_hash="p")
    assert ended.lease_id == lease_id
    assert (ended.role, ended.entity_id, ended.token_accessor) == ("demo", "entity-1", "accessor-1")
    assert (ended.login_path, ended.login_role) == ("auth/approle/login", "billing")
    assert ended.issue_time == living.issue_time
    assert ended.ended_at == world.clock.now()
    assert ended.key_ref == secret.internal_data["ref"]
    assert (ended.cause, ended.forced, ended.lag) == ("revoke", False, None)
    assert ended.effective_by == world.clock.now() + timedelta(seconds=0.5)
    assert bulk(world).remembered_since(MOUNT.uuid) == ended.ended_at


def test_a_lease_that_was_given_up_by_force_is_remembered_as_that(world: World) -> None:
    secret = replace(world.secret(), key_hash="k", prefix_hash="p")
    world.manager.register(MOUNT, "ai-keys/creds/demo", secret, Caller(accessor="a"))
    world.keys.down = AWAY

    world.manager.revoke_force("ai-keys/creds/demo")

    (ended,) = bulk(world).ended_of_key(MOUNT.uuid, key_hash="k")
    assert (ended.cause, ended.forced, ended.effective_by) == ("force", True, None)
    assert ended.key_ends is not None


def test_ended_leases_are_forgotten_after_a_month(world: World) -> None:
    secret = replace(world.secret(), key_hash="k", prefix_hash="p")
    lease_id = world.manager.register(MOUNT, "ai-keys/creds/demo", secret, Caller(accessor="a")).lease_id
    world.manager.revoke(lease_id)
    world.clock.moved += 30 * 24 * 3600 - 1
    world.manager.tidy()
    assert len(bulk(world).ended_of_key(MOUNT.uuid, key_hash="k")) == 1
    world.clock.moved += 2
    world.manager.tidy()
    assert bulk(world).ended_of_key(MOUNT.uuid, key_hash="k") == []


def test_no_rate_looks_further_back_than_issues_are_kept() -> None:
    from aikeys.engine.role import MAX_ISSUE_PERIOD

    assert LeaseSettings().remember >= MAX_ISSUE_PERIOD
