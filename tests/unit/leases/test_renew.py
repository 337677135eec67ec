"""Renewal: the relay first, then the lease; never past the maximum; never once the end is decided."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.leases.engine import MOUNT, World

from aikeys.framework.request import Caller
from aikeys.framework.response import EngineError, InvalidRequest, Unavailable
from aikeys.redaction import SecretString
from aikeys.storage.failpoints import arm
from aikeys.storage.records import LeaseState

FAILED = "failed to renew entry: resp: (*logical.Response)(nil) err: "


def refused(world: World, lease_id: str, increment: int = 0) -> str:
    with pytest.raises(InvalidRequest) as caught:
        world.manager.renew(lease_id, increment)
    assert caught.value.status == 400
    (text,) = caught.value.texts()
    return text


def test_a_renewal_counts_from_now(world: World) -> None:
    lease_id = world.issue().lease_id
    world.clock.moved += 30
    renewed = world.manager.renew(lease_id)
    assert (renewed.lease_id, renewed.ttl, renewed.renewable, renewed.warnings) == (lease_id, 60, True, [])
    record = world.record(lease_id)
    assert record.expire_time == world.clock.now() + timedelta(seconds=60)
    assert record.last_renewal == world.clock.now()
    assert record.internal["renewed"] is True, "what the engine learnt at the relay is kept"
    assert world.keys.extended == [record.issue_time]


def test_an_increment_is_the_new_rest_and_may_shorten(world: World) -> None:
    lease_id = world.issue().lease_id
    assert world.manager.renew(lease_id, 10).ttl == 10
    assert world.record(lease_id).expire_time == world.clock.now() + timedelta(seconds=10)


def test_the_maximum_counts_from_the_issue(world: World) -> None:
    lease_id = world.issue().lease_id
    for moved, ttl in ((50, 60), (50, 60), (50, 30)):
        world.clock.moved += moved
        renewed = world.manager.renew(lease_id)
        assert renewed.ttl == ttl
    assert renewed.warnings == [
        'TTL of "1m" exceeded the effective max_ttl of "30s"; TTL value is capped accordingly'
    ]


def test_the_roles_and_the_mounts_limits_of_now_apply(world: World) -> None:
    lease_id = world.issue().lease_id
    world.keys.role_ttl, world.keys.role_max = 20, 25
    assert world.manager.renew(lease_id).ttl == 20
    world.mounts[MOUNT.uuid] = replace(MOUNT, max_lease_ttl=15)
    assert world.manager.renew(lease_id).ttl == 15
    world.mounts[MOUNT.uuid] = MOUNT
    world.keys.role_ttl, world.keys.role_max = 60, 3
    world.clock.moved += 4
    before = world.record(lease_id)
    assert refused(world, lease_id) == FAILED + "past the max TTL, cannot renew"
    assert world.record(lease_id) == before, "it runs to its end"


def test_unknown_ended_and_fixed_leases_are_refused_in_vaults_words(world: World) -> None:
    assert refused(world, "ai-keys/creds/demo/nope") == "lease not found"
    fixed = world.issue(renewable=False).lease_id
    assert refused(world, fixed) == "lease is not renewable"
    end = world.clock.now() + timedelta(hours=1)
    batch = world.issue(
        renewable=False, caller=Caller(accessor="", token_type="batch", expire_time=end)
    ).lease_id
    assert refused(world, batch) == FAILED + "unsupported operation"
    short = world.issue().lease_id
    world.clock.moved += 60
    assert refused(world, short) == "lease expired"
    assert world.keys.extended == [], "the relay is not even asked"


def test_a_lease_whose_end_is_decided_is_refused(world: World) -> None:
    lease_id = world.issue().lease_id
    world.manager.revoke(lease_id, sync=False)
    assert refused(world, lease_id) == "lease expired"
    record = world.record(lease_id)
    world.store.update_lease(replace(record, attempts=6), expected=LeaseState.REVOKING)
    assert refused(world, lease_id) == "lease is expired and has failed previous revocation attempts"
    run_out = world.issue().lease_id
    world.clock.moved += 60
    assert refused(world, run_out) == "lease expired"
    assert world.keys.extended == [], "the relay is not even asked"


def test_the_engines_reason_is_passed_on(world: World) -> None:
    lease_id = world.issue().lease_id
    world.keys.renew_failure = EngineError('error during renew: could not find role with name "demo"')
    assert refused(world, lease_id) == FAILED + 'error during renew: could not find role with name "demo"'
    world.keys.renew_failure = Unavailable("the relay is away")
    assert refused(world, lease_id) == FAILED + "the relay is away"
    assert world.record(lease_id).last_renewal is None


def test_a_revocation_during_a_renewal_wins(world: World) -> None:
    lease_id = world.issue().lease_id
    world.keys.during = lambda: world.manager.revoke(lease_id, sync=False)
    assert refused(world, lease_id) == "lease expired"
    assert world.state(lease_id) is LeaseState.REVOKING
    world.keys.during = None
    other = world.issue().lease_id
    world.keys.during = lambda: world.manager.revoke(other)
    assert refused(world, other) == "lease not found"


def test_a_batch_tokens_lease_never_outlives_the_token(world: World) -> None:
    end = world.clock.now() + timedelta(seconds=45)
    lease_id = world.issue(caller=Caller(accessor="", token_type="batch", expire_time=end)).lease_id
    world.clock.moved += 0.4
    renewed = world.manager.renew(lease_id)
    assert (renewed.ttl, renewed.warnings) == (44, [])
    assert world.record(lease_id).expire_time == end


def test_a_renewal_that_cannot_be_stored_leaves_the_lease_as_it_was(world: World) -> None:
    lease_id = world.issue().lease_id
    before = world.record(lease_id)
    arm("store.before_commit=error:1")
    with pytest.raises(Unavailable):
        world.manager.renew(lease_id, 100)
    assert world.record(lease_id) == before


def test_a_secret_in_the_engines_reason_is_not_passed_on(world: World) -> None:
    secret = SecretString("unlike any pattern 0123456789")
    lease_id = world.issue().lease_id
    world.keys.renew_failure = EngineError(f"echo {secret.reveal()}")
    assert secret.reveal() not in refused(world, lease_id)
