"""Whether a caller may is the upstream's own answer, and without its positive proof nothing is minted."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.sidecar_stack import MOUNT, SidecarStack, unique

LAST_USE = (
    "Secret cannot be returned; token had one use left, so leased credentials were immediately revoked."
)
DENIED = {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
MERGE = {"Content-Type": "application/merge-patch+json"}
ALL = '"create", "read", "update", "patch", "delete", "list"'


@pytest.fixture
def role(stack: SidecarStack) -> Iterator[str]:
    """A role of the test's own; whatever a test does to its markers goes with it."""
    name = unique("authz")
    assert stack.request("POST", f"{MOUNT}/roles/{name}", {"ttl": "60s", "max_ttl": "180s"}).status_code in {
        200,
        204,
    }
    yield name
    stack.request("DELETE", f"{MOUNT}/roles/{name}")


def marker(stack: SidecarStack, path: str) -> Any:
    reply = stack.direct("GET", f"{MOUNT}/{path}")
    return reply.json()["data"] if reply.status_code == 200 else None


def same_refusal(stack: SidecarStack, method: str, path: str, **options: Any) -> None:
    """The sidecar refuses with the status and the body that the server itself has for the same request."""
    with stack.nothing_minted():
        ours = stack.request(method, path, **options)
    real = stack.direct(method, path, **options)
    assert (ours.status_code, ours.json()) == (real.status_code, real.json())
    assert ours.status_code in {400, 403}


# -- tokens ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("token", ["", "bad", "s.bad", "hvs.bad", "hvs.CAESIbad"])
def test_no_token_or_a_dead_one_is_refused_as_the_server_does(
    stack: SidecarStack, role: str, token: str
) -> None:
    for method in ("GET", "PUT", "LIST", "PATCH"):
        same_refusal(
            stack, method, f"{MOUNT}/creds/{role}", token=token, headers=MERGE if method == "PATCH" else {}
        )


def test_a_token_without_a_policy_is_denied_every_operation(stack: SidecarStack, role: str) -> None:
    token = stack.token(["default"]).token
    for method, path in (
        ("GET", f"creds/{role}"),
        ("PUT", f"creds/{role}"),
        ("DELETE", f"creds/{role}"),
        ("GET", f"roles/{role}"),
        ("POST", f"roles/{role}"),
        ("DELETE", f"roles/{role}"),
        ("LIST", "roles"),
        ("GET", "config"),
        ("POST", "config"),
        ("GET", "no/such/path"),
        ("POST", "no/such/path"),
    ):
        with stack.nothing_minted():
            got = stack.request(
                method, f"{MOUNT}/{path}", {"ttl": "1h"} if method == "POST" else None, token=token
            )
        assert (got.status_code, got.json()) == (403, DENIED), (method, path)
    assert stack.request("GET", f"{MOUNT}/roles/{role}").status_code == 200


def test_a_deny_on_one_role_leaves_the_others_readable(stack: SidecarStack, role: str) -> None:
    token = stack.token(
        f'path "{MOUNT}/creds/*" {{ capabilities = ["read"] }}\n'
        f'path "{MOUNT}/creds/{role}" {{ capabilities = ["deny"] }}'
    ).token
    same_refusal(stack, "GET", f"{MOUNT}/creds/{role}", token=token)
    assert stack.request("GET", f"{MOUNT}/creds/demo", token=token).status_code == 200


def test_read_and_write_of_creds_are_different_rights(stack: SidecarStack, role: str) -> None:
    reader = stack.token(f'path "{MOUNT}/creds/{role}" {{ capabilities = ["read"] }}').token
    writer = stack.token(f'path "{MOUNT}/creds/{role}" {{ capabilities = ["update"] }}').token

    assert stack.request("GET", f"{MOUNT}/creds/{role}", token=reader).status_code == 200
    same_refusal(stack, "PUT", f"{MOUNT}/creds/{role}", token=reader)
    assert stack.request("PUT", f"{MOUNT}/creds/{role}", token=writer).status_code == 200
    same_refusal(stack, "GET", f"{MOUNT}/creds/{role}", token=writer)


def test_creating_and_changing_a_role_are_different_rights(stack: SidecarStack, role: str) -> None:
    creator = stack.token(f'path "{MOUNT}/roles/*" {{ capabilities = ["create"] }}').token
    changer = stack.token(f'path "{MOUNT}/roles/*" {{ capabilities = ["update"] }}').token
    new = unique("authz-new")
    fields = {"ttl": "30s"}

    assert stack.request("POST", f"{MOUNT}/roles/{new}", fields, token=changer).status_code == 403
    assert stack.request("GET", f"{MOUNT}/roles/{new}").status_code == 404
    assert stack.request("POST", f"{MOUNT}/roles/{new}", fields, token=creator).status_code in {200, 204}
    assert stack.request("POST", f"{MOUNT}/roles/{new}", fields, token=creator).status_code == 403
    assert stack.request("POST", f"{MOUNT}/roles/{role}", fields, token=changer).status_code in {200, 204}
    # Also without a single field, where the server's kv has nothing to write.
    bare = unique("authz-bare")
    assert stack.request("POST", f"{MOUNT}/roles/{bare}", {}, token=changer).status_code == 403
    assert stack.request("POST", f"{MOUNT}/roles/{bare}", {}, token=creator).status_code in {200, 204}
    assert stack.request("GET", f"{MOUNT}/roles/{bare}").status_code == 200
    assert stack.request("GET", f"{MOUNT}/creds/{bare}").status_code == 200
    for name in (new, bare):
        assert stack.request("DELETE", f"{MOUNT}/roles/{name}").status_code == 204


def test_a_lost_or_stale_marker_does_not_turn_an_update_into_a_create(stack: SidecarStack, role: str) -> None:
    creator = stack.token(f'path "{MOUNT}/roles/*" {{ capabilities = ["create"] }}').token
    changer = stack.token(f'path "{MOUNT}/roles/*" {{ capabilities = ["update"] }}').token
    new = unique("authz-stale")

    stack.direct("DELETE", f"{MOUNT}/roles/{role}")
    assert stack.request("POST", f"{MOUNT}/roles/{role}", {"ttl": "5s"}, token=creator).status_code == 403
    stack.direct("PUT", f"{MOUNT}/roles/{new}", {"left": "behind"})
    assert stack.request("POST", f"{MOUNT}/roles/{new}", {"ttl": "5s"}, token=changer).status_code == 403

    assert stack.request("GET", f"{MOUNT}/roles/{role}").json()["data"]["ttl"] == 60
    assert stack.request("GET", f"{MOUNT}/roles/{new}").status_code == 404
    assert marker(stack, f"roles/{new}") is None


def test_parameter_constraints_of_a_policy_hold_on_reads_and_writes(stack: SidecarStack, role: str) -> None:
    token = stack.token(
        f'path "{MOUNT}/creds/{role}" {{ capabilities = ["read", "update"]\n'
        ' allowed_parameters = { "ttl" = ["20s"] } }'
    ).token
    path = f"{MOUNT}/creds/{role}"

    assert stack.request("GET", f"{path}?ttl=20s", token=token).json()["lease_duration"] == 20
    assert stack.request("PUT", path, {"ttl": "20s"}, token=token).json()["lease_duration"] == 20
    same_refusal(stack, "GET", f"{path}?ttl=30s", token=token)
    same_refusal(stack, "PUT", path, body={"ttl": "30s"}, token=token)
    same_refusal(stack, "PUT", path, body={"ttl": "20s", "other": 1}, token=token)


def test_required_parameters_hold_for_a_write_without_a_body(stack: SidecarStack, role: str) -> None:
    token = stack.token(
        f'path "{MOUNT}/creds/{role}" {{ capabilities = ["update"]\n required_parameters = ["ttl"] }}'
    ).token

    assert stack.request("PUT", f"{MOUNT}/creds/{role}", {"ttl": "20s"}, token=token).status_code == 200
    same_refusal(stack, "PUT", f"{MOUNT}/creds/{role}", token=token)


def test_a_cidr_bound_token_is_refused_elsewhere(stack: SidecarStack, role: str) -> None:
    name = unique("cidr")
    policy = unique("cidr-policy")
    stack.upstream.request(
        "PUT", f"sys/policies/acl/{policy}", {"policy": f'path "{MOUNT}/*" {{ capabilities = [{ALL}] }}'}
    )
    for cidr, allowed in (("10.0.0.0/8", False), ("127.0.0.0/8", True)):
        stack.upstream.request(
            "POST", f"auth/token/roles/{name}", {"allowed_policies": [policy], "token_bound_cidrs": [cidr]}
        )
        made = stack.upstream.request("POST", f"auth/token/create/{name}", {"policies": [policy]})
        token = made["auth"]["client_token"]
        if allowed:
            assert stack.request("GET", f"{MOUNT}/creds/{role}", token=token).status_code == 200
        else:
            for method in ("GET", "PUT"):
                same_refusal(stack, method, f"{MOUNT}/creds/{role}", token=token)


def test_a_revoked_token_gets_nothing_at_once(stack: SidecarStack, role: str) -> None:
    token = stack.reader(role)
    assert stack.request("GET", f"{MOUNT}/creds/{role}", token=token.token).status_code == 200
    stack.upstream.request("POST", "auth/token/revoke-accessor", {"accessor": token.accessor})

    same_refusal(stack, "GET", f"{MOUNT}/creds/{role}", token=token.token)


def test_the_last_use_of_a_token_mints_nothing_and_says_so(stack: SidecarStack, role: str) -> None:
    token = stack.reader(role, num_uses=2).token

    first = stack.request("GET", f"{MOUNT}/creds/{role}", token=token)
    assert first.status_code == 200
    with stack.nothing_minted():
        last = stack.request("GET", f"{MOUNT}/creds/{role}", token=token)
        spent = stack.request("GET", f"{MOUNT}/creds/{role}", token=token)
    assert (last.status_code, last.json()) == (400, {"errors": [LAST_USE]})
    assert spent.status_code == 403


def test_a_use_is_spent_once_for_each_request_also_when_it_is_denied(stack: SidecarStack, role: str) -> None:
    made = stack.token(f'path "{MOUNT}/roles/*" {{ capabilities = ["read", "list"] }}', num_uses=5)

    def uses() -> int:
        found = stack.upstream.request("POST", "auth/token/lookup-accessor", {"accessor": made.accessor})
        return int(found["data"]["num_uses"])

    for method, path, status in (
        ("GET", f"roles/{role}", 200),
        ("GET", f"creds/{role}", 403),
        ("LIST", "roles", 200),
        ("GET", "roles/nobody", 404),
    ):
        before = uses()
        assert stack.request(method, f"{MOUNT}/{path}", token=made.token).status_code == status
        assert uses() == before - 1, path


def test_a_batch_token_reads_a_key_that_ends_with_it(stack: SidecarStack, role: str) -> None:
    token = stack.reader(role, type="batch", ttl="25s").token

    got = stack.request("GET", f"{MOUNT}/creds/{role}", token=token)
    assert got.status_code == 200
    assert 20 <= got.json()["lease_duration"] <= 25


def test_inline_authentication_may_look_but_makes_no_lease(stack: SidecarStack, role: str) -> None:
    """OpenBao can log in within a request; its ephemeral token can hold no lease. Vault knows nothing of it."""
    name = unique("inline")
    policy = f'path "{MOUNT}/*" {{ capabilities = ["read", "update"] }}'
    stack.upstream.request("PUT", f"sys/policies/acl/{name}", {"policy": policy})
    stack.upstream.request("POST", f"auth/approle/role/{name}", {"token_policies": [name]})
    role_id = stack.upstream.request("GET", f"auth/approle/role/{name}/role-id")["data"]["role_id"]
    secret_id = stack.upstream.request("POST", f"auth/approle/role/{name}/secret-id", {})["data"]["secret_id"]
    headers = {"X-Vault-Inline-Auth-Path": "auth/approle/login", "X-Vault-Inline-Auth-Operation": "update"}
    for key, value in (("role_id", role_id), ("secret_id", secret_id)):
        encoded = (
            base64.urlsafe_b64encode(json.dumps({"key": key, "value": value}).encode()).decode().rstrip("=")
        )
        headers[f"X-Vault-Inline-Auth-Parameter-{key.replace('_', '-')}"] = encoded
    path = f"{MOUNT}/creds/{role}"
    with stack.nothing_minted():
        refusals = [stack.request(method, path, token="", headers=headers) for method in ("GET", "PUT")]
    seen = stack.request("GET", f"{MOUNT}/roles/{role}", token="", headers=headers)

    if stack.is_vault:
        assert {reply.status_code for reply in refusals} == {403}
        assert seen.status_code == 403
    else:
        text = "requests with inline authentication cannot generate leases"
        assert [(reply.status_code, reply.json()["errors"]) for reply in refusals] == [(500, [text])] * 2
        assert seen.status_code == 200


# -- wrapping -------------------------------------------------------------------------------------------------------


def test_wrapping_limits_of_a_policy_hold(stack: SidecarStack, role: str) -> None:
    token = stack.token(
        f'path "{MOUNT}/creds/{role}" {{ capabilities = ["read", "update"]\n'
        ' min_wrapping_ttl = "10s"\n max_wrapping_ttl = "60s" }'
    ).token
    path = f"{MOUNT}/creds/{role}"
    for method in ("GET", "PUT"):
        same_refusal(stack, method, path, token=token)
        same_refusal(stack, method, path, token=token, headers={"X-Vault-Wrap-TTL": "5m"})
        got = stack.request(method, path, token=token, headers={"X-Vault-Wrap-TTL": "30s"})
        assert got.status_code == 200
        assert got.json()["wrap_info"]["ttl"] == 30


@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
@pytest.mark.parametrize("form", ["", "jwt"])
def test_a_wrapped_key_keeps_its_path_and_its_lease(
    stack: SidecarStack, role: str, method: str, form: str
) -> None:
    headers = {"X-Vault-Wrap-TTL": "60s", **({"X-Vault-Wrap-Format": form} if form else {})}
    path = f"{MOUNT}/creds/{role}"
    wrapped = stack.request(method, path, {"ttl": "30s"} if method == "POST" else None, headers=headers)

    assert wrapped.status_code == 200
    body = wrapped.json()
    assert (body["request_id"], body["lease_id"], body["data"]) == ("", "", None)
    assert body["wrap_info"]["creation_path"] == path
    assert body.get("mount_type", "") == ""
    token = body["wrap_info"]["token"]
    assert token.startswith("eyJ") == (form == "jwt")
    opened = stack.request("POST", "sys/wrapping/unwrap", {"token": token})
    assert opened.status_code == 200, opened.text
    secret = opened.json()
    assert secret["lease_id"].startswith(f"{path}/")
    assert secret["lease_duration"] == (30 if method == "POST" else 60)
    assert stack.works(secret["data"]["api_key"])
    again = stack.request("POST", "sys/wrapping/unwrap", {"token": token})
    assert again.status_code == 400


def test_a_wrapped_read_of_a_role_and_of_the_list_shows_ours_when_opened(
    stack: SidecarStack, role: str
) -> None:
    headers = {"X-Vault-Wrap-TTL": "60s"}
    for method, path, check in (
        ("GET", f"{MOUNT}/roles/{role}", lambda data: data["ttl"] == 60),
        ("LIST", f"{MOUNT}/roles", lambda data: role in data["keys"] and "~" not in "".join(data["keys"])),
    ):
        wrapped = stack.request(method, path, headers=headers)
        info = wrapped.json()["wrap_info"]
        assert info["creation_path"].rstrip("/") == path
        opened = stack.request("POST", "sys/wrapping/unwrap", {"token": info["token"]})
        assert check(opened.json()["data"]), opened.text


def test_what_is_not_there_is_not_wrapped(stack: SidecarStack) -> None:
    headers = {"X-Vault-Wrap-TTL": "60s"}
    missing = stack.request("GET", f"{MOUNT}/roles/nobody", headers=headers)
    assert (missing.status_code, missing.json()) == (404, {"errors": []})
    unknown = stack.request("GET", f"{MOUNT}/creds/nobody", headers=headers)
    assert (unknown.status_code, unknown.json()) == (400, {"errors": ["unknown role: nobody"]})


@pytest.mark.parametrize("ttl", ["-5", "zz"])
def test_a_bad_wrapping_ttl_is_the_servers_own_refusal(stack: SidecarStack, role: str, ttl: str) -> None:
    for method in ("GET", "PUT"):
        same_refusal(stack, method, f"{MOUNT}/creds/{role}", headers={"X-Vault-Wrap-TTL": ttl})


# -- lists ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("query", ["?list=true", "?list=True", "?list=1"])
def test_a_list_shows_roles_and_no_marker(stack: SidecarStack, role: str, query: str) -> None:
    for got in (
        stack.request("GET", f"{MOUNT}/roles{query}"),
        stack.request("GET", f"{MOUNT}/roles/{query}"),
        stack.request("LIST", f"{MOUNT}/roles"),
    ):
        keys = got.json()["data"]["keys"]
        assert {role, "demo"} <= set(keys)
        assert all(key[0].isalnum() for key in keys)


def test_a_list_parameter_that_is_no_bool_is_400(stack: SidecarStack) -> None:
    got = stack.request("GET", f"{MOUNT}/roles?list=banana")
    assert (got.status_code, got.json()) == (400, {"errors": []})


def test_openbaos_filter_of_a_list_holds(openbao_stack: SidecarStack) -> None:
    stack = openbao_stack
    names = sorted(unique(f"filter-{letter}") for letter in "abc")
    for name in names:
        assert stack.request("POST", f"{MOUNT}/roles/{name}", {"ttl": "60s"}).status_code in {200, 204}
    token = stack.token(
        f'path "{MOUNT}/roles/" {{ capabilities = ["list"]\n'
        ' list_scan_response_keys_filter_path = "{{ .path }}{{ .key }}" }\n'
        f'path "{MOUNT}/roles/{names[1]}" {{ capabilities = ["read", "list"] }}'
    ).token

    shown = stack.request("LIST", f"{MOUNT}/roles", token=token)
    assert shown.json()["data"]["keys"] == [names[1]]
    wrapped = stack.request("LIST", f"{MOUNT}/roles", token=token, headers={"X-Vault-Wrap-TTL": "60s"})
    opened = stack.request("POST", "sys/wrapping/unwrap", {"token": wrapped.json()["wrap_info"]["token"]})
    assert opened.json()["data"]["keys"] == [names[1]]
    for name in names:
        stack.request("DELETE", f"{MOUNT}/roles/{name}")


# -- help, verbs, unserved paths ------------------------------------------------------------------------------------


def test_help_is_ours_and_needs_a_token(stack: SidecarStack) -> None:
    token = stack.token(["default"]).token
    for method in ("GET", "POST", "HELP"):
        got = stack.request(method, f"{MOUNT}/creds/demo{'' if method == 'HELP' else '?help=1'}", token=token)
        assert got.status_code == 200
        assert got.json()["help"].startswith("Request:        creds/demo")
        assert "Mint a key" in got.json()["help"]
    same_refusal(stack, "GET", f"{MOUNT}/creds/demo?help=1", token="")
    missing = stack.request("GET", f"{MOUNT}/no/such/path?help=1")
    assert (missing.status_code, missing.json()["errors"]) == (
        404,
        ["1 error occurred:\n\t* unsupported path\n\n"],
    )


def test_verbs_without_a_meaning_are_refused_and_change_nothing(stack: SidecarStack, role: str) -> None:
    unsupported = ["1 error occurred:\n\t* unsupported operation\n\n"]
    for method, path, status, texts in (
        ("DELETE", f"creds/{role}", 405, unsupported),
        ("LIST", "creds", 404, ["1 error occurred:\n\t* unsupported path\n\n"]),
        ("GET", "roles", 405, unsupported),
        ("POST", "no/such/path", 404, ["1 error occurred:\n\t* unsupported path\n\n"]),
        ("DELETE", "no/such/path", 404, ["1 error occurred:\n\t* unsupported path\n\n"]),
        ("FOO", f"creds/{role}", 405, []),
        ("GET", "roles/sho%20rt", 404, ["1 error occurred:\n\t* unsupported path\n\n"]),
    ):
        with stack.nothing_minted():
            got = stack.request(method, f"{MOUNT}/{path}", {"a": "b"} if method == "POST" else None)
        assert (got.status_code, got.json()["errors"]) == (status, texts), (method, path)
    assert marker(stack, f"creds/{role}") is not None
    assert marker(stack, "no/such/path") is None
    same_as_real = stack.request("PUT", f"{MOUNT}/roles/", {"a": "b"})
    assert (same_as_real.status_code, same_as_real.json()["errors"]) == (
        400,
        ["cannot write to a path ending in '/'"],
    )


def test_head_and_options_are_answered_as_the_server_does(stack: SidecarStack, role: str) -> None:
    token = stack.reader(role).token
    for method in ("HEAD", "OPTIONS"):
        for given in (token, None, ""):
            with stack.nothing_minted():
                ours = stack.request(method, f"{MOUNT}/creds/{role}", token=given)
            real = stack.direct(method, f"{MOUNT}/creds/{role}", token=given)
            assert (ours.status_code, ours.content) == (real.status_code, real.content), method


def test_scans_and_snapshots_authorise_nothing(stack: SidecarStack, role: str) -> None:
    token = stack.token(f'path "{MOUNT}/*" {{ capabilities = ["read", "list"] }}').token
    with stack.nothing_minted():
        for method, path, statuses in (
            ("SCAN", "roles", {403, 405}),
            ("RECOVER", f"creds/{role}", {400, 405}),
        ):
            assert stack.request(method, f"{MOUNT}/{path}", token=token).status_code in statuses
        if stack.is_vault:
            for query in ("read_snapshot_id=x", "recover_snapshot_id=x"):
                got = stack.request("GET", f"{MOUNT}/creds/{role}?{query}", token=token)
                assert got.status_code == 400
        else:
            assert stack.request("GET", f"{MOUNT}/creds/{role}?scan=true", token=token).status_code == 403


# -- patch ----------------------------------------------------------------------------------------------------------


def test_a_patch_needs_its_own_right_and_its_content_type(stack: SidecarStack, role: str) -> None:
    patcher = stack.token(f'path "{MOUNT}/roles/{role}" {{ capabilities = ["patch", "read"] }}').token
    updater = stack.token(f'path "{MOUNT}/roles/{role}" {{ capabilities = ["update"] }}').token
    path = f"{MOUNT}/roles/{role}"

    patched = stack.request("PATCH", path, content=b'{"ttl": "40s"}', token=patcher, headers=MERGE)
    assert patched.status_code in {200, 204}, patched.text
    assert stack.request("GET", path, token=patcher).json()["data"]["ttl"] == 40
    refused = stack.request("PATCH", path, content=b'{"ttl": "50s"}', token=updater, headers=MERGE)
    assert (refused.status_code, refused.json()) == (403, DENIED)
    for headers, status, text in (
        ({}, 400, "mime: no media type"),
        (
            {"Content-Type": "application/json"},
            415,
            "PATCH requires Content-Type of application/merge-patch+json, provided application/json",
        ),
    ):
        got = stack.request("PATCH", path, content=b'{"ttl": "50s"}', token=patcher, headers=headers)
        assert (got.status_code, got.json()["errors"]) == (status, [text])
    missing = stack.request("PATCH", f"{MOUNT}/roles/nobody", content=b'{"ttl": "50s"}', headers=MERGE)
    assert missing.status_code in {400, 404}
    assert stack.request("GET", path).json()["data"]["ttl"] == 40


# -- the shadow -----------------------------------------------------------------------------------------------------


def test_no_secret_of_a_write_reaches_the_shadow(stack: SidecarStack) -> None:
    secret = "hs-mgmt-obviously-fake-0123456789"
    config = {
        "relay": "holysheep",
        "base_url": "http://127.0.0.1:1/v1",
        "management_key": secret,
        "bogus": secret,
    }
    seen: list[str] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.append(stack.direct("GET", f"{MOUNT}/config").text)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for _ in range(5):
            refused = stack.request("POST", f"{MOUNT}/config", {**config, "relay": "nonesuch"})
            assert refused.status_code == 400
    finally:
        stop.set()
        watcher.join()
    assert seen
    assert secret not in "".join(seen)
    assert stack.request("GET", f"{MOUNT}/config").json()["data"]["relay"] == "holysheep"


def test_an_overwritten_marker_never_authorises_and_is_put_back(stack: SidecarStack, role: str) -> None:
    stack.direct("PUT", f"{MOUNT}/creds/{role}", {"aikeys_marker": "0" * 64})
    token = stack.reader(role).token

    with stack.nothing_minted():
        refused = stack.request("GET", f"{MOUNT}/creds/{role}", token=token)
    assert refused.status_code == 503
    assert "restored" in refused.json()["errors"][0]
    assert stack.request("GET", f"{MOUNT}/creds/{role}", token=token).status_code == 200


def test_a_marker_copied_from_another_path_never_authorises(stack: SidecarStack, role: str) -> None:
    stack.direct("PUT", f"{MOUNT}/creds/{role}", marker(stack, "creds/demo"))

    with stack.nothing_minted():
        assert stack.request("GET", f"{MOUNT}/creds/{role}").status_code == 503


def test_a_missing_marker_never_authorises_and_is_put_back(stack: SidecarStack, role: str) -> None:
    token = stack.token(f'path "{MOUNT}/creds/{role}" {{ capabilities = ["read", "update"] }}').token
    for method, body in (("GET", None), ("PUT", None)):
        stack.direct("DELETE", f"{MOUNT}/creds/{role}")
        with stack.nothing_minted():
            refused = stack.request(method, f"{MOUNT}/creds/{role}", body, token=token)
        # Without the entry an update is a create to the server: refused there, which leaves nothing to put back.
        assert refused.status_code == (503 if method == "GET" else 403)
        if method == "PUT":
            stack.request("GET", f"{MOUNT}/creds/{role}")
        assert stack.request(method, f"{MOUNT}/creds/{role}", body, token=token).status_code == 200


def test_a_foreign_entry_where_the_engine_has_nothing_mints_nothing(stack: SidecarStack) -> None:
    stack.direct("PUT", f"{MOUNT}/creds/ghost", {"a": "b"})
    try:
        with stack.nothing_minted():
            got = stack.request("GET", f"{MOUNT}/creds/ghost")
        assert (got.status_code, got.json()) == (400, {"errors": ["unknown role: ghost"]})
    finally:
        stack.direct("DELETE", f"{MOUNT}/creds/ghost")


def test_a_role_that_is_deleted_takes_its_markers_along(stack: SidecarStack) -> None:
    name = unique("authz-gone")
    stack.request("POST", f"{MOUNT}/roles/{name}", {"ttl": "60s"})
    assert marker(stack, f"roles/{name}")
    assert marker(stack, f"creds/{name}")

    assert stack.request("DELETE", f"{MOUNT}/roles/{name}").status_code == 204

    assert marker(stack, f"roles/{name}") is None
    assert marker(stack, f"creds/{name}") is None
    assert stack.request("GET", f"{MOUNT}/creds/{name}").status_code == 400


def test_a_refused_write_leaves_the_marker_and_the_role_as_they_were(stack: SidecarStack, role: str) -> None:
    before = marker(stack, f"roles/{role}")

    got = stack.request("POST", f"{MOUNT}/roles/{role}", {"ttl": "10m", "max_ttl": "5m"})

    assert got.status_code == 400
    assert marker(stack, f"roles/{role}") == before
    assert stack.request("GET", f"{MOUNT}/roles/{role}").json()["data"]["ttl"] == 60


def test_a_refused_create_leaves_no_entry_behind(stack: SidecarStack) -> None:
    name = unique("authz-never")
    got = stack.request("POST", f"{MOUNT}/roles/{name}", {"ttl": "10m", "max_ttl": "5m"})

    assert got.status_code == 400
    assert marker(stack, f"roles/{name}") is None
    assert marker(stack, f"creds/{name}") is None


def test_reads_and_writes_at_once_all_succeed(stack: SidecarStack, role: str) -> None:
    """A write replaces the marker for a moment; a read that meets it waits for the marker to be back."""

    def ask(number: int) -> int:
        if number % 3:
            return stack.request("GET", f"{MOUNT}/creds/{role}").status_code
        return stack.request("PUT", f"{MOUNT}/creds/{role}", {"ttl": "30s"}).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(ask, range(48)))
    assert statuses == [200] * 48


def test_the_upstreams_audit_shows_the_callers_own_request(stack: SidecarStack, role: str) -> None:
    """One request of ours is one of the caller's there: the quota and the audit of the server are real."""
    limit = unique("quota")
    stack.upstream.request(
        "POST", f"sys/quotas/rate-limit/{limit}", {"path": f"{MOUNT}/", "rate": 1000, "interval": "1s"}
    )
    stack.upstream.request("POST", "sys/quotas/config", {"enable_rate_limit_response_headers": True})
    try:
        got = stack.request("GET", f"{MOUNT}/roles/{role}")
        assert got.headers["x-ratelimit-limit"] == "1000"
    finally:
        stack.upstream.request("DELETE", f"sys/quotas/rate-limit/{limit}")


def test_an_exhausted_quota_is_the_upstreams_429(stack: SidecarStack, role: str) -> None:
    limit = unique("quota")
    stack.upstream.request(
        "POST",
        f"sys/quotas/rate-limit/{limit}",
        {"path": f"{MOUNT}/roles/{role}", "rate": 1, "interval": "30s"},
    )
    stack.upstream.request("POST", "sys/quotas/config", {"enable_rate_limit_response_headers": True})
    try:
        replies = [stack.request("GET", f"{MOUNT}/roles/{role}") for _ in range(4)]
        refused = [reply for reply in replies if reply.status_code == 429]
        assert refused
        assert "rate limit quota exceeded" in refused[0].json()["errors"][0]
        assert int(refused[0].headers["retry-after"]) > 0
    finally:
        stack.upstream.request("DELETE", f"sys/quotas/rate-limit/{limit}")


def test_unknown_parameters_are_warned_about_by_us_once(stack: SidecarStack, role: str) -> None:
    got = stack.request("GET", f"{MOUNT}/creds/{role}?zzz=1")
    assert got.json()["warnings"] == ["Endpoint ignored these unrecognized parameters: [zzz]"]


def test_a_body_larger_than_a_policy_can_mean_stays_here(stack: SidecarStack, role: str) -> None:
    """The server would have to store it; it sees the field's name and no value."""
    got = stack.request(
        "POST", f"{MOUNT}/roles/{role}", {"metadata": {"note": "x" * 5000}, "zzz": "y" * 900_000}
    )
    assert got.status_code in {200, 204, 400}
    assert json.dumps(marker(stack, f"roles/{role}")).count("y") < 100
