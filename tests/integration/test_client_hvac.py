"""hvac, as anybody installs it, finds a Vault with one engine more: everything it can do with a secrets engine works."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import hvac
import hvac.exceptions
import pytest
from tests.sidecar_stack import MOUNT, OPERATOR, SidecarStack, eventually, unique

ROLE = {
    "ttl": 600,
    "max_ttl": 3600,
    "permissions": ["chat"],
    "allowed_models": ["gpt-4.1-mini"],
    "rate_limit": 30,
    "budget": "2.50",
}


@pytest.fixture
def client(stack: SidecarStack) -> hvac.Client:
    return stack.hvac()


@pytest.fixture
def role(stack: SidecarStack) -> Iterator[str]:
    """A role of this test's own, so that its leases are this test's alone."""
    name = unique("hvac")
    client = stack.hvac()
    client.write_data(f"{MOUNT}/roles/{name}", data=ROLE)
    yield name
    client.sys.revoke_prefix(f"{MOUNT}/creds/{name}")
    client.delete(f"{MOUNT}/roles/{name}")


# -- the main thing, in front of every server -------------------------------------------------------------------


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


# -- mounts -----------------------------------------------------------------------------------------------------


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


# -- config and roles -------------------------------------------------------------------------------------------


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


# -- keys and their leases --------------------------------------------------------------------------------------


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


# -- wrapping ---------------------------------------------------------------------------------------------------


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


# -- who may ----------------------------------------------------------------------------------------------------


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


def test_leases_end_with_the_token_that_asked(stack: SidecarStack, role: str) -> None:
    token = stack.token(f'path "{MOUNT}/creds/{role}" {{ capabilities = ["read"] }}')
    other = stack.token(f'path "{MOUNT}/creds/{role}" {{ capabilities = ["read"] }}')
    mine, theirs = stack.read_key(role, token.token), stack.read_key(role, other.token)

    stack.hvac().auth.token.revoke_accessor(token.accessor)

    stack.dies(mine["data"]["api_key"])
    assert stack.works(theirs["data"]["api_key"])


# -- everything else passes -------------------------------------------------------------------------------------


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
