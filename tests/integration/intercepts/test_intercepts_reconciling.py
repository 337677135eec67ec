"""What is done to our mounts past the sidecar is found and followed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tests.integration.intercepts.mounts import shown
from tests.integration.intercepts.stand import Stand, eventually
from tests.realparts.openbao import OpenBaoProcess

from aikeys.sidecar.intercepts import Reconciler, reconcile_mounts
from aikeys.sidecar.login import TokenFileLogin
from aikeys.sidecar.own_identity import OwnIdentity
from aikeys.sidecar.upstream import Upstream
from aikeys.transport import KeepAliveTransport


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
