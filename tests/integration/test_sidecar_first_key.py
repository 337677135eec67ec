"""An app reads a key with an ordinary client, uses it, and it is refused when the lease is revoked."""

from __future__ import annotations

import hvac
import pytest
from tests.sidecar_stack import MOUNT, SidecarStack


@pytest.fixture
def app(stack: SidecarStack) -> hvac.Client:
    """hvac as an app has it: a token that may read one role's keys and end its leases."""
    token = stack.token(
        f'path "{MOUNT}/creds/demo" {{ capabilities = ["read", "update"] }}\n'
        'path "sys/leases/revoke" { capabilities = ["update"] }'
    )
    return stack.hvac(token.token)


def test_a_key_read_with_hvac_works_at_the_relay_until_its_lease_is_revoked(
    stack: SidecarStack, app: hvac.Client
) -> None:
    got = app.read(f"{MOUNT}/creds/demo")

    assert got is not None
    key, lease_id = got["data"]["api_key"], got["lease_id"]
    assert lease_id.startswith(f"{MOUNT}/creds/demo/")
    assert got["renewable"] is True
    assert got["lease_duration"] == 60
    assert got["data"]["base_url"] == stack.relay.base_url
    assert stack.works(key)

    app.sys.revoke_lease(lease_id)

    assert not stack.works(key)


def test_a_write_with_parameters_mints_as_a_read_does(stack: SidecarStack, app: hvac.Client) -> None:
    got = app.write_data(f"{MOUNT}/creds/demo", data={"ttl": "30s"})

    assert got["lease_duration"] == 30
    assert stack.works(got["data"]["api_key"])


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"ttl": null}', b" \n "])
def test_a_write_without_parameters_mints_whatever_its_body_looks_like(
    stack: SidecarStack, body: bytes
) -> None:
    got = stack.request("PUT", f"{MOUNT}/creds/demo", content=body)

    assert got.status_code == 200, got.text
    assert stack.works(got.json()["data"]["api_key"])


def test_a_form_is_read_as_a_body(stack: SidecarStack) -> None:
    got = stack.request(
        "POST",
        f"{MOUNT}/creds/demo",
        content=b"ttl=20s",
        headers={"Content-Type": "application/x-www-form-urlencoded"},
    )

    assert got.status_code == 200, got.text
    assert got.json()["lease_duration"] == 20


def test_an_answer_has_the_fields_their_order_and_the_headers_of_the_servers_own(stack: SidecarStack) -> None:
    stack.direct("PUT", "cubbyhole/something", {"a": "b"})
    real = stack.direct("GET", "cubbyhole/something")
    ours = stack.request("GET", f"{MOUNT}/creds/demo")

    assert list(ours.json()) == list(real.json())
    volatile = {"date", "content-length", "connection"}
    shown = {name: value for name, value in ours.headers.multi_items() if name not in volatile}
    assert shown == {name: value for name, value in real.headers.multi_items() if name not in volatile}
    assert len(ours.headers.get_list("date")) == 1
    assert ours.content.endswith(b"}\n")
    assert ("mount_type" in ours.json()) == stack.is_vault
    assert ours.json().get("mount_type", "ai-keys") == "ai-keys"


def test_an_unknown_role_is_400_and_leaves_nothing_behind(stack: SidecarStack) -> None:
    with stack.nothing_minted():
        read = stack.request("GET", f"{MOUNT}/creds/nobody")
        written = stack.request("PUT", f"{MOUNT}/creds/nobody", {"ttl": "1h"})

    for got in (read, written):
        assert (got.status_code, got.json()) == (400, {"errors": ["unknown role: nobody"]})
    # What the replay of the write wrote is gone again.
    assert stack.direct("GET", f"{MOUNT}/creds/nobody").status_code == 404


def test_a_namespace_header_is_echoed_as_the_server_does(stack: SidecarStack) -> None:
    got = stack.request("GET", f"{MOUNT}/roles/demo", headers={"X-Vault-Namespace": "root"})

    assert got.status_code == 200
    assert got.headers.get_list("x-vault-namespace") == ["root"]
