"""Requests as no client should send them: the answer is that of the server's own engines, and no key is minted.

The judge of the answers is the `database` engine of the same server, asked the same; of the minting, the relay.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from tests.sidecar_stack import MOUNT, SidecarStack, unique

PEER = "peer-engine"
PATCHING = {"Content-Type": "application/merge-patch+json"}
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
DENIED = "a token that may do nothing here"
#: Headers that a client may act on.
HEADERS = ("cache-control", "content-type", "location", "retry-after", "strict-transport-security")
UNSUPPORTED_PATH = "1 error occurred:\n\t* unsupported path\n\n"


@dataclass(frozen=True)
class Bad:
    """A request to one of the server's engines; `path` is relative to its mount."""

    method: str
    path: str
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    token: str | None = None

    def __str__(self) -> str:
        token = "" if self.token is None else f" token={self.token[:8]}"
        extra = "".join(f" {name}={value}" for name, value in self.headers.items())
        return f"{self.method} {self.path[:40]}{' ' + repr(self.content[:30]) if self.content else ''}{extra}{token}"


AS_ANY_ENGINE = [
    # What is not there.
    Bad("GET", "creds/nope"),
    Bad("GET", "creds/nope?zzz=1"),
    Bad("GET", "roles/nope"),
    Bad("GET", "roles"),
    Bad("GET", "roles/"),
    Bad("GET", "creds"),
    Bad("GET", "creds/"),
    Bad("LIST", "creds"),
    Bad("LIST", "creds/nope"),
    Bad("GET", ""),
    Bad("LIST", ""),
    Bad("GET", "nonsense/path"),
    Bad("LIST", "nonsense"),
    Bad("POST", "nonsense/path", b"{}"),
    Bad("DELETE", "nonsense/path"),
    Bad("GET", "nonsense/path?help=1"),
    # Verbs that an engine does not have, or nobody has.
    Bad("DELETE", "creds/nope"),
    Bad("PATCH", "creds/nope", b"{}", PATCHING),
    Bad("PATCH", "roles/nope", b"{}"),
    Bad("PATCH", "roles/nope", b"{}", JSON),
    Bad("FROB", "creds/nope"),
    Bad("FROB", "creds/nope", token=""),
    Bad("HEAD", "creds/nope"),
    Bad("OPTIONS", "creds/nope"),
    Bad("RECOVER", "roles/nope"),
    Bad("SCAN", "roles"),
    Bad("SCAN", "creds"),
    Bad("GET", "roles?scan=true"),
    Bad("GET", "roles?list=banana"),
    Bad("GET", "roles/nope?read_snapshot_id=1"),
    # Writes to what is a folder.
    Bad("POST", "roles/", b"{}"),
    Bad("POST", "roles/x/", b"{}"),
    Bad("PUT", "creds/nope/", b"{}"),
    Bad("POST", "", b"{}"),
    # Names.
    Bad("GET", "roles/-nope"),
    Bad("GET", "roles/nope-"),
    Bad("GET", "roles/no%20pe"),
    Bad("GET", "roles/n%c3%a9"),
    Bad("GET", "roles/n%ff"),
    Bad("GET", "roles/nope;x=1"),
    Bad("GET", "roles/nope%3fx=1"),
    Bad("GET", "roles/" + "n" * 300),
    # Spellings of a path.
    Bad("GET", "roles%2fnope"),
    Bad("GET", "%72oles/nope"),
    Bad("GET", "roles%2f%2fnope"),
    Bad("GET", "creds//nope"),
    Bad("GET", "creds/./nope"),
    Bad("GET", "roles/../creds/nope"),
    Bad("PUT", "roles/../creds/nope", b"{}"),
    Bad("DELETE", "roles/./nope"),
    Bad("GET", "roles/no%00pe"),
    Bad("GET", "roles/no%0ape"),
    Bad("GET", "roles/no%7fpe"),
    Bad("GET", "roles/no%zzpe"),
    # Headers.
    Bad("GET", "creds/nope", headers={"X-Vault-Wrap-TTL": "-1"}),
    Bad("GET", "creds/nope", headers={"X-Vault-Wrap-TTL": "zz"}),
    Bad("GET", "creds/nope", headers={"X-Vault-Wrap-TTL": "60"}),
    Bad("GET", "roles/nope", headers={"X-Vault-Wrap-TTL": "60"}),
    Bad("GET", "creds/nope", headers={"X-Vault-Namespace": "nonsense"}),
    Bad("GET", "creds/nope", headers={"X-Vault-Index": "junk"}),
    Bad("GET", "creds/nope", headers={"X-Vault-Policy-Override": "zz"}),
    Bad("GET", "roles/nope", headers={"X-Vault-Inline-Auth-Path": "auth/approle/login"}),
    # Who asks.
    *(
        Bad(method, path, content, headers, token)
        for token in ("", "nonsense", "hvs.a.b", DENIED)
        for method, path, content, headers in (
            ("GET", "creds/nope", None, {}),
            ("POST", "creds/nope", b"{}", {}),
            ("GET", "roles/nope", None, {}),
            ("LIST", "roles", None, {}),
            ("POST", "roles/x", b"{}", {}),
            ("DELETE", "roles/x", None, {}),
            ("PATCH", "roles/x", b"{}", PATCHING),
            ("GET", "nonsense/path", None, {}),
            ("HEAD", "creds/nope", None, {}),
            ("OPTIONS", "creds/nope", None, {}),
            ("SCAN", "roles", None, {}),
        )
    ),
    Bad("GET", "creds/nope?help=1", token=""),
    Bad("GET", "creds/nope", headers={"Authorization": "bearer root"}, token=""),
    Bad("GET", "creds/nope", headers={"Authorization": "Basic root"}, token=""),
    # Values.
    Bad("POST", "roles/x", b'{"max_ttl":"abc"}'),
    Bad("POST", "roles/x", b'{"max_ttl":-5}'),
    Bad("POST", "roles/x", b'{"max_ttl":1.5}'),
    Bad("POST", "roles/x", b'{"max_ttl":[1]}'),
    Bad("POST", "roles/x", b'{"max_ttl":{"a":1}}'),
    Bad("POST", "roles/x", b'{"max_ttl":"99999999999999999999"}'),
    Bad("POST", "roles/x", b"max_ttl=abc", FORM),
    Bad("POST", "roles/x", b'{"max_ttl":"abc"}', FORM),
]

#: The texts are the decoder's own, word for word, only where they stand for themselves; see the test.
NOT_JSON = [
    Bad("POST", "roles/x", b"not json"),
    Bad("POST", "roles/x", b"not json", token=""),
    Bad("POST", "roles/x", b'{"max_ttl":'),
    Bad("POST", "roles/x", b'{"max_ttl":1'),
    Bad("POST", "roles/x", b'{"max_ttl" 1}'),
    Bad("POST", "roles/x", b"{max_ttl:1}"),
    Bad("POST", "roles/x", b"{'max_ttl':1}"),
    Bad("POST", "roles/x", b'{"max_ttl":NaN}'),
    Bad("POST", "roles/x", b'{"max_ttl":01}'),
    Bad("POST", "roles/x", b'{"max_ttl":tru}'),
    Bad("POST", "roles/x", b'{"max_ttl":"a\nb"}'),
    Bad("POST", "roles/x", b'{"max_ttl":"\\x"}'),
    Bad("POST", "roles/x", b'{"a":1,}'),
    Bad("POST", "roles/x", b"[1]"),
    Bad("POST", "roles/x", b'"text"'),
    Bad("POST", "roles/x", b"5"),
    Bad("POST", "roles/x", b"true"),
    Bad("PATCH", "roles/x", b"{bad", PATCHING),
]


@pytest.fixture
def peer(stack: SidecarStack) -> SidecarStack:
    """The stack, with an engine of the server's own mounted to compare with."""
    if f"{PEER}/" not in stack.upstream.request("GET", "sys/mounts")["data"]:
        stack.upstream.request("POST", f"sys/mounts/{PEER}", {"type": "database"})
    return stack


_denied: dict[str, str] = {}


def ask_both(stack: SidecarStack, bad: Bad) -> tuple[httpx.Response, httpx.Response]:
    """Our engine through the sidecar, and the server's own engine past it."""
    token = bad.token
    if token == DENIED:
        if stack.address not in _denied:
            _denied[stack.address] = stack.token(
                'path "secret/x" { capabilities = ["read"] }', ttl="1h"
            ).token
        token = _denied[stack.address]
    options: dict[str, Any] = {"content": bad.content, "headers": bad.headers, "token": token}
    return (
        stack.request(bad.method, f"{MOUNT}/{bad.path}", **options),
        stack.direct(bad.method, f"{PEER}/{bad.path}", **options),
    )


def seen(answer: httpx.Response, mount: str) -> tuple[int, Any, dict[str, str]]:
    """What a client can tell one answer from another by, without ids."""
    text = answer.text.replace(mount, "M")
    body: Any = text
    if answer.headers.get("content-type") == "application/json" and text:
        body = json.loads(text)
        body.pop("request_id", None)
    headers = {name: answer.headers.get(name, "").replace(mount, "M") for name in HEADERS}
    return answer.status_code, body, headers


@pytest.mark.parametrize("bad", AS_ANY_ENGINE, ids=str)
def test_a_bad_request_is_answered_as_by_the_servers_own_engines(peer: SidecarStack, bad: Bad) -> None:
    with peer.nothing_minted():
        ours, theirs = ask_both(peer, bad)
    assert seen(ours, MOUNT) == seen(theirs, PEER)
    assert ours.status_code >= 300


@pytest.mark.parametrize("bad", NOT_JSON, ids=str)
def test_what_is_no_json_is_400_as_openbao_has_it(peer: SidecarStack, bad: Bad) -> None:
    """On Vault too: it often says 500, which its own clients would send again."""
    with peer.nothing_minted():
        ours, theirs = ask_both(peer, bad)
    assert ours.status_code == 400
    assert ours.headers["content-type"] == "application/json"
    (error,) = ours.json()["errors"]
    assert error.startswith("failed to decode JSON input: ")
    if not peer.is_vault:
        assert theirs.status_code == 400
        if bad.content in {b"not json", b"[1]", b'"text"'}:
            assert ours.json() == theirs.json()


# -- bodies that are JSON and still refused ---------------------------------------------------------------------

TOO_MUCH = {
    "a key twice": b'{"ttl":60,"ttl":61}',
    "a key twice inside": b'{"metadata":{"a":"1","a":"2"}}',
    "text after it": b'{"ttl":60} x',
    "a second object": b'{"ttl":60}{"ttl":61}',
    "301 levels": b'{"metadata":' + b"[" * 300 + b"]" * 300 + b"}",
    "100,000 levels": b'{"metadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "a string over 1 MiB": b'{"team_id":"' + b"x" * (1024 * 1024 + 1) + b'"}',
    "a key over 1 MiB": b'{"' + b"x" * (1024 * 1024 + 1) + b'":1}',
    "10,001 entries": b'{"metadata":{' + b",".join(b'"k%d":"v"' % n for n in range(10_001)) + b"}}",
    "10,001 elements": b'{"permissions":[' + b",".join([b'"chat"'] * 10_001) + b"]}",
    "a number of 1,000 digits": b'{"ttl":' + b"9" * 1000 + b"}",
}


@pytest.mark.parametrize("what", TOO_MUCH)
@pytest.mark.parametrize("path", ["roles", "creds"])
def test_json_that_could_be_read_in_two_ways_or_is_too_much_is_400_and_does_nothing(
    stack: SidecarStack, what: str, path: str
) -> None:
    name = "demo" if path == "creds" else unique("bad")
    start = time.monotonic()
    with stack.nothing_minted():
        answer = stack.request("POST", f"{MOUNT}/{path}/{name}", content=TOO_MUCH[what])
    assert answer.status_code == 400
    assert answer.json()["errors"][0].startswith("failed to decode JSON input: ")
    assert time.monotonic() - start < 5
    if path == "roles":
        assert stack.request("GET", f"{MOUNT}/roles/{name}").status_code == 404
        assert stack.direct("GET", f"{MOUNT}/roles/{name}").status_code == 404, "left in the shadow"


def test_a_body_over_32_mib_is_413(stack: SidecarStack) -> None:
    body = b'{"team_id":"' + b"x" * (32 * 1024 * 1024) + b'"}'
    with stack.nothing_minted():
        for path in (f"{MOUNT}/roles/big", f"{MOUNT}/creds/demo", "sys/leases/revoke"):
            answer = stack.request("POST", path, content=body)
            assert answer.status_code == 413
            assert answer.json() == {"errors": ["http: request body too large"]}


def test_a_bad_body_of_a_read_is_judged_as_the_server_does(stack: SidecarStack) -> None:
    """Vault checks the body of every request that has one, OpenBao does not look at that of a read."""
    if stack.is_vault:
        with stack.nothing_minted():
            for method, path in (("GET", "creds/demo"), ("LIST", "roles"), ("DELETE", "roles/nope")):
                answer = stack.request(method, f"{MOUNT}/{path}", content=b"{bad")
                assert answer.status_code == 400, f"{method} {path}"
    else:
        assert stack.request("GET", f"{MOUNT}/creds/demo", content=b"{bad").status_code == 200
        assert stack.request("LIST", f"{MOUNT}/roles", content=b"{bad").status_code == 200


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"   ", None])
def test_no_body_is_an_empty_one(stack: SidecarStack, body: bytes | None) -> None:
    answer = stack.request("PUT", f"{MOUNT}/creds/demo", content=body)
    assert answer.status_code == 200, answer.text
    assert stack.works(answer.json()["data"]["api_key"])
    assert (
        stack.request("POST", "sys/leases/revoke", {"lease_id": answer.json()["lease_id"]}).status_code == 204
    )


# -- values that a role or key cannot have ----------------------------------------------------------------------

WRONG_ROLES: dict[str, tuple[Mapping[str, Any], str]] = {
    "ttl over max_ttl": ({"ttl": "2h", "max_ttl": "1h"}, "ttl of 2h must not be greater than max_ttl of 1h"),
    "ttl no duration": (
        {"ttl": "soon"},
        'error converting input for field "ttl": time: invalid duration "soon"',
    ),
    "ttl negative": (
        {"ttl": -1},
        "error converting input for field \"ttl\": cannot provide negative value '-1'",
    ),
    "ttl a list": ({"ttl": [1]}, "could not parse duration"),
    "rate_limit a word": ({"rate_limit": "many"}, 'error converting input for field "rate_limit"'),
    "rate_limit negative": ({"rate_limit": -3}, "rate_limit must not be negative"),
    "permissions an object": ({"permissions": {"a": 1}}, 'error converting input for field "permissions"'),
    "permission unknown": ({"permissions": "fly"}, "'fly' cannot be granted"),
    "budget a word": ({"budget": "much"}, 'error converting input for field "budget"'),
    "budget negative": ({"budget": "-1"}, "budget"),
    "metadata a number": ({"metadata": 5}, 'error converting input for field "metadata"'),
    "verify_revocation a word": ({"verify_revocation": "perhaps"}, 'for field "verify_revocation"'),
}


@pytest.mark.parametrize("what", WRONG_ROLES)
def test_a_role_with_a_wrong_value_is_refused_and_not_stored(stack: SidecarStack, what: str) -> None:
    fields, says = WRONG_ROLES[what]
    name = unique("bad")
    answer = stack.request("POST", f"{MOUNT}/roles/{name}", dict(fields))
    assert answer.status_code == 400, answer.text
    assert says in answer.json()["errors"][0]
    assert stack.request("GET", f"{MOUNT}/roles/{name}").status_code == 404
    assert stack.direct("GET", f"{MOUNT}/roles/{name}").status_code == 404, "left in the shadow"
    # The same on a role that exists leaves it as it was.
    before = stack.request("GET", f"{MOUNT}/roles/demo").json()["data"]
    assert stack.request("POST", f"{MOUNT}/roles/demo", dict(fields)).status_code == 400
    assert stack.request("PATCH", f"{MOUNT}/roles/demo", dict(fields), headers=PATCHING).status_code == 400
    assert stack.request("GET", f"{MOUNT}/roles/demo").json()["data"] == before


@pytest.mark.parametrize("ttl", ["abc", "-5", "1.5", "1y", "99999999999999999999"])
def test_a_key_with_a_wrong_ttl_is_refused_and_not_minted(stack: SidecarStack, ttl: str) -> None:
    with stack.nothing_minted():
        for answer in (
            stack.request("GET", f"{MOUNT}/creds/demo?ttl={ttl}"),
            stack.request("POST", f"{MOUNT}/creds/demo", {"ttl": ttl}),
        ):
            assert answer.status_code == 400
            (error,) = answer.json()["errors"]
            assert error.startswith('Field validation failed: error converting input for field "ttl": ')


@pytest.mark.parametrize(
    "name", ["a..b", "..a", "aikeys-0123456789abcdef", "x" * 200, "a%2fb", "a%5cb", "%2e%2e", "a%20b"]
)
def test_a_role_with_a_wrong_name_is_refused_and_not_stored(stack: SidecarStack, name: str) -> None:
    roles = stack.request("LIST", f"{MOUNT}/roles").json()["data"]["keys"]
    shadow = stack.direct("LIST", f"{MOUNT}/roles").json()["data"]["keys"]
    answer = stack.request("POST", f"{MOUNT}/roles/{name}", {"ttl": 60})
    assert answer.status_code in {400, 404}
    assert stack.request("LIST", f"{MOUNT}/roles").json()["data"]["keys"] == roles
    assert stack.direct("LIST", f"{MOUNT}/roles").json()["data"]["keys"] == shadow


def test_null_is_the_same_as_absent(stack: SidecarStack) -> None:
    name = unique("nulls")
    body = {"ttl": None, "max_ttl": None, "permissions": ["chat"], "metadata": None, "budget": None}
    assert stack.request("POST", f"{MOUNT}/roles/{name}", body).status_code == 204
    stored = stack.request("GET", f"{MOUNT}/roles/{name}").json()["data"]
    assert stored["permissions"] == ["chat"]
    assert not stored.get("ttl")
    assert stack.request("DELETE", f"{MOUNT}/roles/{name}").status_code == 204


# -- paths that must not lead anywhere else ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "roles/%2e%2e/creds/demo",
        "roles/..%2fcreds%2fdemo",
        "roles%2f..%2fcreds%2fdemo",
        "roles/%2e/%2e%2e/creds/demo",
        "roles/x%2f%2e%2e%2f%2e%2e%2fcreds%2fdemo",
        "creds/%2e/demo",
        "%2e%2e/ai-keys/creds/demo",
    ],
)
def test_dots_are_refused_and_never_resolved(stack: SidecarStack, path: str) -> None:
    with stack.nothing_minted():
        for method in ("GET", "PUT", "LIST", "DELETE"):
            answer = stack.request(method, f"{MOUNT}/{path}")
            assert answer.status_code == 400, method
            assert answer.json() == {"errors": ["relative paths not supported"]}


def test_dots_end_no_lease(stack: SidecarStack) -> None:
    secret = stack.read_key()
    for path in (
        f"sys/leases/revoke-prefix/secret/%2e%2e/{MOUNT}/creds/demo",
        f"sys/leases/revoke-prefix/{MOUNT}/%2e%2e/{MOUNT}",
        f"sys/leases/revoke-force/x/..%2f{MOUNT}",
        f"sys/leases/revoke/{MOUNT}/creds/x/%2e%2e/demo/{secret['lease_id'].rpartition('/')[2]}",
    ):
        assert stack.request("PUT", path).status_code == 400, path
    assert stack.works(secret["data"]["api_key"])


def test_a_literal_dot_segment_leads_back_to_the_sidecar(stack: SidecarStack) -> None:
    for path in ("roles/../creds/demo", "creds//demo", "creds/./demo"):
        with stack.nothing_minted():
            answer = stack.request("GET", f"{MOUNT}/{path}")
        assert answer.status_code == 307
        assert answer.headers["location"] == f"/v1/{MOUNT}/creds/demo"


@pytest.mark.parametrize("length", [4097, 8000, 20_000, 150_000])
def test_a_long_path_is_refused_at_once(stack: SidecarStack, length: int) -> None:
    """A real server spends seconds on one: 12 s for 150 kB."""
    for base in (f"{MOUNT}/creds/", "secret/"):
        start = time.monotonic()
        with stack.nothing_minted():
            answer = stack.request("GET", base + "x" * length)
        assert answer.status_code == 414
        assert answer.headers["content-type"] == "application/json"
        assert time.monotonic() - start < 2


@pytest.mark.parametrize(
    "path", [f"{MOUNT.upper()}/creds/demo", f"{MOUNT}x/creds/demo", "x/ai-keys/creds/demo"]
)
def test_our_mount_is_its_own_path_and_no_other(stack: SidecarStack, path: str) -> None:
    with stack.nothing_minted():
        ours, theirs = stack.request("GET", path), stack.direct("GET", path)
    assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json())
    assert ours.status_code == 404


@pytest.mark.parametrize(
    "method", ["HEAD", "OPTIONS", "DELETE", "PATCH", "LIST", "SCAN", "RECOVER", "FROB", "HELP"]
)
def test_no_other_verb_mints(stack: SidecarStack, method: str) -> None:
    headers = PATCHING if method == "PATCH" else {}
    with stack.nothing_minted():
        answer = stack.request(method, f"{MOUNT}/creds/demo", content=b"{}", headers=headers)
    assert answer.status_code in ({200} if method == "HELP" else {400, 404, 405})
    assert "sk-holysheep" not in answer.text
