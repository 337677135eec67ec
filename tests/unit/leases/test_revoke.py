"""Revocation: decided on the disk first, reported as it went, never given up."""

from __future__ import annotations

from datetime import timedelta

import pytest
from structlog.testing import capture_logs
from tests.unit.leases.engine import OTHER, World

from aikeys.errors import StorageError
from aikeys.framework.request import Caller, Mount
from aikeys.framework.response import EngineError, InvalidRequest, RelayRateLimited, Secret, Unavailable
from aikeys.leases.lease import StillAccepted
from aikeys.redaction import SecretString
from aikeys.storage.failpoints import arm
from aikeys.storage.records import LeaseState

AWAY = Unavailable("the relay is away")


def test_a_revoked_lease_is_gone_and_its_key_refused(world: World) -> None:
    lease_id = world.issue().lease_id
    world.manager.revoke(lease_id)
    assert (world.manager.lookup(lease_id), world.keys.live) == (None, set())
    world.manager.revoke(lease_id)
    world.manager.revoke("ai-keys/creds/demo/never-there")
    assert world.keys.asked == ["key_1"], "unknown is done already"


def test_the_end_is_on_the_disk_before_the_relay_is_asked(world: World) -> None:
    lease_id = world.issue().lease_id
    seen: list[LeaseState | None] = []
    real = world.keys.revoke

    def look(secret: object, mount: object) -> dict[str, object]:
        seen.append(world.state(lease_id))
        return real(secret, mount)  # type: ignore[arg-type]

    world.keys.revoke = look  # type: ignore[method-assign]
    world.manager.revoke(lease_id)
    assert seen == [LeaseState.REVOKING]


def test_when_the_end_cannot_be_put_on_record_the_relay_is_not_asked(world: World) -> None:
    lease_id = world.issue().lease_id
    arm("store.before_commit=error:1")
    with pytest.raises(Unavailable):
        world.manager.revoke(lease_id)
    assert world.keys.asked == []
    assert world.state(lease_id) is LeaseState.ACTIVE


def test_a_failure_is_said_in_vaults_words_and_tried_again(world: World) -> None:
    lease_id = world.issue().lease_id
    world.keys.failures = [AWAY]
    with pytest.raises(InvalidRequest) as caught:
        world.manager.revoke(lease_id)
    assert caught.value.status == 400
    assert caught.value.texts() == [
        "failed to revoke entry: resp: (*logical.Response)(nil) err: the relay is away"
    ]
    record = world.record(lease_id)
    assert (record.state, record.attempts, record.last_error) == (LeaseState.REVOKING, 1, "the relay is away")
    assert record.due_at == world.clock.now() + timedelta(seconds=20), "10 s times two, as Vault's first"


def test_a_client_that_does_not_wait_leaves_it_to_the_background(world: World) -> None:
    lease_id = world.issue().lease_id
    woken: list[bool] = []
    world.manager.wake = lambda: woken.append(True)
    world.manager.revoke(lease_id, sync=False)
    assert (world.keys.asked, woken) == ([], [True])
    assert len(world.store.claim_due_leases(world.clock.now(), world.clock.now(), 5)) == 1


def test_a_revocation_that_a_client_waits_for_is_not_done_twice(world: World) -> None:
    lease_id = world.issue().lease_id
    claimed: list[int] = []
    real = world.keys.revoke

    def look(secret: object, mount: object) -> dict[str, object]:
        now = world.clock.now()
        claimed.append(len(world.store.claim_due_leases(now, now, 5)))
        return real(secret, mount)  # type: ignore[arg-type]

    world.keys.revoke = look  # type: ignore[method-assign]
    world.manager.revoke(lease_id)
    assert claimed == [0]


def test_a_failing_lease_shows_its_trouble(world: World) -> None:
    lease_id = world.issue().lease_id
    world.keys.failures = [AWAY]
    with pytest.raises(InvalidRequest):
        world.manager.revoke(lease_id)
    world.clock.moved += 30
    view = world.manager.lookup(lease_id)
    assert view is not None
    assert (view.ttl, view.renewable, view.revoke_error, view.failures) == (
        -30,
        False,
        "the relay is away",
        1,
    )
    assert [failing.id for failing in world.manager.failing()] == [lease_id]
    assert (world.manager.count(failing=True), world.manager.count(OTHER.uuid, failing=True)) == (1, 0)


def test_a_look_up_shows_a_lease_as_vault_does(world: World) -> None:
    lease_id = world.issue().lease_id
    view = world.manager.lookup(lease_id)
    assert view is not None
    assert (view.id, view.path, view.renewable, view.revoke_error) == (
        lease_id,
        "ai-keys/creds/demo",
        True,
        "",
    )
    assert (view.issue_time, view.last_renewal) == (world.clock.now(), None)
    assert view.ttl == 59
    assert world.manager.lookup("ai-keys/creds/demo/nope") is None


def still_accepted(world: World, retry_in: float | None) -> StillAccepted:
    now = world.clock.now()
    return StillAccepted(
        "deleted but still accepted",
        retry_in,
        deleted_at=now,
        effective_by=now + timedelta(seconds=retry_in or 0),
    )


def test_a_still_accepted_key_is_looked_at_again_when_the_relay_should_know(world: World) -> None:
    lease_id = world.issue().lease_id
    deleted_at = world.clock.now()
    world.keys.failures = [still_accepted(world, 3.0)]
    with pytest.raises(InvalidRequest, match="still accepted"):
        world.manager.revoke(lease_id)
    record = world.record(lease_id)
    assert (record.attempts, record.due_at) == (0, world.clock.now() + timedelta(seconds=3))
    assert (record.deleted_at, record.effective_by) == (deleted_at, deleted_at + timedelta(seconds=3))


def test_a_key_still_accepted_when_the_relay_should_know_is_a_failure_that_waits_longer_each_time(
    world: World,
) -> None:
    """Else a relay that never refuses it would be asked twice a second, by every such key, for ever."""
    lease_id = world.issue().lease_id
    waits = []
    for _ in range(4):
        world.keys.failures = [still_accepted(world, None)]
        with pytest.raises(InvalidRequest, match="still accepted"):
            world.manager.revoke(lease_id)
        record = world.record(lease_id)
        waits.append((record.due_at - world.clock.now()).total_seconds())
    assert (waits, record.attempts) == ([20, 40, 80, 160], 4)


def test_a_restart_knows_when_the_key_was_deleted(world: World) -> None:
    lease_id = world.issue().lease_id
    world.keys.failures = [still_accepted(world, 3.0)]
    with pytest.raises(InvalidRequest):
        world.manager.revoke(lease_id)
    told: list[object] = []
    real = world.keys.revoke

    def look(secret: Secret, mount: Mount) -> dict[str, object]:
        told.append(secret.deleted_at)
        return real(secret, mount)

    world.keys.revoke = look  # type: ignore[method-assign]
    world.manager.revoke(lease_id)
    assert told == [world.clock.now()]


@pytest.mark.parametrize("hours", [1, 24])
def test_no_wait_is_so_long_that_the_lease_is_taken_for_lost(world: World, hours: int) -> None:
    longest = world.manager.settings.backoff.longest
    for failure in (RelayRateLimited("slow down", hours * 3600), still_accepted(world, hours * 3600.0)):
        lease_id = world.issue().lease_id
        world.keys.failures = [failure]
        with pytest.raises(InvalidRequest):
            world.manager.revoke(lease_id)
        assert world.record(lease_id).due_at == world.clock.now() + timedelta(seconds=longest)
    assert world.manager.tidy()["released"] == 0


def test_a_rate_limit_costs_a_lease_no_attempt(world: World) -> None:
    lease_id = world.issue().lease_id
    world.keys.failures = [RelayRateLimited("slow down", 8)]
    with pytest.raises(InvalidRequest, match="slow down"):
        world.manager.revoke(lease_id)
    record = world.record(lease_id)
    assert record.attempts == 0
    assert record.due_at >= world.clock.now() + timedelta(seconds=8)


def test_a_lease_that_the_relay_ended_and_the_store_could_not_delete_is_done_again(world: World) -> None:
    lease_id = world.issue().lease_id
    arm("revoke.relay_revoked=error:1")
    with pytest.raises(InvalidRequest, match="fail point"):
        world.manager.revoke(lease_id)
    assert world.state(lease_id) is LeaseState.REVOKING
    later = world.clock.now() + timedelta(seconds=world.manager.settings.claim)
    assert len(world.store.claim_due_leases(later, later, 5)) == 1


def test_a_mistake_of_the_engine_neither_ends_the_lease_nor_shows_its_insides(world: World) -> None:
    lease_id = world.issue().lease_id
    world.keys.failures = [KeyError("sk-holysheep-secretsecretsecretsecret")]
    with pytest.raises(InvalidRequest, match=r"internal error \(KeyError\)"):
        world.manager.revoke(lease_id)
    assert world.record(lease_id).attempts == 1


@pytest.mark.parametrize("kind", [EngineError, StorageError, Unavailable])
def test_a_secret_in_an_error_reaches_neither_the_client_nor_the_disk(
    world: World, kind: type[Exception]
) -> None:
    secret = SecretString("unlike any pattern 0123456789")
    lease_id = world.issue().lease_id
    world.keys.failures = [kind(f"echo {secret.reveal()}")]
    with pytest.raises(InvalidRequest) as caught:
        world.manager.revoke(lease_id)
    assert secret.reveal() not in caught.value.message + world.record(lease_id).last_error


def test_long_errors_are_cut(world: World) -> None:
    lease_id = world.issue().lease_id
    world.keys.failures = [EngineError("x" * 1000)]
    with pytest.raises(InvalidRequest):
        world.manager.revoke(lease_id)
    assert len(world.record(lease_id).last_error) == 240


# prefixes


def test_a_prefix_ends_at_a_slash(world: World) -> None:
    a, ab = world.issue(path="creds/a").lease_id, world.issue(path="creds/ab").lease_id
    world.manager.revoke_prefix("ai-keys/creds/a")
    assert (world.state(a), world.state(ab)) == (None, LeaseState.ACTIVE)


def test_a_prefix_may_be_one_leases_id(world: World) -> None:
    one, other = world.issue().lease_id, world.issue().lease_id
    world.manager.revoke_prefix(one)
    assert (world.state(one), world.state(other)) == (None, LeaseState.ACTIVE)
    world.keys.failures = [AWAY]
    with pytest.raises(InvalidRequest) as caught:
        world.manager.revoke_prefix(other)
    assert caught.value.texts() == [
        f'failed to revoke "{other}": failed to revoke entry: resp: (*logical.Response)(nil) err: the relay is away'
    ]


def test_an_empty_prefix_has_nothing_to_do(world: World) -> None:
    world.manager.revoke_prefix("nothing/here")
    world.manager.revoke_force("nothing/here")
    assert world.keys.asked == []


def test_a_failing_prefix_names_the_first_lease_and_all_others_end_too(world: World) -> None:
    ids = sorted(world.issue().lease_id for _ in range(5))
    world.keys.down = AWAY
    with pytest.raises(InvalidRequest) as caught:
        world.manager.revoke_prefix("ai-keys/")
    reason = "failed to revoke entry: resp: (*logical.Response)(nil) err: the relay is away"
    assert caught.value.texts() == [f'failed to revoke "{ids[0]}" (1 / 5): {reason}']
    assert {world.state(lease_id) for lease_id in ids} == {LeaseState.REVOKING}


def test_a_prefix_of_many_is_revoked_several_at_a_time(world: World) -> None:
    world.keys.seconds = 0.01
    for _ in range(80):
        world.issue()
    world.manager.revoke_prefix("ai-keys/")
    assert (world.manager.count(), world.keys.live) == (0, set())
    assert 1 < world.keys.most_at_once <= world.manager.settings.workers


def test_a_prefix_that_a_client_does_not_wait_for_is_marked_in_one_step(world: World) -> None:
    ids = [world.issue().lease_id for _ in range(3)]
    world.manager.revoke_prefix("ai-keys/", sync=False)
    assert {world.state(lease_id) for lease_id in ids} == {LeaseState.REVOKING}
    assert world.keys.asked == []


def test_force_deletes_what_the_relay_does_not_and_logs_each_risk(world: World) -> None:
    for _ in range(4):
        world.issue()
    world.keys.failures = [AWAY]
    with capture_logs() as logs:
        world.manager.revoke_force("ai-keys/")
    assert world.manager.count() == 0
    (key_id,) = world.keys.live
    risks = [entry for entry in logs if "by force" in entry["event"]]
    assert [(risk["key_id"], risk["error"]) for risk in risks] == [(key_id, "the relay is away")]


def test_force_does_not_wait_for_a_dead_relay_lease_by_lease(world: World) -> None:
    for _ in range(200):
        world.issue()
    world.keys.down = AWAY
    world.manager.revoke_force("ai-keys/")
    assert world.manager.count() == 0
    assert len(world.keys.asked) < 100


# tokens


def test_a_tokens_death_ends_its_leases_and_those_of_batch_tokens_below_it(world: World) -> None:
    end = world.clock.now() + timedelta(hours=1)
    own = world.issue(caller=Caller(accessor="x")).lease_id
    child = world.issue(
        caller=Caller(accessor="", token_type="batch", orphan=False, parent_accessor="x", expire_time=end)
    ).lease_id
    orphan = world.issue(caller=Caller(accessor="", token_type="batch", expire_time=end)).lease_id
    stranger = world.issue(caller=Caller(accessor="y")).lease_id
    assert world.manager.revoke_of_tokens(["x"]) == 2
    assert world.manager.revoke_of_tokens([""]) == 0
    states = {lease_id: world.state(lease_id) for lease_id in (own, child, orphan, stranger)}
    assert states == {
        own: LeaseState.REVOKING,
        child: LeaseState.REVOKING,
        orphan: LeaseState.ACTIVE,
        stranger: LeaseState.ACTIVE,
    }


def test_lists_show_one_level(world: World) -> None:
    one = world.issue(path="creds/a").lease_id
    world.issue(mount=OTHER)
    assert world.manager.list("") == ["ai-keys/", "other/"]
    assert world.manager.list("ai-keys") == ["creds/"]
    assert world.manager.list("ai-keys/creds/a") == [one.rsplit("/", 1)[1]]


def test_tidy_releases_work_that_waits_for_an_impossible_time(world: World) -> None:
    lease_id = world.issue().lease_id
    world.clock.moved += 86400
    world.manager.revoke(lease_id, sync=False)
    world.clock.moved -= 86400
    report = world.manager.tidy()
    assert (report["released"], report["leases"], report["failing"], report["intents"]) == (1, 1, 0, 0)
