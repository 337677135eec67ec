"""Mounts of our engine are made as the upstream makes its own, or not at all."""

from __future__ import annotations

import json
import secrets
from typing import Any

import pytest
from tests.integration.intercepts.mounts import shown, sidecar_may
from tests.integration.intercepts.stand import Stand

from aikeys.sidecar.intercepts import reconcile_mounts


def test_a_mount_is_enabled_with_hvac_and_its_role_gives_a_key_that_works(stand: Stand) -> None:
    path = stand.path()
    stand.hvac().sys.enable_secrets_engine(
        "ai-keys", path=path, description="d", config={"default_lease_ttl": "1h"}
    )
    stand.configure(path)

    assert stand.works(stand.key(path))
    listed = stand.hvac().sys.list_mounted_secrets_engines()
    assert listed[f"{path}/"] == listed["data"][f"{path}/"]
    assert listed[f"{path}/"]["type"] == "ai-keys"
    assert listed[f"{path}/"]["config"]["default_lease_ttl"] == 3600


def test_a_mount_is_enabled_tuned_moved_and_disabled_with_the_command_line(stand: Stand) -> None:
    path, target = stand.path(), stand.path()
    stand.cli("secrets", "enable", f"-path={path}", "-description=keys", "-default-lease-ttl=10m", "ai-keys")
    table = json.loads(stand.cli("secrets", "list", "-format=json").stdout)
    assert table[f"{path}/"]["type"] == "ai-keys"
    assert table[f"{path}/"]["description"] == "keys"
    assert "ai-keys" in stand.cli("secrets", "list", "-detailed").stdout

    stand.cli("secrets", "tune", "-default-lease-ttl=5m", "-max-lease-ttl=30m", path)
    tuned = json.loads(stand.cli("read", "-format=json", f"sys/mounts/{path}/tune").stdout)["data"]
    assert (tuned["default_lease_ttl"], tuned["max_lease_ttl"]) == (300, 1800)

    stand.cli("secrets", "move", path, target)
    table = json.loads(stand.cli("secrets", "list", "-format=json").stdout)
    assert f"{path}/" not in table
    assert table[f"{target}/"]["type"] == "ai-keys"

    stand.cli("secrets", "disable", target)
    assert shown(stand, target) is None
    assert stand.record(target) is None


def test_bytes_that_are_no_text_are_no_path_and_nobodys_lease(stand: Stand) -> None:
    refused = stand.call("POST", "sys/mounts/%fc", {"type": "ai-keys"})
    assert (refused.status_code, refused.json()) == (
        400,
        {"errors": ["path cannot contain non-printable characters"]},
    )
    asked = [
        ("LIST", "sys/leases/lookup/%dc/"),
        ("POST", "sys/leases/renew/%fc"),
        ("POST", "sys/leases/revoke/%fc"),
        ("POST", "sys/leases/revoke-force/%fc"),
        ("POST", "sys/leases/revoke-prefix/%fc"),
    ]
    path = stand.shared_mount()
    for method, where in (*asked, *((method, where.replace("%", f"{path}/%")) for method, where in asked)):
        ours, theirs = (stand.call(method, where, upstream=upstream) for upstream in (False, True))
        assert (ours.status_code, ours.content) == (theirs.status_code, theirs.content), where


@pytest.mark.parametrize("options", [None, {}, {"team": "ml", "tier": "1"}], ids=["null", "empty", "some"])
def test_what_was_given_reads_back_as_it_was_given(stand: Stand, options: dict[str, str] | None) -> None:
    """What Terraform compares with its state: any key more or less would be a change to make, for ever."""
    path, plain = stand.path(), stand.path()
    asked = {
        "description": "d <&>",
        "options": options,
        "config": {"max_lease_ttl": "2h", "listing_visibility": "hidden"},
    }
    stand.ok("POST", f"sys/mounts/{path}", {"type": "ai-keys", **asked})
    stand.ok("POST", f"sys/mounts/{plain}", {"type": "transit", **asked}, upstream=True)

    ours = stand.ok("GET", f"sys/mounts/{path}")
    builtin = stand.ok("GET", f"sys/mounts/{plain}", upstream=True)

    own = {"accessor", "uuid", "type", "running_plugin_version"}
    for level, model in ((ours, builtin), (ours["data"], builtin["data"])):
        unlike = own | {"request_id", "data"}
        assert {k: v for k, v in level.items() if k not in unlike} == {
            k: v for k, v in model.items() if k not in unlike
        }
        assert level["type"] == "ai-keys"
        assert level["options"] == options
    assert list(ours["data"]) == list(builtin["data"])
    assert shown(stand, path) == ours["data"]


def test_the_older_form_with_a_plugin_name_mounts_our_engine_too(stand: Stand) -> None:
    path = stand.path()
    stand.ok("POST", f"sys/mounts/{path}", {"type": "plugin", "plugin_name": "ai-keys"})

    entry = shown(stand, path)
    assert entry is not None
    assert entry["type"] == "ai-keys"
    assert stand.record(path) is not None


@pytest.mark.parametrize(
    "body",
    [
        {"type": "{name}", "options": {"version": "2"}},
        {"type": "{name}", "config": {"default_lease_ttl": "2h", "max_lease_ttl": "1h"}},
        {"type": "{name}", "config": {"default_lease_ttl": "abc"}},
        {"type": "{name}", "options": "no pair"},
        {"type": "plugin"},
        {"type": None},
    ],
)
def test_a_wrong_request_is_refused_as_for_an_engine_of_the_upstream(
    stand: Stand, body: dict[str, Any]
) -> None:
    path = stand.path()

    def asked(name: str) -> dict[str, Any]:
        return {**body, "type": body["type"] and body["type"].replace("{name}", name)}

    ours = stand.call("POST", f"sys/mounts/{path}", asked("ai-keys"))
    builtin = stand.call("POST", f"sys/mounts/{path}", asked("transit"), upstream=True)

    assert ours.status_code == builtin.status_code == 400
    assert ours.text.replace("ai-keys", "transit") == builtin.text
    assert shown(stand, path, upstream=True) is None
    assert stand.record(path) is None


def test_a_path_in_use_is_refused_whoever_uses_it(stand: Stand) -> None:
    path, plain = stand.path(), stand.path()
    stand.ok("POST", f"sys/mounts/{path}", {"type": "ai-keys"})
    stand.ok("POST", f"sys/mounts/{plain}", {"type": "transit"})
    before = stand.record(path)

    for kind, where, used in (
        ("ai-keys", path, path), ("transit", path, path), ("ai-keys", f"{path}/below", path), ("ai-keys", plain, plain)
    ):  # fmt: skip
        answer = stand.call("POST", f"sys/mounts/{where}", {"type": kind})
        assert answer.json() == {"errors": [f"path is already in use at {used}/"]}
    assert stand.record(path) == before


def test_who_may_not_mount_does_not(stand: Stand) -> None:
    path = stand.path()
    only_kv = stand.token(
        f'path "sys/mounts/{path}" {{ capabilities = ["create", "update"] allowed_parameters = {{ "type" = ["kv"] }} }}'
    )
    for token in (stand.token(), only_kv, None, "made-up"):
        answer = stand.call("POST", f"sys/mounts/{path}", {"type": "ai-keys"}, token=token)
        assert answer.status_code == 403, answer.text
    assert shown(stand, path, upstream=True) is None
    assert stand.record(path) is None


def test_other_engines_are_mounted_by_the_upstream_alone(stand: Stand) -> None:
    path = stand.path()
    stand.ok("POST", f"sys/mounts/{path}", {"type": "kv", "options": {"version": "2"}})

    assert shown(stand, path) == shown(stand, path, upstream=True)
    assert stand.record(path) is None


def test_a_mount_that_cannot_be_adopted_is_taken_back(stand: Stand) -> None:
    """Its path is outside what the sidecar's own policy grants, so that no marker can be written there."""
    path = f"outside-{secrets.token_hex(4)}"

    answer = stand.call("POST", f"sys/mounts/{path}", {"type": "ai-keys"})

    assert answer.status_code == 503
    assert "its own policy needs read there" in answer.json()["errors"][0]
    assert "nothing was mounted" in answer.json()["errors"][0]
    assert shown(stand, path, upstream=True) is None
    assert stand.record(path) is None


def test_what_cannot_be_taken_back_is_said_and_completed_when_it_can_be(stand: Stand) -> None:
    """Neither this caller nor the sidecar may disable, and the sidecar may not read there yet."""
    path = f"outside-{secrets.token_hex(4)}"
    enable_only = stand.token(f'path "sys/mounts/{path}" {{ capabilities = ["create", "update"] }}')

    answer = stand.call("POST", f"sys/mounts/{path}", {"type": "ai-keys"}, token=enable_only)

    assert answer.status_code == 503
    assert f"the mount at {path}/ is not ready yet" in answer.json()["errors"][0]
    assert stand.record(path) is None
    entry = shown(stand, path)
    assert entry is not None
    assert entry["type"] == "kv"
    with sidecar_may(
        stand,
        f'path "{path}/*" {{ capabilities = ["create", "read", "update", "list"] }}',
        f'path "sys/mounts/{path}/tune" {{ capabilities = ["read"] }}',
    ):
        reconcile_mounts(stand.sidecar)
        stand.configure(path)
        assert stand.works(stand.key(path))
        stand.ok("DELETE", f"sys/mounts/{path}")


def test_a_policy_that_lists_the_parameters_without_options_mounts_all_the_same(stand: Stand) -> None:
    path = stand.path()
    listed = stand.token(
        f'path "sys/mounts/{path}" {{ capabilities = ["create", "update"] allowed_parameters = {{ "type" = [] }} }}'
    )
    stand.ok("POST", f"sys/mounts/{path}", {"type": "ai-keys"}, token=listed)

    assert stand.record(path) is not None
    assert stand.sidecar.store.enablings() == []
