"""hvac, as anybody installs it, finds a Vault with one engine more, and all else as it was."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import hvac
import hvac.exceptions
import pytest
from tests.sidecar_stack import MOUNT, SidecarStack, eventually, unique


def test_an_app_logs_in_by_approle_reads_a_key_uses_it_renews_it_and_gives_it_back(
    every_stack: SidecarStack,
) -> None:
    stack = every_stack
    app = stack.hvac("")
    app.auth.approle.login(role_id=stack.app.role_id, secret_id=stack.app.secret_id.reveal())

    secret = app.read(f"{MOUNT}/creds/demo")

    assert secret["lease_id"].startswith(f"{MOUNT}/creds/demo/")
    assert (secret["renewable"], secret["lease_duration"]) == (True, 60)
    assert secret["data"]["base_url"] == stack.relay.base_url
    key = secret["data"]["api_key"]
    assert stack.works(key)

    renewed = app.sys.renew_lease(secret["lease_id"], increment=90)
    assert renewed["lease_id"] == secret["lease_id"]
    assert (renewed["renewable"], renewed["lease_duration"], renewed["data"]) == (True, 90, None)

    app.sys.revoke_lease(secret["lease_id"])
    assert not stack.works(key)
    with pytest.raises(hvac.exceptions.InvalidRequest, match="lease not found"):
        app.sys.renew_lease(secret["lease_id"])


def test_an_app_may_do_what_its_policy_says_and_nothing_else(every_stack: SidecarStack) -> None:
    stack = every_stack
    app = stack.hvac("")
    app.auth.approle.login(role_id=stack.app.role_id, secret_id=stack.app.secret_id.reveal())
    refusals: list[Callable[[], object]] = [
        lambda: app.read(f"{MOUNT}/creds/short"),
        lambda: app.read(f"{MOUNT}/roles/demo"),
        lambda: app.list(f"{MOUNT}/roles"),
        lambda: app.read(f"{MOUNT}/config"),
        lambda: app.write_data(f"{MOUNT}/roles/demo", data={"ttl": 1}),
        lambda: app.delete(f"{MOUNT}/roles/demo"),
        lambda: app.sys.list_leases(f"{MOUNT}/creds/demo"),
        lambda: app.sys.revoke_prefix(f"{MOUNT}/creds/demo"),
        lambda: app.sys.revoke_force(f"{MOUNT}/creds/demo"),
        lambda: app.sys.disable_secrets_engine(MOUNT),
        lambda: app.sys.enable_secrets_engine("ai-keys", path="team-keys"),
        lambda: app.sys.tune_mount_configuration(MOUNT, default_lease_ttl="1h"),
        lambda: app.sys.move_backend(MOUNT, "moved-keys"),
        app.sys.list_mounted_secrets_engines,
    ]
    for refused in refusals:
        with stack.nothing_minted(), pytest.raises(hvac.exceptions.Forbidden, match="permission denied"):
            refused()
    assert stack.hvac().read(f"{MOUNT}/roles/demo")["data"]["ttl"] == 60


def test_capabilities_are_the_upstreams_own(stack: SidecarStack) -> None:
    reader = stack.hvac(stack.reader().token)
    paths = [f"{MOUNT}/creds/demo", f"{MOUNT}/creds/short", f"{MOUNT}/roles/demo"]
    told = reader.sys.get_capabilities(paths)["data"]
    assert [told[path] for path in paths] == [["read"], ["deny"], ["deny"]]


def test_policies_and_approles_are_written_through_the_sidecar_and_bind(stack: SidecarStack) -> None:
    client = stack.hvac()
    name = unique("hvac-app")
    client.sys.create_or_update_policy(
        name,
        f'path "{MOUNT}/creds/demo" {{\n  capabilities = ["create", "update"]\n'
        '  allowed_parameters = { "ttl" = ["30s", "40s"] }\n}\n',
    )
    client.auth.approle.create_or_update_approle(name, token_policies=[name], token_ttl="5m")
    app = stack.hvac("")
    app.auth.approle.login(
        role_id=client.auth.approle.read_role_id(name)["data"]["role_id"],
        secret_id=client.auth.approle.generate_secret_id(name)["data"]["secret_id"],
    )

    assert app.write_data(f"{MOUNT}/creds/demo", data={"ttl": "30s"})["lease_duration"] == 30
    refusals: list[Callable[[], object]] = [
        lambda: app.write_data(f"{MOUNT}/creds/demo", data={"ttl": "50s"}),
        lambda: app.write_data(f"{MOUNT}/creds/demo", data={"ttl": "30s", "other": "x"}),
        lambda: app.read(f"{MOUNT}/creds/demo"),
    ]
    for refused in refusals:
        with stack.nothing_minted(), pytest.raises(hvac.exceptions.Forbidden):
            refused()

    client.sys.delete_policy(name)
    with stack.nothing_minted(), pytest.raises(hvac.exceptions.Forbidden):
        app.write_data(f"{MOUNT}/creds/demo", data={"ttl": "30s"})


def test_other_engines_and_methods_answer_as_without_the_sidecar(every_stack: SidecarStack) -> None:
    """kv of both versions, transit, auth and sys: the same answers, byte for byte where they do not hold times or ids."""
    stack = every_stack
    through, straight = stack.hvac(), stack.hvac(address=stack.upstream.address)
    one, two, transit = unique("kv1"), unique("kv2"), unique("transit")
    through.sys.enable_secrets_engine("kv", path=one, options={"version": "1"})
    through.sys.enable_secrets_engine("kv", path=two, options={"version": "2"})
    through.sys.enable_secrets_engine("transit", path=transit)
    eventually(lambda: written_to_version_2(through, two), what="the kv of version 2")

    through.secrets.kv.v1.create_or_update_secret("app/<config>", {"a": "<b>&é"}, mount_point=one)
    through.secrets.transit.create_key("orders", mount_point=transit)
    cipher = through.secrets.transit.encrypt_data(
        "orders", base64.b64encode(b"hello").decode(), mount_point=transit
    )["data"]["ciphertext"]
    plain = straight.secrets.transit.decrypt_data("orders", cipher, mount_point=transit)["data"]["plaintext"]
    assert base64.b64decode(plain) == b"hello"

    for method, path, body in (
        ("GET", f"{one}/app/%3Cconfig%3E", None),
        ("LIST", one, None),
        ("GET", f"{one}?list=true", None),
        ("GET", f"{one}/missing", None),
        ("GET", f"{two}/data/app", None),
        ("GET", f"{two}/config", None),
        ("GET", f"{two}/nonsense/path", None),
        ("GET", f"{transit}/keys/orders", None),
        ("POST", f"{transit}/decrypt/orders", {"ciphertext": cipher}),
        ("POST", f"{transit}/decrypt/orders", {"ciphertext": "junk"}),
        ("DELETE", f"{transit}/keys/orders", None),
        ("GET", f"{transit}/keys/orders?help=1", None),
        ("GET", "auth/token/lookup-self", None),
        ("GET", "sys/auth", None),
        ("GET", "sys/policies/acl/default", None),
        ("GET", "sys/seal-status", None),
        ("GET", "sys/leader", None),
        ("GET", "sys/host-info-nonsense", None),
        ("GET", "nomount/x", None),
        ("GET", f"sys/internal/ui/mounts/{two}/app", None),
        ("GET", f"sys/mounts/{one}", None),
        ("GET", f"sys/mounts/{two}/tune", None),
        ("POST", "sys/capabilities-self", {"paths": [f"{one}/x", f"{MOUNT}/creds/demo"]}),
        ("POST", "auth/approle/login", {"role_id": "no", "secret_id": "no"}),
    ):
        answers = [
            stack.request(method, path, body),
            stack.direct(method, path, body),
        ]
        seen = [(answer.status_code, without_ids(answer.json()), sent_headers(answer)) for answer in answers]
        assert seen[0] == seen[1], f"{method} {path}"


def written_to_version_2(client: hvac.Client, mount: str) -> bool:
    """A kv of version 2 upgrades itself in the background after it was mounted."""
    try:
        client.secrets.kv.v2.create_or_update_secret("app", {"a": "b"}, mount_point=mount)
    except hvac.exceptions.InvalidRequest:
        return False
    return True


def without_ids(body: Any) -> Any:
    """Of an answer what two equal requests have in common."""
    if isinstance(body, dict):
        return {name: without_ids(value) for name, value in body.items() if name not in {"request_id", "ttl"}}
    return body


def sent_headers(answer: Any) -> dict[str, str]:
    # The connection is each server's own, and Go sends long answers in chunks.
    own = {"date", "content-length", "transfer-encoding", "connection", "keep-alive"}
    return {name: value for name, value in answer.headers.items() if name not in own}
