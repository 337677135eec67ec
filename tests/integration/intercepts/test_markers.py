"""The comparison of markers with what the engine has, beside requests that change it."""

from __future__ import annotations

import pytest
from tests.integration.intercepts.stand import Stand

from aikeys.framework.request import Mount


def marked(stand: Stand, path: str, entry: str) -> bool:
    return "aikeys_marker" in stand.ok("GET", f"{path}/{entry}", upstream=True)["data"]


def test_a_role_that_is_made_after_the_look_at_what_there_is_never_loses_its_markers(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stand.mount()
    mount = stand.record(path)
    assert mount is not None
    shadow = stand.sidecar.shadow
    names = shadow._names

    def late(at: Mount, folder: str) -> list[str]:
        if folder == "roles/":
            stand.ok("POST", f"{path}/roles/late", {"ttl": 60})
        return names(at, folder)

    removed: list[str] = []
    monkeypatch.setattr(shadow, "_names", late)
    monkeypatch.setattr(shadow, "remove", lambda _mount, entry: removed.append(entry))
    shadow.sync(mount)
    assert removed == []
    assert marked(stand, path, "creds/late")
    assert marked(stand, path, "roles/late")


def test_a_role_that_is_made_when_a_marker_of_its_name_is_taken_out_gets_it_back(
    stand: Stand, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stand.mount()
    mount = stand.record(path)
    assert mount is not None
    shadow = stand.sidecar.shadow
    # A marker without its object: what there is to be taken out.
    shadow.write(mount, "creds/late")
    remove = shadow.remove

    def late(at: Mount, relative: str) -> None:
        stand.ok("POST", f"{path}/roles/late", {"ttl": 60})
        remove(at, relative)

    monkeypatch.setattr(shadow, "remove", late)
    shadow.sync(mount)
    assert marked(stand, path, "creds/late")
    assert stand.works(stand.key(path))


def test_a_marker_without_its_object_is_taken_out(stand: Stand) -> None:
    path = stand.mount()
    mount = stand.record(path)
    assert mount is not None
    stand.sidecar.shadow.write(mount, "creds/gone")
    assert stand.sidecar.shadow.sync(mount) == 1
    assert stand.call("GET", f"{path}/creds/gone", upstream=True).status_code == 404
