"""Whether a caller may is the upstream's own answer, and without its positive proof nothing is minted."""

from __future__ import annotations

import base64
import json

import pytest
from tests.integration.authorization.conftest import ALL, DENIED, MERGE, marker, same_refusal
from tests.sidecar_stack import MOUNT, SidecarStack, unique

LAST_USE = (
    "Secret cannot be returned; token had one use left, so leased credentials were immediately revoked."
)


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
