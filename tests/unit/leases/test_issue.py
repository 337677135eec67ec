"""A lease and its key come to exist together, or neither does."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from tests.unit.leases.engine import MOUNT, World

from aikeys.framework.request import Caller
from aikeys.framework.response import InvalidRequest, Unavailable
from aikeys.storage.failpoints import arm
from aikeys.storage.records import LeaseState


def test_a_lease_takes_the_place_of_its_intent(world: World) -> None:
    registered = world.issue()
    assert re.fullmatch(r"ai-keys/creds/demo/[0-9A-Za-z]{24}", registered.lease_id)
    assert (registered.ttl, registered.renewable, registered.warnings) == (60, True, [])
    assert world.store.intents() == []
    record = world.record(registered.lease_id)
    assert record.expire_time == world.clock.now() + timedelta(seconds=60)
    assert (record.role, record.token_accessor, record.state) == ("demo", "accessor-1", LeaseState.ACTIVE)


def test_no_two_leases_have_one_id(world: World) -> None:
    assert len({world.issue().lease_id for _ in range(50)}) == 50


def test_the_mounts_limits_apply_and_are_said(world: World) -> None:
    registered = world.issue(ttl=9000, max_ttl=0)
    assert registered.ttl == 7200
    assert registered.warnings == [
        'TTL of "2h30m" exceeded the effective max_ttl of "2h"; TTL value is capped accordingly'
    ]
    assert world.issue(ttl=0, max_ttl=0).ttl == 3600


def test_a_batch_token_caps_its_lease_and_a_service_token_does_not(world: World) -> None:
    end = world.clock.now() + timedelta(seconds=30)
    batch = Caller(accessor="", token_type="batch", expire_time=end)
    assert world.issue(caller=batch).ttl == 30
    assert world.issue(caller=Caller(accessor="a", expire_time=end)).ttl == 60


def test_a_batch_token_that_ends_now_gets_nothing_and_the_key_is_revoked(world: World) -> None:
    over = Caller(accessor="", token_type="batch", expire_time=world.clock.now())
    with pytest.raises(InvalidRequest, match="nothing was handed out"):
        world.issue(caller=over)
    assert (world.keys.live, world.store.intents(), world.manager.count()) == (set(), [], 0)


def test_a_lease_that_cannot_be_stored_is_no_lease_and_its_key_is_revoked(world: World) -> None:
    arm("issue.before_lease=error:1")
    with pytest.raises(Unavailable, match="the key is not handed out and is revoked") as caught:
        world.issue()
    assert caught.value.status == 503
    assert (world.keys.live, world.store.intents(), world.manager.count()) == (set(), [], 0)


def test_a_commit_of_unknown_outcome_is_undone(world: World) -> None:
    """The lease reached the disk and the store says it did not: the caller gets an error, so the lease must go."""
    arm("issue.lease_stored=error:1")
    with pytest.raises(Unavailable):
        world.issue()
    assert (world.keys.live, world.store.intents(), world.manager.count()) == (set(), [], 0)


def test_what_can_neither_be_stored_nor_revoked_stays_on_record(world: World) -> None:
    arm("issue.before_lease=error:1")
    world.keys.failures = [Unavailable("the relay is away")]
    with pytest.raises(Unavailable):
        world.issue()
    (intent,) = world.store.intents()
    assert intent.key_ref is not None
    assert intent.key_ref["key_id"] == "key_1"
    assert intent.order["expires_at"].startswith("2026-01-02")
    assert (world.keys.live, world.manager.count()) == ({"key_1"}, 0)


def test_when_the_store_is_gone_the_mints_own_intent_still_names_the_key(world: World) -> None:
    secret = world.secret()
    arm("issue.before_lease=error:1,store.before_commit=error:1")
    world.keys.failures = [Unavailable("the relay is away")]
    with pytest.raises(Unavailable):
        world.manager.register(MOUNT, "ai-keys/creds/demo", secret, Caller(accessor="a"))
    assert [intent.intent_id for intent in world.store.intents()] == [secret.intent_id]


def test_a_key_whose_intent_was_settled_is_not_handed_out(world: World) -> None:
    secret = world.secret()
    now = world.clock.now() + timedelta(minutes=1)
    world.store.claim_intents(now, now, 5)
    with pytest.raises(Unavailable, match="settled meanwhile"):
        world.manager.register(MOUNT, "ai-keys/creds/demo", secret, Caller(accessor="a"))
    assert (world.keys.live, world.manager.count()) == (set(), 0)
