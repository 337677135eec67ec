"""A mount of our engine goes when its last key is dead, and not before."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from tests.integration.intercepts.mounts import ADMIN, shown
from tests.integration.intercepts.stand import Stand, eventually

from aikeys.sidecar.mount_table import MountTable
from aikeys.storage.mounts import Entries


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


@pytest.mark.parametrize(
    ("owner", "name", "method", "path", "status"),
    [
        (MountTable, "update", "DELETE", "sys/mounts/{}", 204),
        (Entries, "put", "POST", "{}/roles/late", 404),
    ],
)
def test_a_mount_that_another_request_disables_meanwhile_is_gone_for_this_one_too(
    stand: Stand,
    monkeypatch: pytest.MonkeyPatch,
    owner: type,
    name: str,
    method: str,
    path: str,
    status: int,
) -> None:
    """Between the look at the table and what is done about it: neither request fails for it."""
    where = stand.mount()
    real = getattr(owner, name)

    def meanwhile(*given: Any, **named: Any) -> Any:
        monkeypatch.setattr(owner, name, real)
        assert stand.call("DELETE", f"sys/mounts/{where}").status_code == 204
        return real(*given, **named)

    monkeypatch.setattr(owner, name, meanwhile)
    got = stand.call(method, path.format(where), {"ttl": 60} if method == "POST" else None)
    assert got.status_code == status, got.text
    if status == 404:
        assert got.json()["errors"] == [f'no handler for route "{where}/roles/late". route entry not found.']
