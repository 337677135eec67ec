"""A mount of ours was asked for and nobody knows whether it is there: nothing gets past the engine into its shadow."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.integration.intercepts.stand import Stand
from tests.sidecar_stack import eventually

from aikeys.sidecar.intercepts.adopting import intend, intend_move
from aikeys.sidecar.intercepts.enabling import with_mark
from aikeys.sidecar.intercepts.reconciling import reconcile_mounts
from aikeys.storage.records import Enabling

SECRET = "sk-holysheep-admin-" + "E" * 32


@pytest.fixture
def awaited(stand: Stand) -> Iterator[tuple[str, str]]:
    """A path at which a mount was asked for, and the mark that it will have."""
    path = stand.path()
    mark = intend(stand.sidecar, path)
    yield path, mark
    stand.sidecar.store.delete_enabling(mark)


def write_config(stand: Stand, path: str) -> int:
    config = {"base_url": stand.relay.base_url, "management_key": SECRET, "verify_connection": False}
    return stand.call("POST", f"{path}/config", config).status_code


@pytest.mark.parametrize("method", ["GET", "POST", "LIST", "DELETE"])
def test_while_nobody_knows_every_request_waits(stand: Stand, awaited: tuple[str, str], method: str) -> None:
    path, _mark = awaited
    for below in (path, f"{path}/config", f"{path}/roles/x"):
        answer = stand.call(method, below, {"a": "b"} if method == "POST" else None)
        assert answer.status_code == 503, answer.text
        assert "the Vault's answer is not known yet" in answer.json()["errors"][0]
    assert stand.call("GET", f"{path}x/config").status_code == 404, "another path, not below it"


def test_when_it_is_there_the_first_request_brings_it_on_record(
    stand: Stand, awaited: tuple[str, str]
) -> None:
    path, mark = awaited
    stand.ok("POST", f"sys/mounts/{path}", with_mark({"type": "kv"}, mark), upstream=True)
    assert write_config(stand, path) == 204
    assert stand.record(path) is not None
    kept = stand.ok("GET", f"{path}/config", upstream=True)["data"]
    assert (SECRET in str(kept), "aikeys_marker" in kept) == (False, True)
    for entry in ("tidy", "leases"):
        assert "aikeys_marker" in stand.ok("GET", f"{path}/{entry}", upstream=True)["data"]
    stand.configure(path)
    assert stand.works(stand.key(path))


def test_somebody_elses_mount_there_is_theirs(stand: Stand, awaited: tuple[str, str]) -> None:
    path, _mark = awaited
    stand.ok("POST", f"sys/mounts/{path}", {"type": "kv"}, upstream=True)
    assert stand.call("POST", f"{path}/config", {"a": "b"}).status_code == 204
    assert stand.ok("GET", f"{path}/config")["data"] == {"a": "b"}
    assert stand.record(path) is None


def test_enabling_it_again_ends_the_wait(stand: Stand, awaited: tuple[str, str]) -> None:
    path, _mark = awaited
    stand.mount(path)
    key = stand.key(path)
    assert stand.works(key)
    assert stand.sidecar.store.enablings() == []
    stand.ok("DELETE", f"sys/mounts/{path}")
    assert stand.gone(key)
    assert stand.call("GET", f"{path}/config").status_code == 404


def test_when_the_upstream_cannot_be_asked_nothing_passes(
    stand: Stand, awaited: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sidecar's own token may not read the table."""
    path, mark = awaited
    stand.ok("POST", f"sys/mounts/{path}", with_mark({"type": "kv"}, mark), upstream=True)
    monkeypatch.setattr(stand.sidecar.own, "request", _refusing(stand))
    assert write_config(stand, path) == 503
    monkeypatch.undo()
    assert stand.call("GET", f"{path}/config", upstream=True).status_code == 404, (
        "it was stored in the shadow"
    )
    assert write_config(stand, path) == 204


@pytest.fixture
def moving(stand: Stand) -> Iterator[tuple[str, str]]:
    """A mount of ours that somebody asked to be moved, and where to: the process that asked is dead."""
    path, target = stand.mount(), stand.path()
    mount = stand.sidecar.mounts.by_path(path)
    assert mount is not None
    mark = intend_move(stand.sidecar, mount, target)
    yield path, target
    stand.sidecar.store.delete_enabling(mark)


def test_what_is_sent_to_a_moved_mount_never_reaches_its_shadow(
    stand: Stand, moving: tuple[str, str]
) -> None:
    path, target = moving
    assert write_config(stand, target) == 503, "not moved yet"
    assert stand.works(stand.key(path))
    stand.ok("POST", "sys/remount", {"from": path, "to": target}, upstream=True)
    eventually(lambda: f"{target}/" in stand.ok("GET", "sys/mounts", upstream=True)["data"], what="the move")

    assert write_config(stand, target) == 204

    assert stand.sidecar.store.enablings() == []
    assert SECRET not in str(stand.ok("GET", f"{target}/config", upstream=True)["data"])
    stand.configure(target)
    assert stand.works(stand.key(target))
    assert stand.call("GET", f"{path}/creds/demo").status_code == 404


def test_a_move_that_is_refused_leaves_its_target_to_others(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, target = stand.mount(), stand.path()
    store = stand.sidecar.store
    put, written = store.put_enabling, list[Enabling]()

    def put_enabling(record: Enabling) -> None:
        written.append(record)
        put(record)

    monkeypatch.setattr(store, "put_enabling", put_enabling)
    for token, to, status, writes in (
        ("no token of anybody", target, 403, 0),
        (stand.token(), target, 403, 0),
        (stand.server.root_token, "sys/x", 400, 1),
    ):
        written.clear()
        answer = stand.call("POST", "sys/remount", {"from": path, "to": to}, token=token)
        assert answer.status_code == status, answer.text
        assert len(written) == writes, "who may not move mounts makes us write nothing"
        assert store.enablings() == []
    assert stand.call("GET", f"{target}/x").status_code == 404
    assert stand.works(stand.key(path))


def _refusing(stand: Stand) -> object:
    real = stand.sidecar.own.request

    def request(method: str, path: str, *args: object, **options: object) -> object:
        where = "sys/forbidden" if path == "sys/mounts" else path
        return real(method, where, *args, **options)  # type: ignore[arg-type]

    return request


# -- shadows without an engine ------------------------------------------------------------------------------------


@pytest.fixture
def forsaken(stand: Stand) -> str:
    """A mount that another sidecar has made, or this one before its database was lost."""
    path = stand.path()
    marked = with_mark({"type": "kv"}, "another sidecar's mark")
    stand.ok("POST", f"sys/mounts/{path}", marked, upstream=True)
    stand.ok("PUT", f"{path}/creds/x", {"aikeys_marker": "0" * 64}, upstream=True)
    reconcile_mounts(stand.sidecar)
    return path


def test_nothing_passes_to_a_shadow_whose_engine_is_nowhere(stand: Stand, forsaken: str) -> None:
    for method, below in (("GET", "creds/x"), ("PUT", "creds/x"), ("LIST", "roles"), ("DELETE", "roles/x")):
        answer = stand.call(method, f"{forsaken}/{below}")
        assert answer.status_code == 503
        assert "the shadow of an engine that is not on record here" in answer.json()["errors"][0]
    assert write_config(stand, forsaken) == 503
    assert stand.call("GET", f"{forsaken}/config", upstream=True).status_code == 404


def test_it_can_be_disabled_and_enabled_again(stand: Stand, forsaken: str) -> None:
    stand.ok("DELETE", f"sys/mounts/{forsaken}")
    assert stand.call("GET", f"{forsaken}/config").status_code == 404
    stand.mount(forsaken)
    assert stand.works(stand.key(forsaken))


def test_somebody_elses_mount_in_its_place_is_theirs_at_once(stand: Stand, forsaken: str) -> None:
    stand.ok("DELETE", f"sys/mounts/{forsaken}", upstream=True)
    stand.ok("POST", f"sys/mounts/{forsaken}", {"type": "kv"}, upstream=True)
    stand.ok("PUT", f"{forsaken}/a", {"b": "c"})
    assert stand.ok("GET", f"{forsaken}/a")["data"] == {"b": "c"}
