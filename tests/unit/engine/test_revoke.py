"""`revoke` ends all leases of whoever is named, and of nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.engine.world import CALLER, World, refused

from aikeys.framework.request import Caller
from aikeys.framework.response import InvalidRequest
from aikeys.relays.interface import Kind

APP = Caller(
    accessor="accessor-app",
    entity_id="entity-app",
    token_path="auth/approle/login",
    metadata={"role_name": "billing"},
)
POD = Caller(
    accessor="accessor-pod",
    entity_id="entity-pod",
    token_path="auth/kubernetes/login",
    metadata={"role": "billing", "service_account_name": "x"},
)
ROOT = Caller(accessor="", entity_id="", token_path="auth/token/root")


def hand_out(world: World, role: str, caller: Caller) -> str:
    return world.register(world.issue(role, caller=caller), caller).lease_id


@pytest.fixture
def leases(ready: World) -> dict[str, str]:
    """One lease of each caller, and one of another role."""
    ready.write("roles/other", ttl="1m")
    return {
        "app": hand_out(ready, "demo", APP),
        "app-other": hand_out(ready, "other", APP),
        "pod": hand_out(ready, "demo", POD),
        "root": hand_out(ready, "demo", ROOT),
    }


def ask(world: World, **data: Any) -> tuple[dict[str, Any], list[str]]:
    answer = world.write("revoke", **data)
    assert answer is not None
    assert answer.data is not None
    return answer.data, answer.warnings


def left(world: World, leases: dict[str, str]) -> set[str]:
    return {name for name, lease_id in leases.items() if world.store.lease(lease_id) is not None}


@pytest.mark.parametrize(
    ("selector", "ended"),
    [
        ({"role": "demo"}, {"app", "pod", "root"}),
        ({"entity_id": "entity-app"}, {"app", "app-other"}),
        ({"token_accessor": "accessor-pod"}, {"pod"}),
        ({"approle": "billing"}, {"app", "app-other"}),
        ({"approle": "billing", "auth_mount": "approle/"}, {"app", "app-other"}),
        ({"approle": "billing", "auth_mount": "auth/kubernetes"}, {"pod"}),
        ({"approle": "Billing"}, set()),
        ({"role": "dem"}, set()),
    ],
)
def test_those_that_are_meant_end_and_no_others(
    selector: dict[str, str], ended: set[str], ready: World, leases: dict[str, str]
) -> None:
    planned, warnings = ask(ready, **selector)
    assert planned == {"count": len(ended), "leases": sorted(leases[name] for name in ended)}
    assert len(warnings) == 1
    assert left(ready, leases) == set(leases), "a plan ends nothing"

    done, _ = ask(ready, **selector, apply=True)

    assert (done["count"], done["revoked"], done["failed"], done["pending"]) == (len(ended), len(ended), 0, 0)
    assert left(ready, leases) == set(leases) - ended
    assert ready.books.count("revoke") == len(ended)


def test_failures_are_counted_and_told_and_go_on(ready: World, leases: dict[str, str]) -> None:
    ready.books.faults["revoke"] = refused(Kind.AUTH, "the key was rejected")

    done, warnings = ask(ready, role="demo", apply=True)

    assert (done["revoked"], done["failed"] + done["pending"]) == (0, 3)
    assert all("the key was rejected" in text for text in done["errors"].values())
    assert warnings == ["3 leases are not revoked yet; they are tried again in the background, without end"]
    ready.books.faults.clear()
    assert ask(ready, role="demo", apply=True)[0]["revoked"] == 3


def test_leases_that_are_issued_meanwhile_are_told(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_out(ready, "demo", APP)
    real = ready.bulk.end

    def end(*arguments: Any) -> Any:
        hand_out(ready, "demo", APP)
        return real(*arguments)

    monkeypatch.setattr(ready.bulk, "end", end)
    done, warnings = ask(ready, role="demo", apply=True)
    assert (done["count"], done["revoked"], done["active"]) == (1, 1, 1)
    assert "1 leases were issued meanwhile" in warnings[0]


def test_other_mounts_keep_theirs(ready: World, leases: dict[str, str]) -> None:
    from dataclasses import replace

    mount = ready.mount
    ready.mount = replace(mount, uuid="another-mount")
    assert ask(ready, role="demo", apply=True)[0]["count"] == 0
    ready.mount = mount
    assert left(ready, leases) == set(leases)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({}, "give exactly one of role, entity_id, token_accessor, approle"),
        ({"apply": True}, "give exactly one of"),
        ({"entity_id": ""}, "give exactly one of"),
        ({"token_accessor": None, "apply": True}, "give exactly one of"),
        ({"role": "demo", "entity_id": "e"}, "give exactly one of"),
        ({"role": "demo", "auth_mount": "approle"}, "auth_mount goes with approle, not with role"),
        ({"approle": "x", "auth_mount": "/"}, "auth_mount must be the path of a login method"),
        ({"role": "demo", "apply": "maybe"}, 'error converting input for field "apply"'),
        ({"role": {"a": 1}}, 'error converting input for field "role"'),
    ],
)
def test_what_names_nobody_is_refused_and_ends_nothing(
    data: dict[str, Any], text: str, ready: World, leases: dict[str, str]
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ready.write("revoke", **{"apply": True, **data})
    assert text in caught.value.message
    assert left(ready, leases) == set(leases)


def test_the_callers_of_the_other_tests_are_told_apart() -> None:
    assert (APP.login_role, POD.login_role, ROOT.login_role, CALLER.login_role) == (
        "billing",
        "billing",
        "",
        "",
    )
