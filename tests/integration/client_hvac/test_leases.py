"""hvac reads keys, wrapped or not, and does with their leases what it does with any."""

from __future__ import annotations

import hvac
import hvac.exceptions
import pytest
from tests.integration.client_hvac.conftest import ROLE
from tests.sidecar_stack import MOUNT, SidecarStack


def test_a_key_can_be_read_and_written_with_a_ttl_of_its_own(
    stack: SidecarStack, client: hvac.Client, role: str
) -> None:
    read = client.read(f"{MOUNT}/creds/{role}")
    written = client.write_data(f"{MOUNT}/creds/{role}", data={"ttl": "90s"})
    too_long = client.write_data(f"{MOUNT}/creds/{role}", data={"ttl": "2h"})

    assert read["lease_duration"] == 600
    assert written["lease_duration"] == 90
    assert too_long["lease_duration"] == 3600
    assert too_long["warnings"] == [
        'TTL of "2h" exceeded the effective max_ttl of "1h"; TTL value is capped accordingly'
    ]
    assert len({answer["data"]["api_key"] for answer in (read, written, too_long)}) == 3
    assert all(stack.works(answer["data"]["api_key"]) for answer in (read, written, too_long))


def test_a_lease_is_looked_up_renewed_and_listed(stack: SidecarStack, client: hvac.Client, role: str) -> None:
    secret = client.read(f"{MOUNT}/creds/{role}")
    lease_id = secret["lease_id"]

    looked_up = client.sys.read_lease(lease_id)["data"]
    assert looked_up["id"] == lease_id
    assert (looked_up["renewable"], looked_up["last_renewal"]) == (True, None)
    assert 590 <= looked_up["ttl"] <= 600
    # OpenBao names the path too, Vault does not.
    assert looked_up.get("path") == (None if stack.is_vault else f"{MOUNT}/creds/{role}")

    assert client.sys.renew_lease(lease_id)["lease_duration"] == 600
    shorter = client.sys.renew_lease(lease_id, increment=30)
    assert shorter["lease_duration"] == 30
    looked_up = client.sys.read_lease(lease_id)["data"]
    assert looked_up["last_renewal"] is not None
    assert 25 <= looked_up["ttl"] <= 30

    capped = client.sys.renew_lease(lease_id, increment=7200)
    assert 3590 <= capped["lease_duration"] <= 3600
    assert "exceeded the effective max_ttl of" in capped["warnings"][0]

    assert client.sys.list_leases(f"{MOUNT}/creds/{role}")["data"]["keys"] == [lease_id.rpartition("/")[2]]
    assert f"{role}/" in client.sys.list_leases(f"{MOUNT}/creds")["data"]["keys"]
    assert "creds/" in client.sys.list_leases(MOUNT)["data"]["keys"]
    top = client.sys.list_leases("")["data"]["keys"]
    assert f"{MOUNT}/" in top
    assert "auth/" in top


def test_revoked_leases_are_refused_at_the_relay_one_by_one_by_prefix_and_by_force(
    stack: SidecarStack, client: hvac.Client, role: str
) -> None:
    keys = [stack.read_key(role) for _ in range(4)]
    one, *others = keys

    assert client.sys.revoke_lease(one["lease_id"]).status_code == 204
    assert [stack.works(key["data"]["api_key"]) for key in keys] == [False, True, True, True]
    assert client.sys.revoke_lease(one["lease_id"]).status_code == 204, "again is no error"
    with pytest.raises(hvac.exceptions.InvalidRequest, match="invalid lease"):
        client.sys.read_lease(one["lease_id"])

    # A prefix that is a lease's own id ends that lease alone.
    client.sys.revoke_prefix(others[0]["lease_id"])
    assert [stack.works(key["data"]["api_key"]) for key in others] == [False, True, True]
    client.sys.revoke_prefix(f"{MOUNT}/creds/{role}")
    assert not any(stack.works(key["data"]["api_key"]) for key in keys)
    with pytest.raises(hvac.exceptions.InvalidPath):
        client.sys.list_leases(f"{MOUNT}/creds/{role}")

    forced = stack.read_key(role)
    client.sys.revoke_force(f"{MOUNT}/creds/{role}")
    assert not stack.works(forced["data"]["api_key"])


def test_a_prefix_ends_at_a_slash(stack: SidecarStack, client: hvac.Client, role: str) -> None:
    """`creds/app` is no prefix of `creds/app2`: only its own leases end."""
    longer = f"{role}2"
    client.write_data(f"{MOUNT}/roles/{longer}", data=ROLE)
    try:
        own, other = stack.read_key(role), stack.read_key(longer)
        client.sys.revoke_prefix(f"{MOUNT}/creds/{role}")
        assert not stack.works(own["data"]["api_key"])
        assert stack.works(other["data"]["api_key"])
    finally:
        client.sys.revoke_prefix(f"{MOUNT}/creds/{longer}")
        client.delete(f"{MOUNT}/roles/{longer}")


def test_force_gives_a_lease_up_that_the_relay_will_not_end(
    stack: SidecarStack, client: hvac.Client, role: str
) -> None:
    secret = stack.read_key(role)
    stack.control.fault("error", status=500, path="/v1/keys/*", method="DELETE", count=None)
    try:
        with pytest.raises(hvac.exceptions.InvalidRequest, match="failed to revoke"):
            client.sys.revoke_lease(secret["lease_id"])
        assert client.sys.read_lease(secret["lease_id"])["data"]["renewable"] is False
        with pytest.raises(hvac.exceptions.InvalidRequest, match="failed to revoke"):
            client.sys.revoke_prefix(f"{MOUNT}/creds/{role}")
        client.sys.revoke_force(f"{MOUNT}/creds/{role}")
        with pytest.raises(hvac.exceptions.InvalidRequest, match="invalid lease"):
            client.sys.read_lease(secret["lease_id"])
    finally:
        stack.control.clear_faults()


def test_leases_of_others_go_on_through_the_sidecar(stack: SidecarStack) -> None:
    """Leases of tokens are the upstream's: listed beside ours, renewed and revoked there."""
    client = stack.hvac()
    token = stack.token([], ttl="5m", policies=["default"])
    assert client.sys.list_leases("auth/token/create")["data"]["keys"]
    renewed = stack.hvac(token.token).auth.token.renew_self()
    assert renewed["auth"]["client_token"] == token.token
    client.auth.token.revoke(token.token)
    assert not stack.hvac(token.token).is_authenticated()


def test_a_wrapped_key_is_unwrapped_once_with_its_lease(
    stack: SidecarStack, client: hvac.Client, role: str
) -> None:
    wrapped = stack.request("GET", f"{MOUNT}/creds/{role}", headers={"X-Vault-Wrap-TTL": "1m"})
    info = wrapped.json()["wrap_info"]
    assert (info["creation_path"], info["ttl"]) == (f"{MOUNT}/creds/{role}", 60)
    assert wrapped.json()["data"] is None
    assert wrapped.json()["lease_id"] == ""

    looked_up = client.write_data("sys/wrapping/lookup", data={"token": info["token"]})
    assert looked_up["data"]["creation_path"] == f"{MOUNT}/creds/{role}"

    secret = stack.hvac(info["token"]).sys.unwrap()
    assert secret["lease_id"].startswith(f"{MOUNT}/creds/{role}/")
    assert (secret["renewable"], secret["lease_duration"]) == (True, 600)
    assert stack.works(secret["data"]["api_key"])
    assert client.sys.read_lease(secret["lease_id"])["data"]["id"] == secret["lease_id"]

    with pytest.raises(hvac.exceptions.InvalidRequest, match="wrapping token is not valid or does not exist"):
        client.sys.unwrap(info["token"])


def test_a_written_key_can_be_wrapped_and_rewrapped(
    stack: SidecarStack, client: hvac.Client, role: str
) -> None:
    wrapped = client.write_data(f"{MOUNT}/creds/{role}", data={"ttl": "90s"}, wrap_ttl="2m")
    info = wrapped["wrap_info"]
    assert (info["creation_path"], info["ttl"]) == (f"{MOUNT}/creds/{role}", 120)

    again = client.write_data("sys/wrapping/rewrap", data={"token": info["token"]})["wrap_info"]
    assert again["token"] != info["token"]
    assert again["creation_path"] == f"{MOUNT}/creds/{role}"
    with pytest.raises(hvac.exceptions.InvalidRequest):
        client.sys.unwrap(info["token"])
    secret = client.sys.unwrap(again["token"])
    assert secret["lease_duration"] == 90
    assert stack.works(secret["data"]["api_key"])


def test_what_others_wrap_is_unwrapped_as_before(stack: SidecarStack, client: hvac.Client) -> None:
    wrapped = client.sys.wrap({"hello": "world"}, ttl=60)
    assert client.sys.unwrap(wrapped["wrap_info"]["token"])["data"] == {"hello": "world"}


def test_leases_end_with_the_token_that_asked(stack: SidecarStack, role: str) -> None:
    token = stack.token(f'path "{MOUNT}/creds/{role}" {{ capabilities = ["read"] }}')
    other = stack.token(f'path "{MOUNT}/creds/{role}" {{ capabilities = ["read"] }}')
    mine, theirs = stack.read_key(role, token.token), stack.read_key(role, other.token)

    stack.hvac().auth.token.revoke_accessor(token.accessor)

    stack.dies(mine["data"]["api_key"])
    assert stack.works(theirs["data"]["api_key"])
