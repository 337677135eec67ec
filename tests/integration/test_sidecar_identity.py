"""Who the caller is: looked up without spending a use, believed for a short while, and never our own token's answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.realparts.server import Server

from aikeys.sidecar.exchange import Reply
from aikeys.sidecar.identity import Identity
from aikeys.sidecar.login import TokenFileLogin
from aikeys.sidecar.own_identity import OwnIdentity
from aikeys.sidecar.upstream import Upstream, UpstreamDown
from aikeys.transport import KeepAliveTransport


class SteppedClock:
    """Moves only when told."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.start = datetime.now(UTC)

    def now(self) -> datetime:
        return self.start + timedelta(seconds=self.seconds - 1000.0)

    def monotonic(self) -> float:
        return self.seconds


class CountingIdentity(OwnIdentity):
    asked = 0

    def request(self, *args: Any, **options: Any) -> Reply:
        self.asked += 1
        return super().request(*args, **options)


@pytest.fixture(params=["openbao", "vault"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


@pytest.fixture
def own(server: Server, tmp_path: Path) -> Iterator[CountingIdentity]:
    path = tmp_path / "token"
    path.write_text(server.root_token)
    upstream = Upstream(server.address, KeepAliveTransport())
    yield CountingIdentity(upstream, TokenFileLogin(path))
    upstream.close()


@pytest.fixture
def identity(own: CountingIdentity, clock: SteppedClock) -> Identity:
    return Identity(own, cache_seconds=60, clock=clock)


def token(server: Server, **options: Any) -> dict[str, Any]:
    made: dict[str, Any] = server.request(
        "POST", "auth/token/create", {"policies": ["default"], "ttl": "1h", **options}
    )["auth"]
    return made


def test_a_caller_is_what_the_server_says(server: Server, identity: Identity) -> None:
    made = token(server, display_name="app", meta={"team": "x"})
    caller = identity.lookup(made["client_token"])

    assert caller is not None
    assert (caller.accessor, caller.token_type, caller.num_uses) == (made["accessor"], "service", 0)
    assert caller.display_name == "token-app"
    assert caller.metadata == {"team": "x"}
    assert caller.policies == ("default",)
    assert not caller.orphan
    assert caller.expire_time is not None
    assert timedelta(minutes=59) < caller.expire_time - datetime.now(UTC) <= timedelta(hours=1)


def test_root_never_ends_and_a_batch_token_has_no_accessor(server: Server, identity: Identity) -> None:
    root = identity.lookup(server.root_token)
    assert root is not None
    assert root.expire_time is None
    batch = identity.lookup(token(server, type="batch")["client_token"])
    assert batch is not None
    assert (batch.accessor, batch.token_type) == ("", "batch")
    assert batch.expire_time is not None


def test_no_token_is_nobody_and_not_the_sidecar_itself(
    server: Server, identity: Identity, own: CountingIdentity
) -> None:
    """The server answers a look-up of "" with the token that asks."""
    assert server.request("POST", "auth/token/lookup", {"token": ""})["data"]["path"]
    assert identity.lookup("") is None
    assert own.asked == 0


@pytest.mark.parametrize("dead", ["bad", "hvs.bad", "s.bad"])
def test_a_token_that_does_not_exist_is_nobody(identity: Identity, dead: str) -> None:
    assert identity.lookup(dead) is None


def test_a_token_with_a_use_count_is_asked_about_every_time_and_loses_none(
    server: Server, identity: Identity, own: CountingIdentity
) -> None:
    made = token(server, num_uses=3)
    for asked in (1, 2, 3):
        caller = identity.lookup(made["client_token"])
        assert caller is not None
        assert caller.num_uses == 3
        assert own.asked == asked


class LastUseSpent(CountingIdentity):
    """At the moment when the last use is spent and the token is not revoked yet, which lasts a millisecond."""

    def request(self, *args: Any, **options: Any) -> Reply:
        reply = super().request(*args, **options)
        parsed = reply.json()
        parsed["data"]["num_uses"] = -1
        return replace(reply, body=json.dumps(parsed).encode())


def test_a_token_whose_last_use_is_spent_is_nobody_though_the_server_still_tells_of_it(
    server: Server, own: CountingIdentity, clock: SteppedClock
) -> None:
    made = token(server, num_uses=1)
    own.__class__ = LastUseSpent
    identity = Identity(own, clock=clock)
    assert identity.lookup(made["client_token"]) is None
    assert identity.accessor_of_spent(made["client_token"]) == made["accessor"]


def test_whose_leases_end_with_a_last_use_is_known_of_a_token_that_was_looked_up_while_it_lived(
    server: Server, identity: Identity
) -> None:
    made, unlimited = token(server, num_uses=1), token(server)
    for one in (made, unlimited):
        assert identity.lookup(one["client_token"]) is not None
    server.request("GET", "auth/token/lookup-self", token=made["client_token"])
    assert identity.lookup(made["client_token"]) is None
    assert identity.accessor_of_spent(made["client_token"]) == made["accessor"]
    assert identity.accessor_of_spent(made["client_token"]) == ""
    assert identity.accessor_of_spent(unlimited["client_token"]) == ""


def test_another_token_is_believed_for_its_time_and_no_longer(
    server: Server, identity: Identity, own: CountingIdentity, clock: SteppedClock
) -> None:
    made = token(server)
    first = identity.lookup(made["client_token"])
    clock.seconds += 59
    assert identity.lookup(made["client_token"]) == first
    assert own.asked == 1
    server.request("POST", "auth/token/revoke", {"token": made["client_token"]})
    clock.seconds += 2
    assert identity.lookup(made["client_token"]) is None
    assert own.asked == 2


def test_a_token_is_not_believed_beyond_its_own_end(
    server: Server, identity: Identity, own: CountingIdentity, clock: SteppedClock
) -> None:
    made = token(server, ttl="20s")
    assert identity.lookup(made["client_token"]) is not None
    clock.seconds += 30
    identity.lookup(made["client_token"])
    assert own.asked == 2


def test_a_policy_that_does_not_let_us_look_is_our_fault_and_not_the_callers(
    server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "weak"
    path.write_text(token(server)["client_token"])
    upstream = Upstream(server.address, KeepAliveTransport())
    try:
        with pytest.raises(UpstreamDown, match=r"policies/sidecar\.hcl"):
            Identity(OwnIdentity(upstream, TokenFileLogin(path))).lookup(server.root_token)
    finally:
        upstream.close()
