"""Bodies, headers and tokens that the servers themselves differ on: refused before the upstream is asked, or by it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.sidecar_stack import MOUNT, SidecarStack, unique

CREDS = f"{MOUNT}/creds/demo"
HUGE = b'{"a":"' + b"x" * (1024 * 1024 + 1) + b'"}'


@pytest.mark.parametrize(
    "body",
    [
        b"{nope",
        b'{"ttl":"1h"',
        b"[1]",
        b'"x"',
        b'{"ttl":"1h","ttl":"2h"}',
        b'{"ttl":"1h"}{"ttl":"2h"}',
        b'{"ttl":NaN}',
        b'{"a":' + b"[" * 301 + b"]" * 301 + b"}",
        HUGE,
        json.dumps({"a": ["x"] * 10_001}).encode(),
        b"ttl=1h",
    ],
    ids=range(11),
)
def test_a_body_that_is_no_plain_object_is_400_before_the_token_is_looked_at(
    stack: SidecarStack, body: bytes
) -> None:
    made = stack.reader(num_uses=3)
    for path in (CREDS, f"{MOUNT}/roles/demo", f"{MOUNT}/config", f"{MOUNT}/no/such/path"):
        for token in (made.token, "bad", ""):
            with stack.nothing_minted():
                got = stack.request("PUT", path, content=body, token=token)
            assert got.status_code == 400, (path, got.text[:200])
            assert got.json()["errors"][0].startswith("failed to decode JSON input: ")
    looked_up = stack.upstream.request("POST", "auth/token/lookup-accessor", {"accessor": made.accessor})
    assert looked_up["data"]["num_uses"] == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Vault-Index", "unreadable"),
        ("X-Vault-Policy-Override", "zz"),
        ("X-Vault-MFA", "method:123"),
        ("X-Vault-No-Request-Forwarding", "true"),
        ("X-Vault-Wrap-Format", "zz"),
        ("X-Vault-Request", "false"),
    ],
)
def test_a_header_means_to_us_what_it_means_to_the_server(stack: SidecarStack, name: str, value: str) -> None:
    """Whether it refuses the request or ignores the header is the upstream's business: the replay carries it."""
    token = stack.token(f'path "{MOUNT}/*" {{ capabilities = ["read"] }}').token
    real = stack.direct("GET", CREDS, token=token, headers={name: value})
    ours = stack.request("GET", CREDS, token=token, headers={name: value})
    assert ours.status_code == real.status_code
    if real.status_code != 200:
        assert ours.json() == real.json()


def test_a_token_that_vault_chokes_on_gets_nothing(stack: SidecarStack) -> None:
    for token in ("hvs.a.b", "hvr.x", "s.a.b", "b.AAAA", "x" * 4000):
        for method in ("GET", "PUT"):
            with stack.nothing_minted():
                ours = stack.request(method, CREDS, token=token)
            real = stack.direct(method, CREDS, token=token)
            assert (ours.status_code, ours.json()) == (real.status_code, real.json())
            assert ours.status_code >= 400


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"ttl": "abc"}, "invalid duration"),
        ({"ttl": -5}, "negative"),
        ({"ttl": "10m", "max_ttl": "5m"}, "must not be greater than"),
        ({"rate_limit": "many"}, "rate_limit"),
        ({"budget": "lots"}, "budget"),
    ],
)
def test_a_role_that_makes_no_sense_is_400_and_nothing_changes(
    stack: SidecarStack, fields: dict[str, Any], said: str
) -> None:
    role = unique("bad")
    got = stack.request("POST", f"{MOUNT}/roles/{role}", fields)
    assert got.status_code == 400
    assert said in got.json()["errors"][0]
    assert stack.request("GET", f"{MOUNT}/roles/{role}").status_code == 404
    assert stack.direct("GET", f"{MOUNT}/roles/{role}").status_code == 404


@pytest.mark.parametrize(
    "name", ["a..b", "..a", "-a", "a-", "a%2fb", "~aikeys-0123456789abcdef", "sho%20rt", "%c3%a9"]
)
def test_a_name_that_no_role_can_have_is_an_unsupported_path(stack: SidecarStack, name: str) -> None:
    unsupported = (404, ["1 error occurred:\n\t* unsupported path\n\n"])
    allowed = [unsupported]
    if stack.is_vault and ".." in name:
        # Vault's storage refuses such names, whatever the engine.
        allowed.append((400, ["1 error occurred:\n\t* read failed: relative paths not supported\n\n"]))
    for method, folder in (
        ("GET", "roles"),
        ("POST", "roles"),
        ("DELETE", "roles"),
        ("GET", "creds"),
        ("POST", "creds"),
    ):
        body = {"ttl": "1h"} if method == "POST" else None
        with stack.nothing_minted():
            got = stack.request(method, f"{MOUNT}/{folder}/{name}", body)
        assert (got.status_code, got.json()["errors"]) in allowed


def test_the_sentinel_is_nobodys_role_and_stays(stack: SidecarStack) -> None:
    def sentinels() -> list[str]:
        keys = stack.direct("LIST", f"{MOUNT}/roles").json()["data"]["keys"]
        return [key for key in keys if key.startswith("~")]

    (sentinel,) = sentinels()
    for method in ("GET", "PUT", "DELETE", "PATCH"):
        stack.request(
            method,
            f"{MOUNT}/roles/{sentinel}",
            {"ttl": "1h"} if method in {"PUT", "PATCH"} else None,
            headers={"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {},
        )
    assert sentinels() == [sentinel]
    # Taken away by hand: lists refuse once, and heal.
    stack.direct("DELETE", f"{MOUNT}/roles/{sentinel}")
    assert stack.request("LIST", f"{MOUNT}/roles").status_code == 503
    assert "demo" in stack.request("LIST", f"{MOUNT}/roles").json()["data"]["keys"]
