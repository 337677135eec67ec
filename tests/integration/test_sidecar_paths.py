"""Paths as no well-behaved client sends them: read as the server reads them, and never a way around a policy."""

from __future__ import annotations

import pytest
from tests.integration.raw_http import RawReply, ask
from tests.sidecar_stack import MOUNT, SidecarStack

REDIRECTED = ["/v1//sys/mounts", "/v1/./sys/mounts", "/v1/a/../sys/mounts?x=y", f"/v1/{MOUNT}//creds/demo"]
UNPRINTABLE = [f"/v1/{MOUNT}/creds/a%00b", "/v1/a%7fb", "/v1/secret/%e2%80%8b", f"/v1/{MOUNT}/%0a"]
# Headers that say the same on both sides.
COMPARED = ("content-type", "location", "cache-control", "strict-transport-security")


def both(
    stack: SidecarStack, method: str, target: str, token: str | None = None
) -> tuple[RawReply, RawReply]:
    headers = [("X-Vault-Token", token or stack.root_token)]
    return (
        ask(stack.address, method, target, headers),
        ask(stack.upstream.address, method, target, headers),
    )


@pytest.mark.parametrize("method", ["GET", "PUT", "LIST", "DELETE"])
@pytest.mark.parametrize("target", REDIRECTED)
def test_a_literal_dot_segment_or_double_slash_is_the_servers_307(
    stack: SidecarStack, method: str, target: str
) -> None:
    ours, real = both(stack, method, target)

    assert ours.status == real.status == 307
    assert ours.body == real.body
    for name in COMPARED:
        assert ours.header(name) == real.header(name), name


@pytest.mark.parametrize("method", ["GET", "PUT", "LIST", "DELETE", "PATCH"])
@pytest.mark.parametrize(
    "path",
    [
        "roles/%2e%2e/creds/demo",
        "roles%2f..%2fcreds%2fdemo",
        "roles/%2E%2E/creds/demo",
        "%2e/creds/demo",
        "creds/%2e%2e/%2e%2e/sys/mounts",
        "roles/x%2f%2e%2e%2f%2e%2e%2fcreds/demo",
    ],
)
def test_a_grant_on_roles_never_becomes_a_key_by_dots(stack: SidecarStack, method: str, path: str) -> None:
    token = stack.token(
        f'path "{MOUNT}/roles/*" {{ capabilities = ["create", "read", "update", "patch", "delete", "list"] }}'
    ).token
    headers = [("X-Vault-Token", token), ("Content-Type", "application/merge-patch+json")]
    with stack.nothing_minted():
        got = ask(stack.address, method, f"/v1/{MOUNT}/{path}", headers)
    assert got.status == 400
    assert got.body == b'{"errors":["relative paths not supported"]}\n'
    assert got.header("content-type") == "application/json"


@pytest.mark.parametrize("target", UNPRINTABLE)
def test_a_byte_that_does_not_print_is_the_servers_400(stack: SidecarStack, target: str) -> None:
    ours, real = both(stack, "GET", target)

    assert (ours.status, ours.body) == (real.status, real.body) == (400, b"")
    assert ours.header("content-type") is real.header("content-type") is None


@pytest.mark.parametrize(
    "target",
    [
        "/v1/%61i-keys/creds/demo",
        f"/v1/{MOUNT}%2Fcreds%2Fdemo",
        f"/v1/{MOUNT}/creds/%64emo",
        f"/%761/{MOUNT}/creds/demo",
        f"http://elsewhere/v1/{MOUNT}/creds/demo",
    ],
)
def test_an_encoded_path_to_our_mount_is_ours(stack: SidecarStack, target: str) -> None:
    got = ask(stack.address, "GET", target, [("X-Vault-Token", stack.root_token)])

    assert got.status == 200
    assert b'"api_key"' in got.body


@pytest.mark.parametrize(
    "target",
    [
        f"/v1/{MOUNT.upper()}/creds/demo",
        f"/V1/{MOUNT}/creds/demo",
        f"/v1%2f{MOUNT}/creds/demo",
        "/v1/nowhere/x",
        "/v1/database%2f%2froles/x",
        "/v1/",
        "/v1",
        "/v2/x",
        "/foo",
        "/",
        "/ui",
        "/v1/sys/health/",
        "/v1/secret/%ff",
        "/v1/secret/a%20b?list=true",
        "/v1/secret/a;b",
        "//v1/sys/health",
    ],
)
def test_what_is_not_ours_is_answered_as_by_the_server_itself(stack: SidecarStack, target: str) -> None:
    with stack.nothing_minted():
        ours, real = both(stack, "GET", target)

    assert ours.status == real.status
    assert ours.header("location") == real.header("location")
    assert ours.header("content-type") == real.header("content-type")
    if b"request_id" not in real.body:
        assert ours.body == real.body


def test_a_broken_escape_is_400_everywhere(stack: SidecarStack) -> None:
    for target in ("/v1/%zz", "/v1/a%", "/ui/%4"):
        ours, real = both(stack, "GET", target)
        assert (ours.status, ours.body) == (real.status, real.body)


def test_a_long_path_is_refused_before_the_upstream_spends_seconds_on_it(stack: SidecarStack) -> None:
    headers = [("X-Vault-Token", stack.root_token)]
    for length, statuses in ((5000, {414}), (60_000, {414})):
        for start in (f"/v1/{MOUNT}/creds/", "/v1/secret/"):
            got = ask(stack.address, "GET", start + "a" * length, headers)
            assert got.status in statuses
            assert got.header("content-type") == "application/json"
            assert b'{"errors":["' in got.body


def test_the_mounts_own_path_is_ours_with_and_without_its_slash(stack: SidecarStack) -> None:
    for path in (MOUNT, f"{MOUNT}/"):
        helped = stack.request("GET", f"{path}?help=1")
        assert helped.status_code == 200
        assert "AI keys backend" in helped.json()["help"]
        read = stack.request("GET", path)
        assert (read.status_code, read.json()["errors"]) == (
            404,
            ["1 error occurred:\n\t* unsupported path\n\n"],
        )


def test_a_namespaced_request_is_openbaos_own_and_none_on_vault_community(stack: SidecarStack) -> None:
    for name in ("nowhere", "nowhere/deeper"):
        headers = {"X-Vault-Namespace": name}
        with stack.nothing_minted():
            ours = stack.request("GET", f"{MOUNT}/roles/demo", headers=headers)
        if stack.is_vault:
            assert ours.status_code == 200
            assert ours.json()["data"]["ttl"] == 60
        else:
            real = stack.direct("GET", f"{MOUNT}/roles/demo", headers=headers)
            assert (ours.status_code, ours.json()) == (real.status_code, real.json())
            assert ours.status_code == 404
        assert ours.headers["x-vault-namespace"] == name


def test_a_mount_of_the_same_name_in_a_namespace_is_not_ours(openbao_stack: SidecarStack) -> None:
    stack = openbao_stack
    stack.upstream.request("POST", "sys/namespaces/apart", {})
    try:
        headers = {"X-Vault-Namespace": "apart"}
        for reply in (
            stack.direct("POST", f"sys/mounts/{MOUNT}", {"type": "kv"}, headers=headers),
            stack.direct("PUT", f"{MOUNT}/creds/demo", {"theirs": "yes"}, headers=headers),
        ):
            assert reply.status_code == 204
        with stack.nothing_minted():
            by_header = stack.request("GET", f"{MOUNT}/creds/demo", headers=headers)
            by_path = stack.request("GET", f"apart/{MOUNT}/creds/demo")
        for reply in (by_header, by_path):
            assert reply.json()["data"] == {"theirs": "yes"}
    finally:
        stack.upstream.request("DELETE", "sys/namespaces/apart")


@pytest.mark.parametrize("name", ["%9b%a4%e8", "a%ff", "%c3%28"])
def test_a_name_of_bytes_that_are_no_text_is_an_unsupported_path(stack: SidecarStack, name: str) -> None:
    headers = [("X-Vault-Token", stack.root_token)]
    for method in ("GET", "PUT", "DELETE", "LIST"):
        for folder in ("roles", "creds", "nowhere"):
            with stack.nothing_minted():
                got = ask(stack.address, method, f"/v1/{MOUNT}/{folder}/{name}", headers)
            assert (got.status, got.body) == (
                404,
                b'{"errors":["1 error occurred:\\n\\t* unsupported path\\n\\n"]}\n',
            )
