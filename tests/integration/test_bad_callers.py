"""Tokens that are over, spent, bound, batched or wrapped: each is refused as the server refuses it, and mints nothing."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator

import pytest
from tests.sidecar_stack import MOUNT, READER, SidecarStack, eventually, unique

CREDS = f"{MOUNT}/creds/demo"
LAST_USE = (
    "Secret cannot be returned; token had one use left, so leased credentials were immediately revoked."
)


def refused_as_by_the_server(stack: SidecarStack, token: str) -> None:
    """The same answer as for a secret of the server's own, and no key."""
    with stack.nothing_minted():
        for method in ("GET", "PUT"):
            ours = stack.request(method, CREDS, token=token)
            theirs = stack.direct(method, "secret/data/nope", token=token)
            assert ours.status_code == 403, ours.text
            assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json())


@pytest.fixture
def reader_policy(stack: SidecarStack) -> Iterator[str]:
    name = unique("reader")
    stack.upstream.request("PUT", f"sys/policies/acl/{name}", {"policy": READER.format(role="demo")})
    yield name
    stack.upstream.request("DELETE", f"sys/policies/acl/{name}")


@pytest.mark.parametrize("path", ["creds/demo", "roles/nope", "leases", "nowhere"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "LIST"])
@pytest.mark.parametrize("token", ["hvs.a.b", "s.a.b", "a.b.c", "x" * 3000])
def test_what_is_no_token_is_answered_as_by_the_server(
    stack: SidecarStack, token: str, method: str, path: str
) -> None:
    """Vault calls some of them a failure of its own."""
    with stack.nothing_minted():
        ours = stack.request(method, f"{MOUNT}/{path}", token=token)
    theirs = stack.direct(method, f"{MOUNT}/{path}", token=token)
    assert (ours.status_code, ours.json()) == (theirs.status_code, theirs.json())


def test_an_expired_token_is_refused(stack: SidecarStack) -> None:
    token = stack.reader(ttl="2s").token
    assert stack.works(stack.read_key(token=token)["data"]["api_key"])
    time.sleep(2.2)
    refused_as_by_the_server(stack, token)


def test_a_revoked_token_is_refused_in_the_same_second(stack: SidecarStack) -> None:
    """Also when the sidecar has just looked it up, and it was revoked where the sidecar does not see it."""
    token = stack.reader()
    assert stack.works(stack.read_key(token=token.token)["data"]["api_key"])
    stack.upstream.request("POST", "auth/token/revoke-accessor", {"accessor": token.accessor})
    refused_as_by_the_server(stack, token.token)


def test_a_token_whose_policy_was_taken_away_is_refused_in_the_same_second(
    stack: SidecarStack, reader_policy: str
) -> None:
    token = stack.token([reader_policy]).token
    assert stack.works(stack.read_key(token=token)["data"]["api_key"])
    stack.upstream.request("DELETE", f"sys/policies/acl/{reader_policy}")
    refused_as_by_the_server(stack, token)


def test_the_last_use_of_a_token_gives_no_key(stack: SidecarStack) -> None:
    token = stack.reader(num_uses=3).token
    assert all(stack.works(stack.read_key(token=token)["data"]["api_key"]) for _ in range(2))
    with stack.nothing_minted():
        last = stack.request("GET", CREDS, token=token)
        assert (last.status_code, last.json()) == (400, {"errors": [LAST_USE]})
        after = stack.request("GET", CREDS, token=token)
        assert after.status_code == 403


def test_a_refused_request_spends_a_use_too(stack: SidecarStack) -> None:
    token = stack.reader(num_uses=3).token
    with stack.nothing_minted():
        for path in (f"{MOUNT}/roles/demo", f"{MOUNT}/creds/short"):
            assert stack.request("GET", path, token=token).status_code == 403
        assert stack.request("GET", CREDS, token=token).json() == {"errors": [LAST_USE]}
        assert stack.request("GET", CREDS, token=token).status_code == 403


def test_a_bound_token_works_only_from_where_it_is_bound_to(stack: SidecarStack) -> None:
    def bound_to(network: str) -> str:
        role = unique("bound")
        stack.upstream.request("POST", f"auth/token/roles/{role}", {"token_bound_cidrs": [network]})
        made = stack.upstream.request(
            "POST", f"auth/token/create/{role}", {"policies": [reader], "ttl": "5m"}
        )
        return str(made["auth"]["client_token"])

    reader = unique("reader")
    stack.upstream.request("PUT", f"sys/policies/acl/{reader}", {"policy": READER.format(role="demo")})
    elsewhere = bound_to("192.0.2.0/24")
    refused_as_by_the_server(stack, elsewhere)
    with stack.nothing_minted():
        spoofed = stack.request("GET", CREDS, token=elsewhere, headers={"X-Forwarded-For": "192.0.2.7"})
        assert spoofed.status_code == 403
    assert stack.works(stack.read_key(token=bound_to("127.0.0.1/32"))["data"]["api_key"])


def test_a_batch_token_gets_a_key_no_longer_than_its_own_life(stack: SidecarStack) -> None:
    token = stack.reader(type="batch", ttl="3s").token
    secret = stack.read_key(token=token)
    key = secret["data"]["api_key"]
    assert 1 <= secret["lease_duration"] <= 3
    renewed = stack.request("PUT", "sys/leases/renew", {"lease_id": secret["lease_id"], "increment": 60})
    assert renewed.json()["lease_duration"] <= 3
    stack.dies(key, seconds=10)
    refused_as_by_the_server(stack, token)


def test_a_batch_token_ends_with_its_parent_and_so_do_its_keys(stack: SidecarStack) -> None:
    parent = stack.token(
        READER.format(role="demo") + 'path "auth/token/create" { capabilities = ["update"] }'
    )
    made = stack.direct(
        "POST", "auth/token/create", {"type": "batch", "ttl": "5m"}, token=parent.token
    ).json()
    token = made["auth"]["client_token"]
    key = stack.read_key(token=token)["data"]["api_key"]
    assert stack.works(key)
    assert stack.request("PUT", "auth/token/revoke", {"token": token}).status_code == 400, (
        "batch tokens cannot"
    )
    stack.request("PUT", "auth/token/revoke", {"token": parent.token})
    with stack.nothing_minted():
        assert stack.request("GET", CREDS, token=token).status_code == 403


def test_a_child_ends_with_its_parent(stack: SidecarStack) -> None:
    parent = stack.token(
        READER.format(role="demo") + 'path "auth/token/create" { capabilities = ["update"] }'
    )
    child = stack.direct("POST", "auth/token/create", {"ttl": "5m"}, token=parent.token).json()["auth"]
    assert stack.works(stack.read_key(token=child["client_token"])["data"]["api_key"])
    assert stack.request("PUT", "auth/token/revoke", {"token": parent.token}).status_code == 204
    refused_as_by_the_server(stack, child["client_token"])


def test_revoking_a_parent_alone_leaves_the_childs_keys(stack: SidecarStack) -> None:
    parent = stack.token(
        READER.format(role="demo") + 'path "auth/token/create" { capabilities = ["update"] }'
    )
    child = stack.direct("POST", "auth/token/create", {"ttl": "5m"}, token=parent.token).json()["auth"]
    keys = [stack.read_key(token=token)["data"]["api_key"] for token in (parent.token, child["client_token"])]
    assert stack.request("PUT", "auth/token/revoke-orphan", {"token": parent.token}).status_code == 204
    stack.dies(keys[0], seconds=10)
    assert stack.works(keys[1])


def test_a_disabled_entity_gets_nothing(stack: SidecarStack, reader_policy: str) -> None:
    user = unique("user")
    if "userpass/" not in stack.upstream.request("GET", "sys/auth")["data"]:
        stack.upstream.request("POST", "sys/auth/userpass", {"type": "userpass"})
    stack.upstream.request(
        "POST", f"auth/userpass/users/{user}", {"password": "a-made-up-one", "token_policies": reader_policy}
    )
    login = stack.request(
        "PUT", f"auth/userpass/login/{user}", {"password": "a-made-up-one"}, token=""
    ).json()
    token, entity = login["auth"]["client_token"], login["auth"]["entity_id"]
    assert stack.works(stack.read_key(token=token)["data"]["api_key"])
    stack.upstream.request("POST", f"identity/entity/id/{entity}", {"disabled": True})
    with stack.nothing_minted():
        ours = stack.request("GET", CREDS, token=token)
        theirs = stack.direct("GET", CREDS, token=token)
    assert ours.status_code == 403
    assert ours.json() == theirs.json()


def test_a_wrapping_token_is_no_token_to_read_keys_with(stack: SidecarStack) -> None:
    """It is refused and spent, as by the server."""
    wrapped = stack.request("GET", CREDS, headers={"X-Vault-Wrap-TTL": "60"}).json()["wrap_info"]["token"]
    with stack.nothing_minted():
        refused = stack.request("GET", CREDS, token=wrapped)
        assert refused.status_code == 403
        again = stack.request("PUT", "sys/wrapping/unwrap", token=wrapped)
        assert again.status_code == 400
        assert again.json() == {"errors": ["wrapping token is not valid or does not exist"]}


def test_a_login_by_a_wrapped_secret_id_works_once(stack: SidecarStack) -> None:
    client = stack.hvac()
    info = client.write_data("auth/approle/role/demo/secret-id", data={}, wrap_ttl="60s")["wrap_info"]
    assert info["creation_path"] == "auth/approle/role/demo/secret-id"
    secret_id = stack.hvac(info["token"]).sys.unwrap()["data"]["secret_id"]
    app = stack.hvac("")
    app.auth.approle.login(role_id=stack.app.role_id, secret_id=secret_id)
    assert stack.works(app.read(CREDS)["data"]["api_key"])
    again = stack.request("PUT", "sys/wrapping/unwrap", token=info["token"])
    assert again.status_code == 400


def test_inline_authentication_gets_no_lease(stack: SidecarStack) -> None:
    """OpenBao logs in with the request and refuses leases then; Vault knows nothing of it, and looks at the token."""

    def parameter(key: str, value: str) -> str:
        pair = f'{{"key":"{key}","value":"{value}"}}'
        return base64.urlsafe_b64encode(pair.encode()).decode().rstrip("=")

    inline = {
        "X-Vault-Inline-Auth-Path": "auth/approle/login",
        "X-Vault-Inline-Auth-Parameter-role": parameter("role_id", stack.app.role_id),
        "X-Vault-Inline-Auth-Parameter-secret": parameter("secret_id", stack.app.secret_id.reveal()),
    }
    with stack.nothing_minted():
        answer = stack.request("GET", CREDS, headers=inline, token="")
    if stack.is_vault:
        assert answer.status_code == 403
        secret = stack.request("GET", CREDS, headers=inline, token=stack.reader().token)
        assert secret.status_code == 200, secret.text
        assert stack.works(secret.json()["data"]["api_key"])
    else:
        assert answer.status_code == 500
        assert answer.json()["errors"] == ["requests with inline authentication cannot generate leases"]
        with stack.nothing_minted():
            both = stack.request("GET", CREDS, headers=inline, token=stack.reader().token)
        assert both.status_code == 500


def test_on_vault_both_strings_of_a_token_are_one_caller(vault_stack: SidecarStack) -> None:
    """The long string of a service token holds a short one that works as well: leases go by the accessor."""
    stack = vault_stack
    long = stack.reader().token
    padded = long.removeprefix("hvs.") + "=" * (-len(long.removeprefix("hvs.")) % 4)
    found = re.search(rb"hvs\.[A-Za-z0-9]{24}", base64.urlsafe_b64decode(padded))
    assert found, "the token has another form than Vault 1.21's"
    short = found[0].decode()
    by_long, by_short = (stack.read_key(token=token)["data"]["api_key"] for token in (long, short))
    assert stack.request("PUT", "auth/token/revoke", {"token": short}).status_code == 204
    for key in (by_long, by_short):
        eventually(lambda key=key: not stack.works(key), what="the end of both keys")  # type: ignore[misc]
    for token in (long, short):
        refused_as_by_the_server(stack, token)
