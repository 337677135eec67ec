"""A renewal uses the role's numbers of now, and moves the end at the relay before the lease's."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.unit.engine.world import MANAGEMENT_KEY, START, World, refused

from aikeys.engine.lease_data import LeaseData
from aikeys.framework.request import Caller
from aikeys.framework.response import EngineError, RelayRateLimited, Unavailable
from aikeys.relays.interface import Kind


def test_a_lease_within_the_keys_life_is_renewed_without_asking_the_relay(ready: World) -> None:
    secret = ready.lease(ready.issue("demo"))
    ready.books.calls.clear()
    ready.clock.moved += 30

    renewed = ready.renew(secret)

    assert (renewed.ttl, renewed.max_ttl) == (60, 180)
    assert renewed.internal_data == secret.internal_data
    assert ready.books.calls == []


def test_the_roles_numbers_of_now_hold(ready: World) -> None:
    secret = ready.lease(ready.issue("demo"))
    ready.write("roles/demo", ttl=20, max_ttl=40)

    renewed = ready.renew(secret)

    assert (renewed.ttl, renewed.max_ttl) == (20, 40)


def test_a_greater_maximum_moves_the_end_at_the_relay_first(ready: World) -> None:
    secret = ready.lease(ready.issue("demo"))
    ready.write("roles/demo", max_ttl=600)
    ready.clock.moved += 30

    renewed = ready.renew(secret)

    (key,) = ready.books.keys.values()
    end = START.replace(microsecond=0) + timedelta(seconds=601)
    assert key.expires_at == end, "counted from the lease's issue, to the next whole second"
    assert LeaseData.from_json(renewed.internal_data).upstream_expires_at == end
    assert renewed.max_ttl == 600
    ready.books.calls.clear()
    ready.renew(replace(renewed, issue_time=secret.issue_time))
    assert ready.books.calls == [], "it is moved once"


def test_a_relay_that_does_not_move_the_end_fails_the_renewal(ready: World) -> None:
    secret = ready.lease(ready.issue("demo"))
    ready.write("roles/demo", max_ttl=600)
    for kind, error in (
        (Kind.UNAVAILABLE, Unavailable),
        (Kind.RATE_LIMITED, RelayRateLimited),
        (Kind.NOT_FOUND, EngineError),
    ):
        ready.books.faults["extend"] = refused(kind, "not now")
        with pytest.raises(error, match="error during renew: the relay did not extend the key: not now"):
            ready.renew(secret)


def test_where_the_end_cannot_move_the_lease_ends_with_the_key(ready: World) -> None:
    ready.books.capabilities = replace(ready.books.capabilities, expiry_mutable=False)
    secret = ready.lease(ready.issue("demo"))
    ready.write("roles/demo", max_ttl=600)

    renewed = ready.renew(secret)

    assert renewed.max_ttl == 180
    assert ready.books.count("extend") == 0


def test_a_batch_tokens_end_stays_the_keys_end(ready: World) -> None:
    end = START + timedelta(seconds=100)
    answer = ready.issue("demo", caller=Caller(accessor="", token_type="batch", expire_time=end))
    secret = ready.lease(answer)
    ready.books.calls.clear()

    ready.renew(secret)

    assert ready.books.calls == [], "the lease cannot pass the token, so neither does the key"


def test_the_maximum_of_the_mount_bounds_the_key_too(ready: World) -> None:
    secret = ready.lease(ready.issue("demo"))
    ready.write("roles/demo", max_ttl="1h")
    ready.mount = replace(ready.mount, max_lease_ttl=300)

    ready.renew(secret)

    (key,) = ready.books.keys.values()
    assert key.expires_at == START.replace(microsecond=0) + timedelta(seconds=301)


def test_a_lease_past_its_maximum_moves_nothing(ready: World) -> None:
    secret = ready.lease(ready.issue("demo"))
    ready.write("roles/demo", max_ttl=200)
    ready.clock.moved += 250
    ready.books.calls.clear()

    ready.renew(secret)

    assert ready.books.calls == []


def test_a_deleted_role_cannot_be_renewed_in_vaults_words(ready: World) -> None:
    secret = ready.lease(ready.issue("demo"))
    ready.delete("roles/demo")

    with pytest.raises(EngineError, match=r'^error during renew: could not find role with name "demo"$'):
        ready.renew(secret)


def test_a_key_of_another_address_is_not_extended_at_this_one(ready: World) -> None:
    secret = ready.lease(ready.issue("demo"))
    ready.write("config", base_url="https://new.example/v1", management_key=MANAGEMENT_KEY)
    ready.renew(secret)
    ready.write("roles/demo", max_ttl=600)

    with pytest.raises(
        EngineError, match=r"was minted at https://relay\.example/v1, which config no longer names"
    ):
        ready.renew(secret)

    assert ready.books.count("extend") == 0


def test_a_key_of_a_relay_of_another_kind_is_not_extended_at_this_one(ready: World) -> None:
    secret = ready.lease(ready.issue("demo"))
    ready.write("config", relay="plain")
    ready.write("roles/demo", max_ttl=600)

    with pytest.raises(EngineError, match="which config no longer names"):
        ready.renew(secret)

    assert ready.books.count("extend") == 0
