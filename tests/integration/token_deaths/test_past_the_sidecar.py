"""A token that dies where the sidecar does not see it takes its leases along all the same, and no other's."""

from __future__ import annotations

import re
import time

import pytest
from tests.integration.token_deaths.world import PARENT, READ, World, answer, user_of_a_method
from tests.sidecar_stack import eventually

from aikeys.dev.provision import SIDECAR_POLICY


@pytest.mark.parametrize("how", ["revoke", "revoke-self", "revoke-accessor", "revoke-orphan"])
def test_a_revoked_token_takes_its_leases_along(world: World, how: str) -> None:
    one, other = world.holder(), world.holder()
    # Not by the first look, which comes soon after the issue in any case.
    world.is_looked_up_again(one)
    match how:
        case "revoke" | "revoke-orphan":
            world.server.request("POST", f"auth/token/{how}", {"token": one.token})
        case "revoke-self":
            world.server.request("POST", "auth/token/revoke-self", token=one.token)
        case "revoke-accessor":
            world.server.request("POST", "auth/token/revoke-accessor", {"accessor": one.accessor})
    world.ends(one)
    assert world.stays(other)


def test_a_disabled_auth_method_takes_the_leases_of_its_tokens_along(world: World) -> None:
    method, user = user_of_a_method(world)
    other = world.holder()
    world.server.request("DELETE", f"sys/auth/{method}")
    world.ends(user)
    assert world.stays(other)


def test_the_revoked_leases_of_tokens_take_the_leases_of_the_tokens_along(world: World) -> None:
    method, user = user_of_a_method(world)
    world.server.request("PUT", f"sys/leases/revoke-prefix/auth/{method}", {"sync": False})
    world.ends(user)


def test_a_dead_parent_takes_the_leases_of_its_children_along(world: World) -> None:
    parent = world.holder(PARENT)
    child = world.child(parent)
    grandchild = world.child(child)
    world.server.request("POST", "auth/token/revoke", {"token": parent.token})
    for holder in (parent, child, grandchild):
        world.ends(holder)


def test_children_that_became_orphans_keep_their_leases(world: World) -> None:
    parent = world.holder(PARENT)
    child = world.child(parent)
    world.server.request("POST", "auth/token/revoke-orphan", {"token": parent.token})
    world.ends(parent)
    world.is_looked_up_again(child)
    assert world.stays(child)
    world.server.request("POST", "auth/token/revoke", {"token": child.token})
    world.ends(child)


def test_with_its_ttl_a_token_s_leases_end(world: World) -> None:
    one = world.holder(ttl="2s")
    assert world.stays(one)
    world.ends(one)


def test_a_renewed_token_keeps_its_leases_past_its_first_end_until_its_last(world: World) -> None:
    first_end, last_end = 2, 6
    start = time.monotonic()
    one = world.holder(ttl=f"{first_end}s", explicit_max_ttl=f"{last_end}s")
    lived = []

    def ended() -> bool:
        with world.server.client() as client:
            headers = {"X-Vault-Token": one.token}
            status = client.post("/v1/auth/token/renew-self", headers=headers, json={}).status_code
        if status == 200 and world.stays(one):
            lived.append(time.monotonic() - start)
        return status == 403

    eventually(ended, pause=0.3, seconds=20, what="the end of the token")
    assert lived[-1] > first_end + 1.5
    world.ends(one)


def test_with_its_last_use_a_token_s_leases_end(world: World) -> None:
    one = world.holder(num_uses=2)
    world.server.request("GET", "auth/token/lookup-self", token=one.token)
    world.ends(one)


def test_a_disabled_entity_s_tokens_live_on_as_they_do_in_vault(world: World) -> None:
    """They are refused while it is disabled, and good again afterwards; their leases were theirs all the time."""
    _, user = user_of_a_method(world)
    look = world.server.request("POST", "auth/token/lookup-accessor", {"accessor": user.accessor})
    entity = look["data"]["entity_id"]
    world.server.request("POST", f"identity/entity/id/{entity}", {"disabled": True})
    world.is_looked_up_again(user)
    assert world.stays(user)


def test_one_token_s_many_leases_end_together(world: World) -> None:
    token = world.stack.token(READ, no_parent=True)
    holders = [world.reads_key(token.token, token.accessor) for _ in range(12)]
    world.server.request("POST", "auth/token/revoke", {"token": token.token})
    for holder in holders:
        world.ends(holder)


# -- nothing ends by a word that is not the upstream's own --------------------------------------------------------------


def test_while_the_upstream_is_sealed_nothing_ends_and_afterwards_what_died_meanwhile(world: World) -> None:
    mortal, other = world.holder(ttl="4s"), world.holder()
    with world.hindered(world.server.seal, world.server.unseal):
        time.sleep(4)
        world.stays_at_the_relay(mortal, other)
    world.ends(mortal)
    world.is_looked_up_again(other)
    assert world.stays(other)


LIE = b'{"errors":["1 error occurred:\\n\\t* invalid accessor\\n\\n"]}\n'
HINDRANCES: dict[str, dict[str, object]] = {
    "no-connection": {"refuse": True},
    "failing": {"answer": answer(500, b'{"errors":["1 error occurred:\\n\\t* internal error\\n\\n"]}')},
    "unavailable": {"answer": answer(400, b"<html>maintenance</html>")},
    "lying": {"answer": answer(400, LIE)},
}


@pytest.mark.parametrize("how", HINDRANCES)
def test_by_a_broken_line_nothing_ends_and_afterwards_what_died_meanwhile(world: World, how: str) -> None:
    mortal, other = world.holder(), world.holder()

    def begin() -> None:
        for name, value in HINDRANCES[how].items():
            setattr(world.proxy, name, value)
        world.proxy.drop_connections()

    with world.hindered(begin, world.proxy.behave):
        world.server.request("POST", "auth/token/revoke", {"token": mortal.token})
    world.stays_at_the_relay(other)
    world.ends(mortal)
    world.is_looked_up_again(other)
    assert world.stays(other)


def test_without_the_right_to_look_tokens_up_nothing_ends_and_the_log_names_the_line(world: World) -> None:
    mortal, other = world.holder(), world.holder()
    path = f"sys/policies/acl/{SIDECAR_POLICY}"
    policy = world.server.request("GET", path)["data"]["policy"]
    block = re.search(r'^path "auth/token/lookup-accessor" {.*?^}$', policy, re.DOTALL | re.MULTILINE)
    assert block is not None
    less = policy.replace(block.group(), "")

    with world.hindered(
        lambda: world.server.request("PUT", path, {"policy": less}),
        lambda: world.server.request("PUT", path, {"policy": policy}),
    ):
        world.server.request("POST", "auth/token/revoke", {"token": mortal.token})
        world.says("give it policies/sidecar.hcl")
        assert r"path \"auth/token/lookup-accessor\" { capabilities = [\"update\"] }" in world.stack.log
        assert world.stays(mortal)
    world.ends(mortal)
    assert world.stays(other)


def test_what_a_restored_upstream_has_forgotten_runs_until_its_end_and_what_it_knows_ends_with_its_token(
    world: World,
) -> None:
    known = world.holder()
    world.is_looked_up_again(known)
    with world.server.client() as client:
        client.headers["X-Vault-Token"] = world.server.root_token
        backup = client.get("/v1/sys/storage/raft/snapshot").raise_for_status().content
        forgotten = world.holder()
        later = world.witness()
        eventually(lambda: world.witness() > later, what="a higher number")
        client.post("/v1/sys/storage/raft/snapshot-force", content=backup).raise_for_status()
    world.server.unseal()

    world.says("upstream_restored")
    world.says("restored from a backup that is older than these tokens")
    world.is_looked_up_again(forgotten)
    assert world.stays(forgotten)
    assert world.stays(known)
    young = world.holder()
    for holder in (known, young):
        world.server.request("POST", "auth/token/revoke", {"token": holder.token})
        world.ends(holder)
    assert world.stays(forgotten)
