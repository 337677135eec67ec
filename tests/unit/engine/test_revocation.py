"""Revoked means refused: what the relay does not confirm is never taken for revoked."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.engine.world import MANAGEMENT_KEY, World, refused

from aikeys.engine.revocation import REFUSALS, Revocation
from aikeys.framework.request import Operation, Request
from aikeys.framework.response import EngineError, InvalidRequest, RelayRateLimited, Secret, Unavailable
from aikeys.leases.lease import StillAccepted
from aikeys.relays.interface import Kind, Probe


@pytest.fixture
def secret(ready: World) -> Secret:
    leased = ready.lease(ready.issue("demo"))
    ready.books.calls.clear()
    return leased


@pytest.fixture
def verified(ready: World) -> Secret:
    ready.write("roles/demo", verify_revocation=True)
    leased = ready.lease(ready.issue("demo"))
    ready.books.calls.clear()
    return leased


def forget(world: World, secret: Secret) -> None:
    """The relay's books no longer hold the key."""
    del world.books.keys[secret.internal_data["ref"]["key_id"]]


def test_a_revoked_key_is_reported_with_the_relays_bound(ready: World, secret: Secret) -> None:
    assert ready.revoke(secret) == {"effective_within": 0.5, "lag": None}

    (key,) = ready.books.keys.values()
    assert key.revoked_at is not None
    assert ready.books.count("probe") == 0, "nobody looks unless the role says so"


def test_revoking_again_is_no_error(ready: World, secret: Secret) -> None:
    ready.revoke(secret)

    assert ready.revoke(secret) == {"effective_within": 0.5, "lag": None}


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (Kind.UNAVAILABLE, Unavailable),
        (Kind.TIMEOUT, Unavailable),
        (Kind.RATE_LIMITED, RelayRateLimited),
        (Kind.AUTH, EngineError),
        (Kind.FORBIDDEN, EngineError),
        (Kind.PROTOCOL, EngineError),
        (Kind.CONFLICT, EngineError),
    ],
)
def test_any_failure_of_the_relay_is_tried_again(
    kind: Kind, error: type[EngineError], ready: World, secret: Secret
) -> None:
    ready.books.faults["revoke"] = refused(kind, "no", retry_after=3.2)

    with pytest.raises(error, match="revoking key key_1: no") as failed:
        ready.revoke(secret)

    if isinstance(failed.value, RelayRateLimited):
        assert failed.value.retry_after == 4
    assert not isinstance(failed.value, InvalidRequest), "Vault's core gives up on an invalid request"


def test_a_deleted_role_can_still_be_revoked(ready: World, secret: Secret) -> None:
    ready.delete("roles/demo")

    assert ready.revoke(secret)["effective_within"] == 0.5


# -- the relay does not know the key -------------------------------------------------------------------------------


def test_not_found_counts_once_the_management_key_is_proven_good(ready: World, secret: Secret) -> None:
    forget(ready, secret)

    assert ready.revoke(secret) == {"effective_within": 0.5, "lag": None}

    assert [call for call, _key in ready.books.calls] == ["revoke", "check"]


def test_not_found_does_not_count_when_the_management_key_is_dead(ready: World, secret: Secret) -> None:
    """A revoked management key finds nothing, and would let every key live on."""
    forget(ready, secret)
    ready.books.accepted_keys.clear()

    with pytest.raises(EngineError, match="counts only once it accepts the management key"):
        ready.revoke(secret)


def test_not_found_does_not_count_when_the_relay_cannot_be_asked(ready: World, secret: Secret) -> None:
    forget(ready, secret)
    ready.books.faults["check"] = refused(Kind.TIMEOUT, "no answer")

    with pytest.raises(Unavailable):
        ready.revoke(secret)


def test_the_proof_of_the_management_key_holds_a_minute(ready: World, secret: Secret) -> None:
    forget(ready, secret)
    ready.revoke(secret)
    ready.clock.moved += 59
    ready.revoke(secret)
    assert ready.books.count("check") == 1

    ready.books.accepted_keys.clear()
    ready.clock.moved += 2
    with pytest.raises(EngineError):
        ready.revoke(secret)
    assert ready.books.count("check") == 2
    with pytest.raises(EngineError):
        ready.revoke(secret)
    assert ready.books.count("check") == 3, "a failed proof is not remembered as one"


def test_another_management_key_needs_a_proof_of_its_own(ready: World, secret: Secret) -> None:
    forget(ready, secret)
    ready.revoke(secret)
    other = "sk-holysheep-admin-" + "B" * 32
    ready.write("config", management_key=other, verify_connection=False)

    with pytest.raises(EngineError, match="counts only once"):
        ready.revoke(secret)


def test_not_found_at_another_address_never_counts(ready: World, secret: Secret) -> None:
    ready.write("config", base_url="https://new.example/v1", management_key=MANAGEMENT_KEY)
    forget(ready, secret)

    with pytest.raises(EngineError, match=r"minted at https://relay\.example/v1: its revocation waits"):
        ready.revoke(secret)


def test_another_address_that_knows_the_key_revokes_it(ready: World, secret: Secret) -> None:
    """The same relay under a new name."""
    ready.write("config", base_url="https://new.example/v1", management_key=MANAGEMENT_KEY)

    assert ready.revoke(secret)["effective_within"] == 0.5


def test_a_key_is_never_revoked_at_a_relay_of_another_kind(ready: World, secret: Secret) -> None:
    """Its id could name somebody else's key there."""
    ready.write("config", relay="plain")
    ready.books.calls.clear()

    with pytest.raises(
        EngineError, match="was minted at a holysheep relay, but config now names a plain one"
    ):
        ready.revoke(secret)
    assert ready.books.calls == []


def test_without_a_config_a_revocation_waits_and_is_not_given_up(ready: World, secret: Secret) -> None:
    ready.store.delete_lease(secret.lease_id)
    ready.delete("config")

    with pytest.raises(EngineError, match="write ai-keys/config first") as failed:
        ready.revoke(secret)
    assert not isinstance(failed.value, InvalidRequest)


# -- verified ------------------------------------------------------------------------------------------------------


def test_a_verified_revocation_reports_the_lag_it_saw(ready: World, verified: Secret) -> None:
    ready.books.probes = [Probe.ACCEPTED, Probe.ACCEPTED]

    report = ready.revoke(verified)

    assert report["lag"] == pytest.approx(0.15), "two pauses of 0.05 and 0.1 seconds"
    assert report["effective_within"] == pytest.approx(0.35), "the relay's promise counts from the deletion"
    assert ready.books.count("probe") == 2 + REFUSALS


def test_one_nodes_refusal_is_not_taken_for_that_of_all(ready: World, verified: Secret) -> None:
    """Behind one address some nodes know of a deletion before others."""
    ready.books.probes = [Probe.REJECTED, Probe.REJECTED, Probe.ACCEPTED, Probe.REJECTED, Probe.UNKNOWN]

    assert ready.revoke(verified)["lag"] == pytest.approx(0.15)

    assert ready.books.count("probe") == 5 + REFUSALS


def test_a_relay_that_answers_slowly_is_believed_when_its_bound_is_over(
    ready: World, verified: Secret
) -> None:
    """So many refusals may not fit into one attempt, nor into any later one."""
    ready.books.slow_probes = 1.9
    ready.books.capabilities = replace(ready.books.capabilities, revocation_lag=3.0)

    with pytest.raises(StillAccepted, match="was not refused often enough to be sure") as failed:
        ready.revoke(verified)
    assert failed.value.retry_in is not None

    assert ready.revoke(verified)["lag"] == pytest.approx(5.7)


def test_a_key_refused_at_once_has_no_lag(ready: World, verified: Secret) -> None:
    assert ready.revoke(verified) == {"effective_within": 0.5, "lag": 0.0}


def test_a_deleted_key_that_still_works_is_not_revoked(ready: World, verified: Secret) -> None:
    ready.books.probes = [Probe.ACCEPTED] * 100
    before = ready.clock.monotonic()

    with pytest.raises(StillAccepted, match="was deleted at the relay but is still accepted") as failed:
        ready.revoke(verified)

    assert ready.clock.monotonic() - before <= 2.0, "one call takes no longer"
    assert failed.value.retry_in is None, "the relay's half second and our slack are over"


def test_the_next_attempt_comes_when_the_relays_bound_is_over(ready: World, verified: Secret) -> None:
    ready.books.capabilities = replace(ready.books.capabilities, revocation_lag=60.0)
    ready.books.probes = [Probe.ACCEPTED] * 100

    with pytest.raises(StillAccepted) as failed:
        ready.revoke(verified)

    assert failed.value.retry_in is not None
    assert 58 < failed.value.retry_in <= 61


def test_the_lag_counts_from_the_first_deletion(ready: World, verified: Secret) -> None:
    ready.books.probes = [Probe.ACCEPTED] * 100
    with pytest.raises(StillAccepted):
        ready.revoke(verified)
    ready.books.probes.clear()
    ready.clock.moved += 60

    lag = ready.revoke(verified)["lag"]

    assert 60 < lag < 63


def test_the_lag_counts_from_the_first_deletion_after_a_restart_too(ready: World, verified: Secret) -> None:
    ready.books.capabilities = replace(ready.books.capabilities, revocation_lag=120.0)
    ready.books.probes = [Probe.ACCEPTED] * 100
    deleted_at = ready.clock.now()
    with pytest.raises(StillAccepted) as failed:
        ready.revoke(verified)
    assert failed.value.deleted_at == deleted_at
    assert failed.value.effective_by == deleted_at + timedelta(seconds=120)
    ready.books.probes.clear()
    ready.clock.moved += 60

    restarted = Revocation(ready.services)
    secret = replace(verified, deleted_at=failed.value.deleted_at)
    report = restarted.revoke(Request(Operation.REVOKE, "", ready.mount, secret=secret)).data

    assert report is not None
    assert 60 < report["lag"] < 63
    assert report["effective_within"] == pytest.approx(120 - report["lag"])


def test_a_key_still_accepted_after_the_bound_is_still_not_revoked(ready: World, verified: Secret) -> None:
    """And it is a failure like any other from then on, whose pauses grow."""
    ready.books.probes = [Probe.ACCEPTED] * 100
    with pytest.raises(StillAccepted):
        ready.revoke(verified)
    for _attempt in range(3):
        ready.books.probes = [Probe.ACCEPTED] * 100
        ready.clock.moved += 3600
        with pytest.raises(StillAccepted) as failed:
            ready.revoke(verified)
        assert failed.value.retry_in is None


def test_a_key_nobody_can_try_counts_only_after_the_relays_bound(ready: World, verified: Secret) -> None:
    ready.books.capabilities = replace(ready.books.capabilities, revocation_lag=60.0)
    ready.books.probes = [Probe.UNKNOWN] * 100
    with pytest.raises(StillAccepted, match="could not be tried"):
        ready.revoke(verified)

    ready.clock.moved += 61
    ready.books.probes = [Probe.UNKNOWN] * 100

    assert ready.revoke(verified) == {"effective_within": 0.0, "lag": None}


def test_the_plaintext_is_in_no_error(ready: World, verified: Secret) -> None:
    (key,) = ready.books.keys.values()
    ready.books.probes = [Probe.ACCEPTED] * 100

    with pytest.raises(StillAccepted) as failed:
        ready.revoke(verified)

    assert key.secret not in str(failed.value)
    assert key.secret not in repr(failed.value.__dict__)


def test_a_settled_revocation_is_forgotten(ready: World, verified: Secret) -> None:
    ready.revoke(verified)
    ready.clock.moved += 3600

    assert ready.revoke(verified)["lag"] == 0.0, "a repetition counts from itself"
