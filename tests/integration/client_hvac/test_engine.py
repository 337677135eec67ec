"""hvac can do with our engine all that it can do with any: mounts, config and roles."""

from __future__ import annotations

from typing import Any

import hvac
import hvac.exceptions
import pytest
from tests.integration.client_hvac.conftest import ROLE
from tests.sidecar_stack import MOUNT, OPERATOR, SidecarStack, eventually, unique


def test_our_engine_is_enabled_tuned_moved_and_disabled_like_any_other(stack: SidecarStack) -> None:
    client = stack.hvac(stack.token(OPERATOR).token)
    client.sys.enable_secrets_engine(
        "ai-keys", path="team-keys", description="Keys of the team", config={"default_lease_ttl": "10m"}
    )
    try:
        entry = client.sys.list_mounted_secrets_engines()["data"]["team-keys/"]
        assert (entry["type"], entry["description"]) == ("ai-keys", "Keys of the team")
        assert entry["config"]["default_lease_ttl"] == 600
        upstream = stack.upstream.request("GET", "sys/mounts")["data"]["team-keys/"]
        assert [entry[name] for name in ("accessor", "uuid")] == [
            upstream[name] for name in ("accessor", "uuid")
        ]
        with pytest.raises(hvac.exceptions.InvalidRequest, match="path is already in use at team-keys/"):
            client.sys.enable_secrets_engine("ai-keys", path="team-keys")

        client.sys.tune_mount_configuration(
            "team-keys", default_lease_ttl="20m", max_lease_ttl="2h", description="Tuned"
        )
        tuned = client.sys.read_mount_configuration("team-keys")["data"]
        assert (tuned["default_lease_ttl"], tuned["max_lease_ttl"]) == (1200, 7200)
        assert tuned["description"] == "Tuned"
        with pytest.raises(hvac.exceptions.InvalidRequest, match="would be less than backend default"):
            client.sys.tune_mount_configuration("team-keys", max_lease_ttl="1m")

        key = configure_and_read(stack, client, "team-keys")
        # The role gives no TTLs: the mount's count.
        assert key["lease_duration"] == 1200

        migration = client.sys.move_backend("team-keys", "moved-keys")["data"]["migration_id"]
        eventually(lambda: moved_already(client, migration), what="the move")
        mounts = client.sys.list_mounted_secrets_engines()["data"]
        assert "moved-keys/" in mounts
        assert "team-keys/" not in mounts
        assert not stack.works(key["data"]["api_key"]), "a move is done when the old keys are"
        assert client.read("moved-keys/roles/any")["data"]["permissions"] == ["chat"]
        moved = client.read("moved-keys/creds/any")
        assert moved["lease_id"].startswith("moved-keys/creds/any/")
        assert stack.works(moved["data"]["api_key"])

        client.sys.disable_secrets_engine("moved-keys")
        assert not stack.works(moved["data"]["api_key"]), "disabling a mount ends its leases"
        assert "moved-keys/" not in client.sys.list_mounted_secrets_engines()["data"]
        with pytest.raises(hvac.exceptions.InvalidRequest, match="invalid lease"):
            client.sys.read_lease(moved["lease_id"])
        client.sys.enable_secrets_engine("ai-keys", path="moved-keys")
        assert client.read("moved-keys/config") is None, "a mount enabled again begins empty"
        assert client.read("moved-keys/roles/any") is None
    finally:
        for path in ("team-keys", "moved-keys"):
            client.sys.disable_secrets_engine(path)


def test_two_mounts_of_ours_know_nothing_of_each_other(stack: SidecarStack, role: str) -> None:
    client = stack.hvac()
    client.sys.enable_secrets_engine("ai-keys", path="nested/ai/keys")
    try:
        assert client.read(f"nested/ai/keys/roles/{role}") is None
        other = configure_and_read(stack, client, "nested/ai/keys")
        own = stack.read_key(role)
        client.sys.revoke_prefix("nested/ai/keys")
        assert not stack.works(other["data"]["api_key"])
        assert stack.works(own["data"]["api_key"])
    finally:
        client.sys.disable_secrets_engine("nested/ai/keys")
    assert stack.works(own["data"]["api_key"])


def moved_already(client: hvac.Client, migration: str) -> bool:
    """As the command line client asks until a move is done."""
    info = client.read(f"sys/remount/status/{migration}")["data"]["migration_info"]
    assert info["status"] in {"in-progress", "success"}
    return bool(info["status"] == "success")


def configure_and_read(stack: SidecarStack, client: hvac.Client, mount: str) -> dict[str, Any]:
    client.write_data(
        f"{mount}/config",
        data={"base_url": stack.relay.base_url, "management_key": stack.relay.management_key},
    )
    client.write_data(f"{mount}/roles/any", data={"permissions": "chat"})
    secret: dict[str, Any] = client.read(f"{mount}/creds/any")
    assert stack.works(secret["data"]["api_key"])
    return secret


def test_config_is_read_back_without_its_secrets(stack: SidecarStack, client: hvac.Client) -> None:
    read = client.read(f"{MOUNT}/config")
    assert read["data"]["base_url"] == stack.relay.base_url
    assert read["data"]["relay"] == "holysheep"
    assert not {"management_key", "signing_secret"} & set(read["data"])
    assert stack.relay.management_key not in str(read)


def test_a_config_that_the_relay_does_not_accept_changes_nothing(
    stack: SidecarStack, client: hvac.Client
) -> None:
    before = client.read(f"{MOUNT}/config")["data"]
    with pytest.raises(hvac.exceptions.InvalidRequest, match="nothing was stored") as refused:
        client.write_data(f"{MOUNT}/config", data={"management_key": "sk-holysheep-mgmt-wrong"})
    assert "sk-holysheep-mgmt-wrong" not in str(refused.value)
    assert client.read(f"{MOUNT}/config")["data"] == before
    assert stack.read_key()["data"]["api_key"]


def test_a_role_is_written_read_listed_changed_patched_and_deleted(
    stack: SidecarStack, client: hvac.Client
) -> None:
    name = unique("hvac")
    path = f"{MOUNT}/roles/{name}"
    assert client.read(path) is None
    written = client.write_data(path, data=ROLE)
    assert written.status_code == 204

    read = client.read(path)["data"]
    assert {field: read[field] for field in ROLE} == ROLE
    assert type(read["ttl"]) is int
    assert name in client.list(f"{MOUNT}/roles")["data"]["keys"]
    assert not any(key.startswith("aikeys-") for key in client.list(f"{MOUNT}/roles")["data"]["keys"])

    client.write_data(path, data={"ttl": "20m"})
    changed = client.read(path)["data"]
    assert (changed["ttl"], changed["rate_limit"]) == (1200, 30)

    patched = stack.request(
        "PATCH", path, {"rate_limit": None}, headers={"Content-Type": "application/merge-patch+json"}
    )
    assert patched.status_code == 204, patched.text
    read = client.read(path)["data"]
    assert read.get("rate_limit") in {None, 0}
    assert read["ttl"] == 1200

    client.delete(path)
    assert client.read(path) is None
    assert name not in client.list(f"{MOUNT}/roles")["data"]["keys"]
    with stack.nothing_minted(), pytest.raises(hvac.exceptions.InvalidRequest, match=f"unknown role: {name}"):
        client.read(f"{MOUNT}/creds/{name}")


def test_keys_carry_the_limits_of_their_role(stack: SidecarStack, role: str) -> None:
    secret = stack.read_key(role)["data"]
    truth = stack.key_truth(secret["key_id"])
    assert truth["permissions"] == ["chat"]
    assert truth["allowed_models"] == ["gpt-4.1-mini"]
    assert truth["rate_limit"] == 30
    assert truth["status"] == "active"
