"""The servers' own command line clients, `bao` and `vault`, at the sidecar: what a person types works, and reads as it should."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.realparts.server import ServerFailed
from tests.sidecar_stack import MOUNT, SidecarStack, eventually, unique

FAILED = 2


@pytest.fixture
def role(stack: SidecarStack) -> Iterator[str]:
    """A role of this test's own, written by the client itself."""
    name = unique("cli")
    written = stack.cli("write", f"{MOUNT}/roles/{name}", "ttl=15m", "max_ttl=2h", "permissions=chat")
    assert written.stdout == f"Success! Data written to: {MOUNT}/roles/{name}\n"
    yield name
    stack.cli("lease", "revoke", "-sync", "-prefix", f"{MOUNT}/creds/{name}")
    stack.cli("delete", f"{MOUNT}/roles/{name}")


def ask(stack: SidecarStack, *arguments: str, token: str | None = None) -> Any:
    """What a command says with `-format=json`, which goes before its arguments."""
    words = 2 if arguments[0] in {"lease", "secrets", "token"} else 1
    done = stack.cli(*arguments[:words], "-format=json", *arguments[words:], token=token)
    return json.loads(done.stdout)


# -- in front of every server -----------------------------------------------------------------------------------


def test_a_key_is_read_used_renewed_and_revoked_at_the_command_line(every_stack: SidecarStack) -> None:
    stack = every_stack
    shown = stack.cli("read", f"{MOUNT}/creds/demo").stdout
    rows = dict(line.split(None, 1) for line in shown.splitlines()[2:])
    assert rows["lease_id"].startswith(f"{MOUNT}/creds/demo/")
    assert (rows["lease_duration"], rows["lease_renewable"]) == ("1m", "true")
    assert rows["permissions"] == "[chat embeddings]"
    key = rows["api_key"]
    assert stack.works(key)

    looked_up = ask(stack, "lease", "lookup", rows["lease_id"])
    assert looked_up["data"]["id"] == rows["lease_id"]
    renewed = ask(stack, "lease", "renew", "-increment=100", rows["lease_id"])
    assert renewed["lease_duration"] == 100

    revoked = stack.cli("lease", "revoke", "-sync", rows["lease_id"]).stdout
    assert revoked == f"Success! Revoked lease: {rows['lease_id']}\n"
    assert not stack.works(key)
    again = stack.cli("lease", "lookup", rows["lease_id"], check=False)
    assert again.returncode == FAILED
    assert "Code: 400. Errors:\n\n* invalid lease" in again.stderr


# -- keys and leases --------------------------------------------------------------------------------------------


def test_a_key_is_written_with_parameters_with_none_and_read_as_one_field(
    stack: SidecarStack, role: str
) -> None:
    with_ttl = ask(stack, "write", f"{MOUNT}/creds/{role}", "ttl=90s")
    assert with_ttl["lease_duration"] == 90
    forced = ask(stack, "write", "-force", f"{MOUNT}/creds/{role}")
    assert forced["lease_duration"] == 900
    query = ask(stack, "read", f"{MOUNT}/creds/{role}", "ttl=100s")
    assert query["lease_duration"] == 100
    field = stack.cli("read", "-field=api_key", f"{MOUNT}/creds/{role}").stdout
    keys = [with_ttl["data"]["api_key"], forced["data"]["api_key"], query["data"]["api_key"], field]
    assert all(stack.works(key) for key in keys)
    assert len(set(keys)) == 4
    too_long = stack.cli("write", f"{MOUNT}/creds/{role}", "ttl=3h")
    assert 'TTL of "3h" exceeded the effective max_ttl of "2h"' in too_long.stdout + too_long.stderr


def test_leases_are_listed_and_end_one_by_one_by_prefix_and_by_force(stack: SidecarStack, role: str) -> None:
    where = f"{MOUNT}/creds/{role}"
    keys = [stack.read_key(role) for _ in range(4)]
    listed = ask(stack, "list", f"sys/leases/lookup/{where}")
    assert sorted(listed) == sorted(key["lease_id"].rpartition("/")[2] for key in keys)

    # Without -sync the client asks for a revocation in the background, and says so.
    queued = stack.cli("lease", "revoke", keys[0]["lease_id"]).stdout
    assert queued == "All revocation operations queued successfully!\n"
    stack.dies(keys[0]["data"]["api_key"])
    assert all(stack.works(key["data"]["api_key"]) for key in keys[1:])

    assert stack.cli("lease", "revoke", "-prefix", where).stdout == queued
    for key in keys[1:]:
        stack.dies(key["data"]["api_key"])
    nothing = stack.cli("list", f"sys/leases/lookup/{where}", check=False)
    assert nothing.returncode == FAILED
    assert nothing.stderr == f"No value found at sys/leases/lookup/{where}\n"

    last = [stack.read_key(role) for _ in range(2)]
    forced = stack.cli("lease", "revoke", "-force", "-prefix", where).stdout
    assert forced == f"Success! Force revoked any leases with prefix: {where}\n"
    assert not any(stack.works(key["data"]["api_key"]) for key in last)


def test_roles_are_written_patched_read_listed_and_deleted(stack: SidecarStack, role: str) -> None:
    path = f"{MOUNT}/roles/{role}"
    stack.cli("patch", path, "rate_limit=40", "metadata=team=search")
    shown = stack.cli("read", path).stdout
    assert "max_ttl" in shown
    read = ask(stack, "read", path)["data"]
    assert (read["ttl"], read["max_ttl"], read["rate_limit"]) == (900, 7200, 40)
    assert stack.cli("read", "-field=max_ttl", path).stdout in {"7200", "2h"}
    assert role in ask(stack, "list", f"{MOUNT}/roles")
    assert (
        stack.cli("delete", path).stdout
        == f"Success! Data deleted (if it existed) at: {MOUNT}/roles/{role}\n"
    )
    gone = stack.cli("read", path, check=False)
    assert (gone.returncode, gone.stderr) == (FAILED, f"No value found at {path}\n")
    unknown = stack.cli("read", f"{MOUNT}/creds/{role}", check=False)
    assert unknown.returncode == FAILED
    assert f"Code: 400. Errors:\n\n* unknown role: {role}" in unknown.stderr


def test_a_wrapped_key_is_unwrapped_once(stack: SidecarStack, role: str) -> None:
    path = f"{MOUNT}/creds/{role}"
    shown = stack.cli("read", "-wrap-ttl=75s", path).stdout
    rows = dict(line.split(None, 1) for line in shown.splitlines()[2:])
    assert (rows["wrapping_token_ttl:"], rows["wrapping_token_creation_path:"]) == ("1m15s", path)
    secret = ask(stack, "unwrap", rows["wrapping_token:"])
    assert secret["lease_id"].startswith(f"{path}/")
    assert (secret["lease_duration"], secret["renewable"]) == (900, True)
    assert stack.works(secret["data"]["api_key"])
    again = stack.cli("unwrap", rows["wrapping_token:"], check=False)
    assert "wrapping token is not valid or does not exist" in again.stderr
    # An app unwraps with nothing but the wrapping token.
    handed_over = stack.cli("read", "-wrap-ttl=75s", "-field=wrapping_token", path).stdout
    assert stack.works(ask(stack, "unwrap", token=handed_over)["data"]["api_key"])


# -- mounts -----------------------------------------------------------------------------------------------------


def test_our_engine_is_enabled_listed_tuned_moved_and_disabled(stack: SidecarStack) -> None:
    enabled = stack.cli("secrets", "enable", "-path=team-keys", "-default-lease-ttl=10m", "ai-keys")
    try:
        assert enabled.stdout == "Success! Enabled the ai-keys secrets engine at: team-keys/\n"
        listed = ask(stack, "secrets", "list")
        assert (listed["team-keys/"]["type"], listed[f"{MOUNT}/"]["type"]) == ("ai-keys", "ai-keys")
        assert listed["secret/"]["type"] == "kv"
        row = next(
            line
            for line in stack.cli("secrets", "list", "-detailed").stdout.splitlines()
            if line.startswith("team-keys/")
        )
        assert "600" in row

        stack.cli("secrets", "tune", "-max-lease-ttl=2h", "-description=Keys of the team", "team-keys")
        tuned = ask(stack, "read", "sys/mounts/team-keys/tune")["data"]
        assert (tuned["default_lease_ttl"], tuned["max_lease_ttl"]) == (600, 7200)
        assert tuned["description"] == "Keys of the team"

        moved = stack.cli("secrets", "move", "team-keys", "moved-keys").stdout
        assert "Success! Finished moving secrets engine team-keys/ to moved-keys/" in moved
        assert "moved-keys/" in ask(stack, "secrets", "list")
        stack.cli("secrets", "disable", "moved-keys")
        assert not {"team-keys/", "moved-keys/"} & set(ask(stack, "secrets", "list"))
    finally:
        for path in ("team-keys", "moved-keys"):
            stack.cli("secrets", "disable", path)


def test_a_mount_that_the_sidecar_may_not_serve_is_not_made(stack: SidecarStack) -> None:
    """The sidecar's own policy names the paths it serves: elsewhere the answer says so and leaves nothing behind."""
    refused = stack.cli("secrets", "enable", "-path=not-in-its-policy", "ai-keys", check=False)
    assert refused.returncode == FAILED
    assert "policy" in refused.stderr
    assert "not-in-its-policy/" not in stack.upstream.request("GET", "sys/mounts")["data"]


def test_our_engine_stands_among_the_plugins(stack: SidecarStack) -> None:
    names = [line.split()[0] for line in stack.cli("plugin", "list", "secret").stdout.splitlines()[2:]]
    assert "ai-keys" in names
    assert "transit" in names
    assert names == sorted(names)


# -- help and policy --------------------------------------------------------------------------------------------


def test_every_path_explains_itself(stack: SidecarStack) -> None:
    root = stack.cli("path-help", MOUNT).stdout
    assert root.startswith("## DESCRIPTION")
    for pattern in ("^config$", "^creds/", "^roles/"):
        assert pattern in root
    for path, says in (("creds/demo", "Mint a key"), ("roles/demo", "max_ttl"), ("config", "management_key")):
        shown = stack.cli("path-help", f"{MOUNT}/{path}").stdout
        assert shown.startswith(f"Request:        {path}\nMatching Route: ^")
        assert says in shown
    nonsense = stack.cli("path-help", f"{MOUNT}/nonsense/x", check=False)
    assert nonsense.returncode == FAILED
    assert "unsupported path" in nonsense.stderr


def test_capabilities_are_told_as_they_are(stack: SidecarStack) -> None:
    reader = stack.reader().token
    assert stack.cli("token", "capabilities", f"{MOUNT}/creds/demo", token=reader).stdout == "read\n"
    assert stack.cli("token", "capabilities", f"{MOUNT}/creds/short", token=reader).stdout == "deny\n"
    assert stack.cli("token", "capabilities", f"{MOUNT}/creds/demo").stdout == "root\n"


def test_the_policy_a_command_needs_is_printed_and_is_enough(stack: SidecarStack) -> None:
    with stack.nothing_minted():
        needed = stack.cli("read", "-output-policy", f"{MOUNT}/creds/demo").stdout
        asked = stack.cli("read", "-output-curl-string", f"{MOUNT}/creds/demo").stdout
    assert f"{stack.address}/v1/{MOUNT}/creds/demo" in asked
    token = stack.token(needed).token
    assert stack.works(stack.cli("read", "-field=api_key", f"{MOUNT}/creds/demo", token=token).stdout)
    listing = stack.cli("list", "-output-policy", f"{MOUNT}/roles").stdout
    assert "demo" in ask(stack, "list", f"{MOUNT}/roles", token=stack.token(listing).token)
    writing = stack.cli("write", "-output-policy", f"{MOUNT}/roles/demo", "ttl=60").stdout
    stack.cli("write", f"{MOUNT}/roles/demo", "ttl=60", token=stack.token(writing).token)


def test_what_a_token_may_not_do_it_is_told_as_by_any_vault(stack: SidecarStack) -> None:
    reader = stack.reader().token
    for command in (
        ("read", f"{MOUNT}/creds/short"),
        ("write", f"{MOUNT}/roles/demo", "ttl=1"),
        ("list", f"sys/leases/lookup/{MOUNT}/creds/demo"),
        ("lease", "revoke", "-prefix", f"{MOUNT}/creds/demo"),
        ("secrets", "disable", MOUNT),
    ):
        with stack.nothing_minted(), pytest.raises(ServerFailed, match=r"Code: 403(.|\n)*permission denied"):
            stack.cli(*command, token=reader)


# -- everything else --------------------------------------------------------------------------------------------


def test_the_rest_of_the_client_works_through_the_sidecar(stack: SidecarStack) -> None:
    status = stack.cli("status").stdout
    assert dict(line.split(None, 1) for line in status.splitlines()[2:] if line.strip())["Sealed"] == "false"
    name = unique("cli")
    stack.cli("kv", "put", f"secret/{name}", "greeting=hello")
    assert stack.cli("kv", "get", "-field=greeting", f"secret/{name}").stdout.strip() == "hello"
    stack.cli("kv", "patch", f"secret/{name}", "more=x")
    assert json.loads(stack.cli("kv", "get", "-format=json", f"secret/{name}").stdout)["data"]["data"] == {
        "greeting": "hello",
        "more": "x",
    }
    stack.cli("policy", "write", name, "-", stdin=f'path "{MOUNT}/creds/demo" {{ capabilities = ["read"] }}')
    made = ask(stack, "token", "create", f"-policy={name}", "-ttl=5m")["auth"]["client_token"]
    key = ask(stack, "read", f"{MOUNT}/creds/demo", token=made)["data"]["api_key"]
    stack.cli("token", "revoke", made)
    eventually(lambda: not stack.works(key), what="the end of the key with its token")
    # kv's own commands look the mount up first: ours is none of theirs, and reads as plain data.
    plain = stack.cli("kv", "get", "-field=api_key", f"{MOUNT}/creds/demo").stdout.strip()
    assert stack.works(plain)
