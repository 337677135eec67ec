"""What a relay says of the management key, and of the time at which a signed request arrives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.relays.conftest import INTENT, KEY, MINTED, Relay, failing, mint, says
from tests.unit.transport.server import Received

from aikeys.framework.deadline import Deadline
from aikeys.redaction import SecretString
from aikeys.relays.interface import (
    Kind,
    Outcome,
)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"kind": "data", "scopes": ["keys:read", "keys:write"]}, Kind.FORBIDDEN),
        ({"kind": "management", "scopes": ["keys:read"]}, Kind.FORBIDDEN),
        ({"kind": "management", "scopes": "keys:read,keys:write"}, Kind.FORBIDDEN),
        (
            {"kind": "management", "scopes": ["keys:read", "keys:write"], "name_prefix": "prod-"},
            Kind.FORBIDDEN,
        ),
        ({}, Kind.FORBIDDEN),
        ([], Kind.PROTOCOL),
    ],
)
def test_a_credential_that_cannot_do_the_work_does_not_check_out(
    relay: Callable[..., Relay], body: Any, kind: Kind
) -> None:
    error = failing(relay(says(body)), lambda driver: driver.check(Deadline.after(5)))
    assert (error.kind, error.outcome) == (kind, Outcome.NOT_APPLIED)


@pytest.mark.parametrize("prefix", [None, "", "vlt-", "vlt-abcdefgh-", "v"])
def test_a_credential_bound_to_our_names_checks_out(relay: Callable[..., Relay], prefix: str | None) -> None:
    scopes = ["keys:read", "keys:write", "usage:read"]
    relay(says({"kind": "management", "scopes": scopes, "name_prefix": prefix})).driver.check(
        Deadline.after(5)
    )


def signed(secret: str = "hs-sign-test-secret") -> dict[str, Any]:
    return {"signing_secret": SecretString(secret), "signing_key_id": "mgmt_01"}


def test_a_relay_with_another_clock_is_asked_again_once_with_its_own_time(
    relay: Callable[..., Relay],
) -> None:
    def reply(request: Received) -> bytes:
        if abs(int(request.values("X-Timestamp")[0]) - 1767225600) > 300:
            error = {"error": {"code": "timestamp_out_of_range"}}
            return says(error, "401 Unauthorized", "Date: Thu, 01 Jan 2026 00:00:00 GMT")
        return says({**KEY, "key": MINTED}, "201 Created")

    made = relay(reply, **signed())
    made.driver.mint(INTENT, Deadline.after(5))
    first, second = made.server.requests
    assert first.body == second.body
    assert first.values("Idempotency-Key") == second.values("Idempotency-Key")
    assert first.values("X-Nonce") != second.values("X-Nonce")
    made.driver.mint(INTENT, Deadline.after(5))
    assert len(made.server.requests) == 3, "what was learnt is kept"


@pytest.mark.parametrize("date", ["Date: Thu, 01 Jan 2026 00:00:00 GMT", "Date: whenever", "X-No-Date: 1"])
def test_a_relay_that_always_refuses_the_time_is_not_asked_for_ever(
    relay: Callable[..., Relay], date: str
) -> None:
    made = relay(says({"error": {"code": "timestamp_out_of_range"}}, "401 Unauthorized", date), **signed())
    error = failing(made, mint)
    assert (error.kind, error.outcome) == (Kind.AUTH, Outcome.NOT_APPLIED)
    assert len(made.server.requests) <= 2


def test_another_refusal_is_not_repeated_for_its_date(relay: Callable[..., Relay]) -> None:
    date = "Date: Thu, 01 Jan 2026 00:00:00 GMT"
    made = relay(says({"error": {"code": "invalid_signature"}}, "401 Unauthorized", date), **signed())
    failing(made, mint)
    assert len(made.server.requests) == 1


def test_an_unsigned_request_is_not_repeated_for_its_time(relay: Callable[..., Relay]) -> None:
    date = "Date: Thu, 01 Jan 2026 00:00:00 GMT"
    made = relay(says({"error": {"code": "timestamp_out_of_range"}}, "401 Unauthorized", date))
    failing(made, mint)
    assert len(made.server.requests) == 1


def test_the_management_keys_id_is_asked_for_once_and_unsigned(relay: Callable[..., Relay]) -> None:
    def reply(request: Received) -> bytes:
        if "/auth/verify" in request.line:
            return says({"kind": "management", "id": "mgmt_07"})
        return says({**KEY, "key": MINTED}, "201 Created")

    made = relay(reply, signing_secret=SecretString("hs-sign-test-secret"))
    made.driver.mint(INTENT, Deadline.after(5))
    made.driver.mint(INTENT, Deadline.after(5))
    lines = [request.line.split()[1] for request in made.server.requests]
    assert lines == ["/v1/auth/verify", "/v1/keys", "/v1/keys"]
    assert made.server.requests[0].values("X-Signature") == []
    assert made.server.requests[1].values("X-Signature") != []


def test_a_management_key_without_an_id_cannot_sign(relay: Callable[..., Relay]) -> None:
    made = relay(says({"kind": "management"}), signing_secret=SecretString("hs-sign-test-secret"))
    assert failing(made, mint).kind is Kind.CONFIG
