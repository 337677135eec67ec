"""Mounts of our type are enabled, shown, tuned, moved and disabled with any client, as a built-in engine's are."""

from __future__ import annotations

import dataclasses
import json
import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.integration.intercepts.stand import Stand, eventually
from tests.realparts.openbao import OpenBaoProcess

from aikeys.sidecar.intercepts import Reconciler, disabling, reconcile_mounts, remount
from aikeys.sidecar.login import TokenFileLogin
from aikeys.sidecar.own_identity import OwnIdentity
from aikeys.sidecar.upstream import Upstream
from aikeys.transport import KeepAliveTransport

ADMIN = 'path "sys/mounts/*" { capabilities = ["create", "read", "update", "delete"] }'


def shown(stand: Stand, path: str, *, upstream: bool = False) -> dict[str, Any] | None:
    entry: dict[str, Any] | None = stand.ok("GET", "sys/mounts", upstream=upstream)["data"].get(f"{path}/")
    return entry


@contextmanager
def sidecar_may(stand: Stand, *blocks: str) -> Iterator[None]:
    """The sidecar's own policy with these blocks more."""
    where = "sys/policies/acl/aikeys-sidecar"
    before = stand.server.request("GET", where)["data"]["policy"]
    stand.server.request("PUT", where, {"policy": "\n".join([before, *blocks])})
    try:
        yield
    finally:
        stand.server.request("PUT", where, {"policy": before})


# -- enabling ---------------------------------------------------------------------------------------------------


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


# -- tuning -----------------------------------------------------------------------------------------------------


def test_tuned_ttls_count_for_the_next_key(stand: Stand) -> None:
    path = stand.mount(ttl=0, max_ttl=0)
    stand.ok("POST", f"sys/mounts/{path}/tune", {"default_lease_ttl": "7m", "max_lease_ttl": "20m"})
    assert stand.key(path).lease_duration == 420

    # "" leaves a value alone, "system" takes it back.
    stand.ok("POST", f"sys/mounts/{path}/tune", {"default_lease_ttl": "system", "max_lease_ttl": ""})
    assert stand.key(path).lease_duration == 1200
    assert stand.ok("GET", f"sys/mounts/{path}/tune")["data"]["max_lease_ttl"] == 1200


def test_description_and_options_are_tuned_and_read_back(stand: Stand) -> None:
    path = stand.path()
    stand.ok("POST", f"sys/mounts/{path}", {"type": "ai-keys"})
    stand.ok("POST", f"sys/mounts/{path}/tune", {"description": "new", "options": {"team": "ml"}})

    entry = shown(stand, path)
    assert entry is not None
    assert (entry["description"], entry["options"], entry["type"]) == ("new", {"team": "ml"}, "ai-keys")
    record = stand.record(path)
    assert record is not None
    assert (record.description, record.options) == ("new", {"team": "ml"})


@pytest.mark.parametrize("options", [{"version": "2"}, ["version=2"], "version=2"])
def test_the_shadow_cannot_be_turned_into_another_version_of_kv(stand: Stand, options: Any) -> None:
    path = stand.mount()
    answer = stand.call("POST", f"sys/mounts/{path}/tune", {"options": options, "description": "no"})

    assert answer.json() == {"errors": ['secrets engine "ai-keys" does not allow setting a version']}
    entry = shown(stand, path)
    assert entry is not None
    assert (entry["options"], entry["description"]) == ({}, "")
    assert stand.works(stand.key(path))


def test_only_who_may_tune_hears_why_it_is_refused(stand: Stand) -> None:
    path = stand.mount()
    answer = stand.call("POST", f"sys/mounts/{path}/tune", {"options": {"version": "2"}}, token=stand.token())

    assert answer.status_code == 403


def test_a_wrong_tune_is_refused_in_the_upstreams_words(stand: Stand) -> None:
    path, plain = stand.mount(), stand.path()
    stand.ok("POST", f"sys/mounts/{plain}", {"type": "transit"}, upstream=True)
    for body in (
        {"default_lease_ttl": "2h", "max_lease_ttl": "1h"},
        {"plugin_version": "v9.0.0"},
        {"max_lease_ttl": "x"},
    ):
        ours = stand.call("POST", f"sys/mounts/{path}/tune", body)
        builtin = stand.call("POST", f"sys/mounts/{plain}/tune", body, upstream=True)
        assert ours.status_code == builtin.status_code == 400
        assert ours.text.replace("ai-keys", "transit") == builtin.text.replace(plain, path)


def test_trimmed_slashes_are_refused_where_the_upstream_knows_them(stand: Stand) -> None:
    path, other = stand.mount(), stand.path()
    tuned = stand.call("POST", f"sys/mounts/{path}/tune", {"trim_request_trailing_slashes": True})
    enabled = stand.call(
        "POST", f"sys/mounts/{other}", {"type": "ai-keys", "config": {"trim_request_trailing_slashes": True}}
    )

    assert {tuned.status_code, enabled.status_code} == ({400} if stand.is_vault else {204})
    assert "trim_request_trailing_slashes" not in stand.ok("GET", f"sys/mounts/{path}/tune")["data"]


def test_keys_of_a_mount_that_only_vault_knows_read_back_as_vault_has_them(stand: Stand) -> None:
    path, plain = stand.mount(), stand.path()
    stand.ok("POST", f"sys/mounts/{plain}", {"type": "transit"}, upstream=True)
    body = {"identity_token_key": "default", "allowed_managed_keys": ["a"], "delegated_auth_accessors": ["x"]}
    for where in (path, plain):
        stand.ok("POST", f"sys/mounts/{where}/tune", body)

    ours, builtin = shown(stand, path), shown(stand, plain)
    assert ours is not None
    assert builtin is not None
    assert ours["config"] == builtin["config"]
    tuned = [stand.ok("GET", f"sys/mounts/{where}/tune")["data"] for where in (path, plain)]
    assert tuned[0] == tuned[1]


# -- disabling --------------------------------------------------------------------------------------------------


def test_disabling_ends_every_lease_first(stand: Stand) -> None:
    path = stand.mount()
    keys = [stand.key(path) for _ in range(3)]

    stand.hvac().sys.disable_secrets_engine(path)

    assert not any(stand.works(key) for key in keys)
    assert stand.sidecar.store.lease_ids_with_prefix(f"{path}/") == []
    assert shown(stand, path, upstream=True) is None
    assert stand.record(path) is None
    assert stand.call("GET", f"{path}/creds/demo").status_code == 404


def test_disabling_a_path_that_is_no_mount_says_so_as_the_upstream_does(stand: Stand) -> None:
    path = stand.mount()
    key = stand.key(path)
    for where in (f"{path}/below", f"{path}x"):
        assert stand.call("DELETE", f"sys/mounts/{where}").status_code == 204
    assert stand.works(key)
    assert stand.record(path) is not None


def test_who_may_not_disable_ends_no_lease(stand: Stand) -> None:
    path = stand.mount()
    key = stand.key(path)
    without_delete = (
        f'path "sys/mounts/{path}" {{ capabilities = ["create", "read", "update", "sudo", "list"] }}'
    )
    elsewhere = stand.token(ADMIN, bound_cidrs="192.0.2.0/24")

    for token in (stand.token(), stand.token(without_delete), elsewhere, None, "made-up", "hvs.a.b"):
        ours = stand.call("DELETE", f"sys/mounts/{path}", token=token)
        theirs = stand.call("DELETE", f"sys/mounts/{path}-none", token=token, upstream=True)
        assert ours.status_code in {403, 500}
        assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text)
    assert stand.works(key)
    record = stand.record(path)
    assert record is not None
    assert not record.tainted


def test_a_token_without_the_default_policy_may_disable_unless_it_is_elsewhere(stand: Stand) -> None:
    """It cannot even ask about itself, so its bound addresses cannot be tried."""
    path = stand.mount()
    key = stand.key(path)
    elsewhere = stand.token(ADMIN, bound_cidrs="192.0.2.0/24", no_default_policy=True)
    assert stand.call("DELETE", f"sys/mounts/{path}", token=elsewhere).status_code == 403
    assert stand.works(key)

    plain = stand.token(ADMIN, no_default_policy=True)
    assert stand.call("DELETE", f"sys/mounts/{path}", token=plain).status_code == 204
    assert stand.record(path) is None


def test_a_mount_whose_disabling_the_upstream_refuses_in_the_end_goes_on(stand: Stand) -> None:
    """A wrapping constraint is no capability: it is found only when the caller's own request arrives there."""
    path = stand.mount()
    wrapping = stand.token(
        f'path "sys/mounts/{path}" {{ capabilities = ["delete"] min_wrapping_ttl = "1s" }}'
    )

    assert stand.call("DELETE", f"sys/mounts/{path}", token=wrapping).status_code == 403
    assert stand.works(stand.key(path))


def test_a_key_under_way_when_its_mount_is_disabled_does_not_outlive_it(stand: Stand) -> None:
    path = stand.mount()
    stand.faults(
        {"kind": "latency", "method": "POST", "path": "/v1/keys", "seconds": 1.5, "when": "processing"}
    )
    answers: list[int] = []
    reader = threading.Thread(
        target=lambda: answers.append(stand.call("GET", f"{path}/creds/demo").status_code), daemon=True
    )
    reader.start()
    mount = stand.record(path)
    assert mount is not None
    assert eventually(lambda: bool(stand.sidecar.store.intents(mount.uuid)))

    assert stand.call("DELETE", f"sys/mounts/{path}").status_code == 204
    reader.join(30)

    assert answers
    assert stand.record(path) is None
    assert stand.sidecar.store.intents(mount.uuid) == []
    assert stand.living_keys(mount) == []


def test_asking_for_help_about_a_delete_disables_nothing(stand: Stand) -> None:
    path = stand.mount()
    key = stand.key(path)

    assert "help" in stand.ok("DELETE", f"sys/mounts/{path}?help=1")
    assert stand.works(key)


def test_a_token_with_one_use_left_disables_with_it(stand: Stand) -> None:
    path = stand.mount()
    token = stand.token(ADMIN, num_uses=1)

    assert stand.call("DELETE", f"sys/mounts/{path}", token=token).status_code == 204
    assert stand.record(path) is None


def test_a_lease_that_cannot_end_keeps_the_mount_tainted_until_it_can(stand: Stand) -> None:
    path = stand.mount()
    key = stand.key(path)
    stand.faults({"kind": "error", "method": "DELETE", "path": "/v1/keys/*", "count": None})

    answer = stand.call("DELETE", f"sys/mounts/{path}")

    assert answer.status_code == 400
    text = answer.json()["errors"][0]
    assert text.startswith(
        f'failed to revoke "{key.lease_id}" (1 / 1): failed to revoke entry: resp: (*logical.Response)(nil) err: '
    )
    assert shown(stand, path) is not None
    tainted = stand.call("GET", f"{path}/creds/demo")
    assert tainted.status_code == 404
    assert tainted.json()["errors"][0] == (
        f'no handler for route "{path}/creds/demo". route entry is tainted.'
        if stand.is_vault
        else f'no handler for route "{path}/creds/demo" on namespace "". route entry or namespace is tainted.'
    )
    assert stand.works(key)

    stand.faults()
    assert stand.call("DELETE", f"sys/mounts/{path}").status_code == 204
    assert not stand.works(key)
    assert shown(stand, path) is None


def test_force_frees_a_mount_whose_relay_is_gone(stand: Stand) -> None:
    path = stand.mount()
    stand.key(path)
    stand.faults({"kind": "error", "method": "DELETE", "path": "/v1/keys/*", "count": None})
    assert stand.call("DELETE", f"sys/mounts/{path}").status_code == 400

    assert stand.call("PUT", f"sys/leases/revoke-force/{path}").status_code == 204
    assert stand.call("DELETE", f"sys/mounts/{path}").status_code == 204
    assert stand.record(path) is None


# -- moving -----------------------------------------------------------------------------------------------------


def test_a_moved_mount_serves_at_its_new_path_and_its_old_leases_end(stand: Stand) -> None:
    path, target = stand.mount(), stand.path()
    old = stand.key(path)
    marker_key = getattr(stand.record(path), "marker_key", "")

    stand.cli("secrets", "move", path, target)

    new = stand.key(target)
    assert stand.works(new)
    assert new.lease_id.startswith(f"{target}/creds/demo/")
    assert stand.gone(old)
    assert getattr(stand.record(target), "marker_key", "") == marker_key
    assert stand.call("GET", f"{path}/creds/demo").status_code == 404
    entry = shown(stand, target)
    assert entry is not None
    assert entry["type"] == "ai-keys"


def test_a_move_is_done_here_when_its_answer_comes(stand: Stand) -> None:
    path, target = stand.mount(), stand.path()
    stand.ok("POST", "sys/remount", {"from": f"/{path}/", "to": target})

    assert stand.record(path) is None
    assert stand.works(stand.key(target))


def test_a_slow_move_is_done_here_when_its_status_says_so(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target = stand.mount(), stand.path()
    with monkeypatch.context() as patched:
        patched.setattr(remount, "follow", lambda *_: False)
        patched.setattr(remount, "FOLLOW_SECONDS", 0)
        moving = stand.ok("POST", "sys/remount", {"from": path, "to": target})["data"]["migration_id"]
    assert stand.record(path) is not None

    def status() -> str:
        info = stand.ok("GET", f"sys/remount/status/{moving}")["data"]["migration_info"]
        return str(info["status"])

    assert eventually(lambda: status() == "success")
    assert stand.record(path) is None
    assert stand.works(stand.key(target))


def test_a_moved_mount_is_not_disabled_while_its_old_leases_live(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disabling, "SETTLE_SECONDS", 0.5)
    path, target = stand.mount(), stand.path()
    key = stand.key(path)
    stand.faults({"kind": "error", "method": "DELETE", "path": "/v1/keys/*", "count": None})
    moving = stand.ok("POST", "sys/remount", {"from": path, "to": target})["data"]["migration_id"]

    def status() -> str:
        info = stand.ok("GET", f"sys/remount/status/{moving}")["data"]["migration_info"]
        return str(info["status"])

    assert eventually(lambda: stand.record(target) is not None)
    assert status() == "in-progress", "a move is not done while an old key lives"
    answer = stand.call("DELETE", f"sys/mounts/{target}")
    assert answer.status_code == 400
    assert (
        f'leases from before it was moved are still being revoked: "{key.lease_id}"'
        in answer.json()["errors"][0]
    )
    assert stand.works(key)

    stand.faults()
    assert stand.call("PUT", f"sys/leases/revoke-prefix/{path}").status_code == 204
    assert not stand.works(key)
    assert status() == "success"
    assert stand.call("DELETE", f"sys/mounts/{target}").status_code == 204


def test_a_move_that_the_upstream_refuses_changes_nothing(stand: Stand) -> None:
    path, plain = stand.mount(), stand.path()
    stand.ok("POST", f"sys/mounts/{plain}", {"type": "transit"})
    key = stand.key(path)
    for target in (plain, path, "sys", f"{plain}/below"):
        assert stand.call("POST", "sys/remount", {"from": path, "to": target}).status_code == 400
    denied = stand.call("POST", "sys/remount", {"from": path, "to": stand.path()}, token=stand.token(ADMIN))

    assert denied.status_code == 403
    assert stand.works(key)
    assert stand.key(path)


# -- past the sidecar -------------------------------------------------------------------------------------------


def test_ttls_tuned_past_the_sidecar_are_taken_over(stand: Stand) -> None:
    path = stand.mount(ttl=0)
    stand.ok(
        "POST", f"sys/mounts/{path}/tune", {"default_lease_ttl": "3m", "description": "x"}, upstream=True
    )
    reconcile_mounts(stand.sidecar)

    record = stand.record(path)
    assert record is not None
    assert (record.default_lease_ttl, record.description) == (180, "x")
    assert stand.key(path).lease_duration == 180


def test_a_mount_moved_past_the_sidecar_is_followed(stand: Stand) -> None:
    path, target = stand.mount(), stand.path()
    old = stand.key(path)
    stand.ok("POST", "sys/remount", {"from": path, "to": target}, upstream=True)
    assert eventually(lambda: shown(stand, target, upstream=True) is not None)
    reconcile_mounts(stand.sidecar)

    assert stand.record(path) is None
    assert stand.works(stand.key(target))
    assert stand.gone(old)


def test_a_mount_disabled_past_the_sidecar_mints_no_more_and_its_leases_still_end(stand: Stand) -> None:
    path = stand.mount(ttl="4s")
    key = stand.key(path)
    uuid = getattr(stand.record(path), "uuid", "")
    stand.ok("DELETE", f"sys/mounts/{path}", upstream=True)

    for _ in range(2):
        ours = stand.call("GET", f"{path}/creds/demo")
        theirs = stand.call("GET", f"{path}/creds/demo", upstream=True)
        assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text)
        assert ours.status_code == 404
        reconcile_mounts(stand.sidecar)
    assert stand.ok("PUT", "sys/leases/lookup", {"lease_id": key.lease_id})["data"]["id"] == key.lease_id
    assert stand.gone(key, seconds=20)
    # Its entries are kept, since the sidecar may only be looking at the wrong server.
    assert stand.sidecar.store.entries(uuid).get("config") is not None


@pytest.mark.parametrize("past_the_sidecar", [False, True], ids=["through", "past"])
def test_a_path_that_another_engine_has_taken_is_that_engines(stand: Stand, past_the_sidecar: bool) -> None:
    path = stand.mount()
    key = stand.key(path)
    stand.ok("DELETE", f"sys/mounts/{path}", upstream=True)
    reconcile_mounts(stand.sidecar)
    stand.ok("POST", f"sys/mounts/{path}", {"type": "kv"}, upstream=past_the_sidecar)
    if past_the_sidecar:
        reconcile_mounts(stand.sidecar)

    assert stand.record(path) is None
    assert stand.call("LIST", path, upstream=True).status_code == 404
    stand.ok("PUT", f"{path}/config", {"management_key": "of another engine"})
    assert stand.ok("GET", f"{path}/config")["data"] == {"management_key": "of another engine"}
    entry = shown(stand, path)
    assert entry is not None
    assert entry["type"] == "kv"
    assert stand.call("PUT", f"sys/leases/revoke-prefix/{path}").status_code == 204
    assert not stand.works(key)


def test_a_mount_of_ours_takes_the_path_of_one_that_is_gone(stand: Stand) -> None:
    path = stand.mount()
    old = stand.key(path)
    stand.ok("DELETE", f"sys/mounts/{path}", upstream=True)

    stand.mount(path)

    new = stand.key(path)
    assert stand.works(new)
    assert stand.call("PUT", "sys/leases/revoke", {"lease_id": old.lease_id}).status_code == 204
    assert not stand.works(old)
    assert stand.works(new)


def test_a_mount_whose_disabling_was_finished_past_the_sidecar_is_forgotten(stand: Stand) -> None:
    path = stand.mount()
    key = stand.key(path)
    stand.faults({"kind": "error", "method": "DELETE", "path": "/v1/keys/*", "count": None})
    assert stand.call("DELETE", f"sys/mounts/{path}").status_code == 400
    stand.ok("DELETE", f"sys/mounts/{path}", upstream=True)
    reconcile_mounts(stand.sidecar)
    assert stand.record(path) is not None

    stand.faults()
    assert stand.call("PUT", f"sys/leases/revoke/{key.lease_id}").status_code == 204
    reconcile_mounts(stand.sidecar)
    assert stand.record(path) is None
    assert not stand.works(key)


def test_a_sidecar_that_looks_at_the_wrong_server_forgets_nothing(stand: Stand, tmp_path: Path) -> None:
    path = stand.mount()
    key = stand.key(path)
    before = stand.record(path)
    with OpenBaoProcess(tmp_path) as wrong:
        token_file = tmp_path / "token"
        token_file.write_text(wrong.root_token)
        transport = KeepAliveTransport()
        own = OwnIdentity(Upstream(wrong.address, transport), TokenFileLogin(token_file))
        Reconciler(dataclasses.replace(stand.sidecar, own=own)).run()
        transport.close()
    assert getattr(stand.record(path), "accessor", None) == ""

    reconcile_mounts(stand.sidecar)
    assert stand.record(path) == before
    assert stand.works(key)
    assert stand.works(stand.key(path))


def test_markers_lost_past_the_sidecar_are_put_back_at_the_start(stand: Stand) -> None:
    path = stand.mount()
    for entry in ("creds/demo", "roles/demo", "config"):
        stand.ok("DELETE", f"{path}/{entry}", upstream=True)

    Reconciler(stand.sidecar).run()

    for entry in ("creds/demo", "roles/demo", "config"):
        assert "aikeys_marker" in stand.ok("GET", f"{path}/{entry}", upstream=True)["data"]
    assert stand.works(stand.key(path))
