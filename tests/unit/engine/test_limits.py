"""A role's own limits: refused before the relay is asked, in the words of Vault's quotas."""

from __future__ import annotations

import pytest
from tests.unit.engine.world import World, refused

from aikeys.framework.response import EngineError, QuotaExceeded
from aikeys.relays.interface import Kind


def limit(world: World, **limits: object) -> None:
    world.write("roles/demo", **limits)
    world.books.calls.clear()


def test_no_more_leases_exist_than_the_role_allows(ready: World) -> None:
    limit(ready, max_leases=2)
    first = ready.lease(ready.issue("demo"))
    ready.issue("demo")  # whose lease is not stored yet

    with pytest.raises(QuotaExceeded) as caught:
        ready.issue("demo")

    assert caught.value.status == 429
    assert caught.value.retry_after is None
    (text,) = caught.value.texts()
    assert text.startswith('request path "ai-keys/creds/demo": lease count quota exceeded')
    assert "the role's max_leases is 2;" in text
    assert ready.books.count("mint") == 2
    ready.store.delete_lease(first.lease_id)
    ready.issue("demo")


def test_no_more_keys_are_issued_in_a_period_than_the_role_allows(ready: World) -> None:
    limit(ready, issue_limit=2, issue_period="1m")
    ready.issue("demo")
    ready.clock.moved += 20.5
    ready.issue("demo")

    with pytest.raises(QuotaExceeded) as caught:
        ready.issue("demo")

    assert caught.value.retry_after == 40
    (text,) = caught.value.texts()
    assert text.startswith('request path "ai-keys/creds/demo": rate limit quota exceeded')
    assert text.endswith("the role's issue_limit is 2 in 1m; try again in 40s")
    assert ready.books.count("mint") == 2
    ready.clock.moved += 39.5
    ready.issue("demo")


def test_a_limit_that_is_set_or_lifted_holds_for_the_next_request(ready: World) -> None:
    ready.issue("demo")
    limit(ready, max_leases=1)
    with pytest.raises(QuotaExceeded):
        ready.issue("demo")
    ready.patch("roles/demo", max_leases=None)
    ready.issue("demo")


def test_a_key_that_the_relay_refused_is_no_lease(ready: World) -> None:
    limit(ready, max_leases=1)
    ready.books.faults["mint"] = refused(Kind.QUOTA, "too many keys")
    with pytest.raises(EngineError, match="the relay refused to make a key"):
        ready.issue("demo")
    ready.books.faults.clear()
    ready.issue("demo")


def test_a_key_that_the_relay_refused_was_asked_for(ready: World) -> None:
    limit(ready, issue_limit=1)
    ready.books.faults["mint"] = refused(Kind.QUOTA, "too many keys")
    with pytest.raises(EngineError, match="the relay refused to make a key"):
        ready.issue("demo")
    with pytest.raises(QuotaExceeded):
        ready.issue("demo")
    assert ready.books.count("mint") == 1


def test_making_a_role_anew_does_not_make_its_rate_anew(ready: World) -> None:
    limit(ready, issue_limit=1)
    ready.issue("demo")
    ready.delete("roles/demo")
    ready.write("roles/demo", ttl=60, issue_limit=1)
    with pytest.raises(QuotaExceeded):
        ready.issue("demo")
