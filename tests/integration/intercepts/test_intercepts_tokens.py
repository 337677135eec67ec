"""A token's end that passes the sidecar ends its leases at once, and those of all that die with it, and no other's.

What the sweep was not asked to look at stays unseen here: it does not run by itself, and has just looked at all.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from tests.integration.intercepts.stand import Key, Stand, eventually

from aikeys.storage.records import LeaseState

READ = 'path "{path}/creds/demo" {{ capabilities = ["read"] }}\n'
PARENT = READ + 'path "auth/token/create" {{ capabilities = ["update"] }}\n'


@pytest.fixture
def path(stand: Stand) -> str:
    return stand.shared_mount()


@dataclass(frozen=True, slots=True)
class Holder:
    """A token and a key that was read with it."""

    token: str
    accessor: str
    key: Key


def holder(stand: Stand, path: str, token: str) -> Holder:
    accessor = stand.ok("GET", "auth/token/lookup-self", token=token, upstream=True)["data"]["accessor"]
    return Holder(token, accessor, stand.key(path, token=token))


def app(stand: Stand, path: str) -> Holder:
    return holder(stand, path, stand.token(PARENT.format(path=path)))


def child(stand: Stand, path: str, parent: str) -> Holder:
    made = stand.ok("POST", "auth/token/create", {"ttl": "20m"}, token=parent, upstream=True)
    return holder(stand, path, made["auth"]["client_token"])


def sweep(stand: Stand) -> None:
    """As the background does: what was asked for is done, though not more than once a second."""
    while stand.sidecar.token_sweep.asked:
        stand.sidecar.token_sweep.run_once()
        time.sleep(0.05)


def looked_at_all(stand: Stand) -> None:
    """As after a sweep that found every token alive."""
    sweep(stand)
    now = stand.sidecar.clock.now()
    later = now + timedelta(hours=1)
    tokens = stand.sidecar.store.claim_tokens(later, later, later + timedelta(hours=1), 1000)
    stand.sidecar.store.settle_tokens([replace(token, seen_at=now, due_at=later) for token in tokens])


def active(stand: Stand, key: Key) -> bool:
    lease = stand.sidecar.store.lease(key.lease_id)
    return lease is not None and lease.state is LeaseState.ACTIVE


def revoke(stand: Stand, how: str, of: Holder) -> None:
    match how:
        case "revoke" | "revoke-orphan":
            stand.ok("POST", f"auth/token/{how}", {"token": of.token})
        case "revoke-self":
            stand.ok("POST", "auth/token/revoke-self", token=of.token)
        case "revoke-accessor":
            stand.ok("POST", "auth/token/revoke-accessor", {"accessor": of.accessor})
        case "cli":
            stand.cli("token", "revoke", of.token)


WAYS = ["revoke", "revoke-self", "revoke-accessor", "revoke-orphan", "cli"]


@pytest.mark.parametrize("how", WAYS)
def test_the_leases_of_a_revoked_token_end_with_it(stand: Stand, path: str, how: str) -> None:
    one, other = app(stand, path), stand.key(path)

    revoke(stand, how, one)

    assert stand.gone(one.key)
    assert stand.works(other)


@pytest.mark.parametrize("how", WAYS)
def test_the_leases_of_its_children_end_with_it_unless_they_become_orphans(
    stand: Stand, path: str, how: str
) -> None:
    parent, stranger = app(stand, path), app(stand, path)
    first = child(stand, path, parent.token)
    looked_at_all(stand)

    revoke(stand, how, parent)
    sweep(stand)

    if how == "revoke-orphan":
        assert active(stand, first.key)
        assert stand.works(first.key)
    else:
        assert stand.gone(first.key)
    assert active(stand, stranger.key)
    assert stand.works(stranger.key)


def test_a_refused_revocation_of_a_token_ends_no_lease(stand: Stand, path: str) -> None:
    one, stranger = app(stand, path), stand.token()
    looked_at_all(stand)

    for where, body in (
        ("revoke", {"token": one.token}),
        ("revoke-orphan", {"token": one.token}),
        ("revoke-accessor", {"accessor": one.accessor}),
    ):
        assert stand.call("POST", f"auth/token/{where}", body, token=stranger).status_code == 403
        assert "help" in stand.ok("POST", f"auth/token/{where}?help=1", body)
    assert not stand.sidecar.token_sweep.asked
    stand.sidecar.token_sweep.run_once()
    time.sleep(0.3)
    assert active(stand, one.key)
    assert stand.works(one.key)


def test_a_revocation_goes_on_when_nobody_can_say_whose_and_then_all_are_looked_at(
    stand: Stand, path: str
) -> None:
    one, other = app(stand, path), app(stand, path)
    place = "sys/policies/acl/aikeys-sidecar"
    policy = stand.ok("GET", place, upstream=True)["data"]["policy"]
    less = re.sub(r'^path "auth/token/lookup" {.*?^}$', "", policy, flags=re.DOTALL | re.MULTILINE)
    assert less != policy
    looked_at_all(stand)
    try:
        stand.ok("PUT", place, {"policy": less}, upstream=True)
        stand.ok("POST", "auth/token/revoke", {"token": one.token})
    finally:
        stand.ok("PUT", place, {"policy": policy}, upstream=True)
    sweep(stand)
    assert stand.gone(one.key)
    assert active(stand, other.key)


def test_a_batch_token_cannot_be_revoked_and_keeps_its_leases(stand: Stand, path: str) -> None:
    batch = stand.token(READ.format(path=path), type="batch")
    key = stand.key(path, token=batch)
    refused = stand.call("POST", "auth/token/revoke", {"token": batch})
    assert (refused.status_code, refused.json()["errors"]) == (400, ["batch tokens cannot be revoked"])
    assert active(stand, key)


def batch(stand: Stand, path: str, parent: str, *, create: str = "create", **options: Any) -> Key:
    body = {"type": "batch", "ttl": "20m", **options}
    auth = stand.ok("POST", f"auth/token/{create}", body, token=parent)["auth"]
    assert auth["token_type"] == "batch"
    return stand.key(path, token=auth["client_token"])


@pytest.mark.parametrize("how", ["revoke", "revoke-orphan"])
def test_leases_of_a_batch_token_made_through_the_sidecar_end_with_its_parent(
    stand: Stand, path: str, how: str
) -> None:
    parent, stranger = app(stand, path), app(stand, path)
    key, other = batch(stand, path, parent.token), batch(stand, path, stranger.token)
    revoke(stand, how, parent)
    assert stand.gone(key)
    assert stand.works(other)


def test_leases_of_a_batch_token_end_with_its_parent_s_parent(stand: Stand, path: str) -> None:
    top = app(stand, path)
    key = batch(stand, path, child(stand, path, top.token).token)
    looked_at_all(stand)
    revoke(stand, "revoke", top)
    sweep(stand)
    assert stand.gone(key)


def test_leases_of_an_orphan_batch_token_are_nobody_else_s(stand: Stand, path: str) -> None:
    role = f"orphans-{secrets.token_hex(4)}"
    body = {"orphan": True, "token_type": "batch", "renewable": False, "allowed_policies_glob": "*"}
    stand.ok("POST", f"auth/token/roles/{role}", body, upstream=True)
    maker = stand.token(PARENT.format(path=path).replace("token/create", f"token/create/{role}"))
    policies = stand.ok("GET", "auth/token/lookup-self", token=maker, upstream=True)["data"]["policies"]
    key = batch(stand, path, maker, create=f"create/{role}", policies=policies)
    stand.ok("POST", "auth/token/revoke", {"token": maker})
    sweep(stand)
    assert active(stand, key)


def test_leases_of_a_batch_token_whose_parent_nobody_tells_end_with_the_token(
    stand: Stand, path: str
) -> None:
    """Made past the sidecar. What it was given cannot outlive it."""
    parent = app(stand, path)
    made = stand.ok(
        "POST", "auth/token/create", {"type": "batch", "ttl": "3s"}, token=parent.token, upstream=True
    )
    key = stand.key(path, token=made["auth"]["client_token"])
    assert key.lease_duration <= 3
    assert stand.gone(key, seconds=20)


# -- by the leases of tokens, and by whole auth methods -----------------------------------------------------------


@pytest.fixture
def method(stand: Stand) -> str:
    """A userpass method with the user `app` and no policy but the one of the test."""
    name = f"users-{secrets.token_hex(4)}"
    stand.ok("POST", f"sys/auth/{name}", {"type": "userpass"}, upstream=True)
    return name


def logged_in(stand: Stand, path: str, method: str) -> Holder:
    policy = f"t-{method}"
    stand.ok("PUT", f"sys/policies/acl/{policy}", {"policy": READ.format(path=path)}, upstream=True)
    user = {"password": "of-a-test", "token_policies": policy}
    stand.ok("POST", f"auth/{method}/users/app", user, upstream=True)
    made = stand.ok("POST", f"auth/{method}/login/app", {"password": "of-a-test"}, upstream=True)
    return holder(stand, path, made["auth"]["client_token"])


def lease_of_token(stand: Stand, method: str) -> str:
    """The lease of the one login at this method."""
    below = f"auth/{method}/login/app/"
    [last] = stand.ok("LIST", f"sys/leases/lookup/{below}", upstream=True)["data"]["keys"]
    return below + str(last)


@pytest.mark.parametrize(
    "how",
    [
        "lease",
        "lease-in-path",
        "lease-later",
        "prefix",
        "prefix-later",
        "force",
        "old-prefix",
        "cli",
        "disable",
    ],
)
def test_the_leases_of_tokens_end_with_the_leases_of_the_tokens(
    stand: Stand, path: str, method: str, how: str
) -> None:
    if how == "old-prefix" and not stand.is_vault:
        how = "prefix"
    one, stranger = logged_in(stand, path, method), app(stand, path)
    lease = lease_of_token(stand, method)
    looked_at_all(stand)

    match how:
        case "lease":
            stand.ok("PUT", "sys/leases/revoke", {"lease_id": lease})
        case "lease-in-path":
            stand.ok("PUT", f"sys/leases/revoke/{lease}")
        case "lease-later":
            stand.ok("PUT", "sys/leases/revoke", {"lease_id": lease, "sync": False})
        case "prefix":
            stand.ok("PUT", f"sys/leases/revoke-prefix/auth/{method}")
        case "prefix-later":
            stand.ok("PUT", f"sys/leases/revoke-prefix/auth/{method}", {"sync": False})
        case "force":
            stand.ok("PUT", f"sys/leases/revoke-force/auth/{method}/login")
        case "old-prefix":
            stand.ok("PUT", f"sys/revoke-prefix/auth/{method}")
        case "cli":
            stand.cli("lease", "revoke", "-prefix", f"auth/{method}")
        case "disable":
            stand.ok("DELETE", f"sys/auth/{method}")

    assert stand.sidecar.token_sweep.asked
    sweep(stand)

    def gone() -> bool:
        # What the upstream does later it may not have done yet when it is first asked.
        stand.sidecar.token_sweep.run_once()
        return stand.gone(one.key, seconds=0.1)

    assert eventually(gone)
    assert active(stand, stranger.key)
    assert stand.works(stranger.key)


def test_what_is_refused_or_no_token_s_makes_nobody_look(stand: Stand, path: str) -> None:
    one, stranger = app(stand, path), stand.token()
    looked_at_all(stand)
    assert stand.call("DELETE", "sys/auth/approle", token=stranger).status_code == 403
    assert stand.call("PUT", "sys/leases/revoke-prefix/auth", token=stranger).status_code == 403
    assert stand.call("PUT", "sys/leases/revoke", {"lease_id": "database/creds/x/y"}).status_code == 204
    assert not stand.sidecar.token_sweep.asked
    assert active(stand, one.key)


# -- the last use -------------------------------------------------------------------------------------------------


def test_with_a_last_use_that_asks_for_a_key_the_earlier_leases_end(stand: Stand, path: str) -> None:
    one = holder(stand, path, stand.token(READ.format(path=path), num_uses=3))
    looked_at_all(stand)
    refused = stand.call("GET", f"{path}/creds/demo", token=one.token)
    assert refused.status_code == 400
    assert "token had one use left" in refused.text
    assert stand.gone(one.key)


def test_no_key_comes_of_a_last_use_however_soon_the_token_is_looked_up(stand: Stand, path: str) -> None:
    """For a moment the upstream still tells of a token whose last use is spent."""
    before = len(stand.sidecar.store.lease_ids_with_prefix(f"{path}/"))
    for _ in range(20):
        token = stand.token(READ.format(path=path), num_uses=1)
        assert stand.call("GET", f"{path}/creds/demo", token=token).status_code == 400
    assert len(stand.sidecar.store.lease_ids_with_prefix(f"{path}/")) == before
