"""`leases` tells how revocations go: what fails and when it is tried again, what was forced, and how fast keys died."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.unit.engine.world import CALLER, World, refused

from aikeys.engine.backstop import rfc3339
from aikeys.framework.response import InvalidRequest, Unavailable
from aikeys.relays.interface import Kind, Probe


def hand_out(world: World, role: str = "demo") -> str:
    return world.register(world.issue(role), CALLER).lease_id


def ask(world: World, **data: Any) -> dict[str, Any]:
    shown = world.read("leases", data)
    assert shown is not None
    return shown


def fails(world: World, lease_id: str) -> None:
    with pytest.raises(InvalidRequest):
        world.leases.revoke(lease_id)


def at(world: World, seconds: float = 0) -> str:
    return rfc3339(world.clock.now() + timedelta(seconds=seconds))


def test_a_mount_without_a_lease_has_nothing_to_show(ready: World) -> None:
    counts = {"active": 0, "revoking": 0, "failing": 0, "given_up": 0, "open_mints": 0}
    assert ask(ready) == {"counts": counts, "leases": [], "lease_info": {}}


def test_a_failing_revocation_shows_why_and_when_it_is_tried_again(ready: World) -> None:
    lease_id = hand_out(ready)
    ready.books.faults["revoke"] = refused(Kind.UNAVAILABLE, "nobody at home")
    fails(ready, lease_id)

    shown = ask(ready)

    assert shown["counts"] == {"active": 0, "revoking": 1, "failing": 1, "given_up": 0, "open_mints": 0}
    info = shown["lease_info"][lease_id]
    record = ready.store.lease(lease_id)
    assert record is not None
    assert info == {
        "state": "revoking",
        "role": "demo",
        "key_id": "key_1",
        "issue_time": at(ready),
        "expire_time": at(ready),
        "failures": 1,
        "error": "revoking key key_1: nobody at home",
        "next_attempt": rfc3339(record.due_at),
        "deleted_at": None,
        "refused_by": None,
    }


def test_a_deleted_key_that_is_still_accepted_shows_when_it_was_deleted(ready: World) -> None:
    ready.write("roles/demo", verify_revocation=True)
    ready.books.capabilities = replace(ready.books.capabilities, revocation_lag=60.0)
    lease_id = hand_out(ready)
    ready.books.probes = [Probe.ACCEPTED] * 100
    deleted_at, refused_by = at(ready), at(ready, 60)
    fails(ready, lease_id)

    info = ask(ready)["lease_info"][lease_id]

    assert (info["deleted_at"], info["refused_by"]) == (deleted_at, refused_by)
    assert (info["failures"], "is still accepted" in info["error"]) == (0, True)


def test_the_lag_of_the_latest_revocations_is_shown_the_latest_first(ready: World) -> None:
    ready.write("roles/demo", verify_revocation=True)
    ready.write("roles/plain", ttl="1m")
    verified, plain = hand_out(ready), hand_out(ready, "plain")
    ready.books.probes = [Probe.ACCEPTED, Probe.ACCEPTED]
    ready.leases.revoke(verified)
    ready.clock.moved += 5
    ready.leases.revoke(plain)

    shown = ask(ready)

    assert shown["leases"] == [plain, verified]
    first, second = shown["lease_info"][plain], shown["lease_info"][verified]
    assert (first["state"], first["ended_by"], first["lag"], first["refused_by"]) == (
        "ended", "revoke", None, at(ready, 0.5)
    )  # fmt: skip
    assert (second["lag"], second["key_id"]) == (0.15, "key_1")


def test_what_was_given_up_by_force_is_shown_until_the_relay_has_revoked_it(ready: World) -> None:
    lease_id = hand_out(ready)
    ready.books.faults["revoke"] = refused(Kind.UNAVAILABLE, "nobody at home")
    ready.leases.revoke_force("ai-keys/")

    shown = ask(ready)

    assert (shown["leases"], shown["counts"]["given_up"], shown["counts"]["revoking"]) == ([lease_id], 1, 0)
    info = shown["lease_info"][lease_id]
    (key,) = ready.books.keys.values()
    assert (info["state"], info["key_id"], info["end_time"]) == ("given_up", "key_1", at(ready))
    assert info["refused_by"] == rfc3339(key.expires_at)
    assert "nobody at home" in info["error"]

    ready.books.faults.clear()
    ready.clock.moved += 60
    assert ready.leases.forced.run_once() == 1

    shown = ask(ready)
    assert (shown["leases"], shown["counts"]["given_up"]) == ([lease_id], 0)
    assert (shown["lease_info"][lease_id]["state"], shown["lease_info"][lease_id]["ended_by"]) == (
        "ended",
        "force",
    )


def test_active_leases_are_shown_on_demand_and_states_and_roles_narrow_it_down(ready: World) -> None:
    ready.write("roles/other", ttl="1m")
    active, other, ended = hand_out(ready), hand_out(ready, "other"), hand_out(ready)
    ready.leases.revoke(ended)

    assert ask(ready)["leases"] == [ended]
    assert set(ask(ready, state="active")["leases"]) == {active, other}
    assert ask(ready, state="active,ended", role="demo")["leases"] == [active, ended]
    assert ask(ready, state=["active"], role="other")["leases"] == [other]
    assert ask(ready, role="other")["counts"]["active"] == 1
    assert ask(ready, role="nobody")["leases"] == []
    info = ask(ready, state="active")["lease_info"][active]
    assert sorted(info) == ["expire_time", "issue_time", "key_id", "role", "state"]


def test_what_is_over_and_not_yet_taken_up_is_not_active(ready: World) -> None:
    """As while its relay is away: only one lease is tried then."""
    lease_id = hand_out(ready)
    ready.clock.moved += 1_000_000
    shown = ask(ready)
    assert (shown["counts"]["active"], shown["counts"]["revoking"]) == (0, 1)
    info = shown["lease_info"][lease_id]
    assert (info["state"], info["failures"], info["error"]) == ("revoking", 0, "")
    assert ask(ready, state="active")["leases"] == []


def test_so_many_of_each_state_are_shown_and_all_are_counted(ready: World) -> None:
    ids = [hand_out(ready) for _ in range(6)]
    for lease_id in ids[3:]:
        ready.leases.revoke(lease_id)
    shown = ask(ready, state="active,ended", limit=2)
    assert len(shown["leases"]) == 4
    assert shown["counts"]["active"] == 3


def test_an_unfinished_mint_is_counted(ready: World) -> None:
    ready.issue("demo")
    assert ask(ready)["counts"]["open_mints"] == 1
    assert ask(ready, role="demo")["counts"]["open_mints"] == 1
    assert ask(ready, role="other")["counts"]["open_mints"] == 0


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"state": "gone"}, "state 'gone' is unknown: allowed are given_up, revoking, active, ended"),
        ({"limit": 0}, "limit must be from 1 to 1000, not 0"),
        ({"limit": 1001}, "limit must be from 1 to 1000, not 1001"),
        ({"limit": -1}, "not -1"),
        ({"limit": "many"}, "cannot parse"),
    ],
)
def test_bad_input_is_refused_with_what_is_allowed(ready: World, data: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        ask(ready, **data)
    assert text in error.value.message


def test_no_key_is_shown(ready: World) -> None:
    ready.write("roles/demo", verify_revocation=True)
    ready.leases.revoke(hand_out(ready))
    ready.books.faults["revoke"] = refused(Kind.UNAVAILABLE, "nobody at home")
    hand_out(ready)
    ready.leases.revoke_force("ai-keys/")
    fails(ready, hand_out(ready))
    hand_out(ready)
    shown = ask(ready, state="given_up,revoking,active,ended")
    assert len(shown["leases"]) == 4
    assert all(key.secret not in str(shown) for key in ready.books.keys.values())


def test_a_store_that_cannot_be_read_is_said_to_be(ready: World) -> None:
    ready.store.close()
    with pytest.raises(Unavailable):
        ask(ready)
