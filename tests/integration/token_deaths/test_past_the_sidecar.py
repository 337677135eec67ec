"""A token that dies where the sidecar does not see it takes its leases along all the same, and no other's."""

from __future__ import annotations

import re
import time

import pytest
from tests.integration.token_deaths.world import PARENT, World, answer, user_of_a_method
from tests.sidecar_stack import eventually

from aikeys.dev.provision import SIDECAR_POLICY


def test_however_a_token_dies_its_leases_end_and_no_others(world: World) -> None:
    request = world.server.request
    revoked, by_accessor, without_children = world.holder(), world.holder(), world.holder(PARENT)
    used_up, parent = world.holder(num_uses=2), world.holder(PARENT)
    child = world.child(parent)
    mortal = {
        "revoked": revoked,
        "another lease of it": world.reads_key(revoked.token, revoked.accessor),
        "revoked by its accessor": by_accessor,
        "revoked without its children": without_children,
        "by its last use": used_up,
        "parent": parent,
        "child": child,
        "child's child": world.child(child),
    }
    method, mortal["by its auth method"] = user_of_a_method(world)
    users, mortal["by its lease"] = user_of_a_method(world)
    _, disabled = user_of_a_method(world)
    surviving = {
        "stranger": world.holder(),
        "orphaned child": world.child(without_children),
        "of a disabled entity": disabled,
    }
    # The first look comes soon after the issue in any case: it is not by that.
    world.are_looked_up_again(*mortal.values(), *surviving.values())
    mortal["at its end"] = world.holder(ttl="2s")

    request("POST", "auth/token/revoke", {"token": revoked.token})
    request("POST", "auth/token/revoke-accessor", {"accessor": by_accessor.accessor})
    request("POST", "auth/token/revoke-orphan", {"token": without_children.token})
    request("GET", "auth/token/lookup-self", token=used_up.token)
    request("POST", "auth/token/revoke-self", token=parent.token)
    request("DELETE", f"sys/auth/{method}")
    request("PUT", f"sys/leases/revoke-prefix/auth/{users}", {"sync": False})
    entity = request("POST", "auth/token/lookup-accessor", {"accessor": disabled.accessor})["data"][
        "entity_id"
    ]
    request("POST", f"identity/entity/id/{entity}", {"disabled": True})

    for name, holder in mortal.items():
        world.ends(holder, name)
    world.are_looked_up_again(*surviving.values())
    for name, holder in surviving.items():
        assert world.stays(holder), name


def test_a_renewed_token_keeps_its_leases_past_its_first_end_until_its_last(world: World) -> None:
    first_end, last_end = 2, 5
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


# -- nothing ends by a word that is not the upstream's own --------------------------------------------------------------


def test_while_the_upstream_is_sealed_nothing_ends_and_afterwards_what_died_meanwhile(world: World) -> None:
    mortal, other = world.holder(ttl="4s"), world.holder()
    with world.hindered(world.server.seal, world.server.unseal):
        time.sleep(4)
        world.stays_at_the_relay(mortal, other)
    world.ends(mortal)
    world.are_looked_up_again(other)
    assert world.stays(other)


LIE = b'{"errors":["1 error occurred:\\n\\t* invalid accessor\\n\\n"]}\n'
HINDRANCES: dict[str, dict[str, object]] = {
    "no-connection": {"refuse": True},
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
    world.are_looked_up_again(other)
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
    world.are_looked_up_again(known)
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
    world.are_looked_up_again(forgotten)
    assert world.stays(forgotten)
    assert world.stays(known)
    young = world.holder()
    for holder in (known, young):
        world.server.request("POST", "auth/token/revoke", {"token": holder.token})
        world.ends(holder)
    assert world.stays(forgotten)
