"""Mounts of our engine are tuned and moved as the upstream does it with its own."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.intercepts.mounts import ADMIN, shown
from tests.integration.intercepts.stand import Stand, eventually

from aikeys.sidecar.intercepts import disabling, remount


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
