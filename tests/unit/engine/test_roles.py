"""A role says what a key may do; one that its relay cannot keep to is refused when it is written."""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest
from tests.unit.engine.world import World

from aikeys.engine.backend import build_backend
from aikeys.framework.patch import ResourceMissing
from aikeys.framework.request import Operation, Request
from aikeys.framework.response import InvalidRequest, UnsupportedPath
from aikeys.relays.interface import Budget, Scopes
from aikeys.storage.records import IssueLimits

FULL = {
    "ttl": 60,
    "max_ttl": 180,
    "permissions": ["chat", "embeddings"],
    "allowed_models": ["gpt-4.1", "claude-*"],
    "rate_limit": 60,
    "max_tpm": 100000,
    "budget": {"limit": "5.00", "currency": "EUR", "period": "day"},
    "team_id": "team-1",
    "metadata": {"owner": "search", "cost-centre": "42"},
    "verify_revocation": True,
    "max_leases": 5,
    "issue_limit": 10,
    "issue_period": 3600,
}


@pytest.fixture
def world(ready: World) -> World:
    ready.delete("roles/demo")
    ready.books.calls.clear()
    return ready


def test_a_role_reads_back_exactly_as_it_was_written(world: World) -> None:
    assert world.write("roles/full", **FULL) is None
    assert world.read("roles/full") == FULL

    world.write("roles/small", ttl=60)
    assert world.read("roles/small") == {"ttl": 60}, "nothing is added: Terraform would see a change in it"


def test_what_is_read_can_be_written_back(world: World) -> None:
    world.write("roles/full", **FULL)
    shown = world.read("roles/full")
    assert shown is not None

    world.write("roles/copy", **shown)

    assert world.read("roles/copy") == shown


def test_other_spellings_read_back_in_vaults_form(world: World) -> None:
    world.write(
        "roles/r",
        ttl="1h",
        max_ttl="1d",
        permissions="chat, embeddings",
        rate_limit="60",
        metadata=["owner=search"],
        budget=5,
        verify_revocation="true",
        max_leases="5",
        issue_period="1h",
    )

    assert world.read("roles/r") == {
        "ttl": 3600,
        "max_ttl": 86400,
        "permissions": ["chat", "embeddings"],
        "rate_limit": 60,
        "metadata": {"owner": "search"},
        "budget": "5",
        "verify_revocation": True,
        "max_leases": 5,
        "issue_period": 3600,
    }


def test_the_engine_sees_the_role_in_its_own_types(world: World) -> None:
    world.write("roles/full", **FULL)

    role = world.services.connections.role(world.mount.uuid, "full")

    assert role is not None
    assert (role.ttl, role.max_ttl, role.verify_revocation) == (60, 180, True)
    assert role.limits == IssueLimits(leases=5, issues=10, period=3600)
    assert role.scopes == Scopes(
        permissions=("chat", "embeddings"),
        allowed_models=("gpt-4.1", "claude-*"),
        rate_limit=60,
        max_tpm=100000,
        budget=Budget(Decimal("5.00"), "EUR", "day"),
        team_id="team-1",
    )


def test_a_zero_or_empty_value_means_no_limit(world: World) -> None:
    world.write(
        "roles/open", ttl=0, max_ttl="", rate_limit=0, max_tpm=0, budget="", permissions="", metadata={},
        max_leases=0, issue_limit="", issue_period=0,
    )  # fmt: skip

    role = world.services.connections.role(world.mount.uuid, "open")
    assert role is not None
    assert role.scopes == Scopes()
    assert (role.ttl, role.max_ttl) == (0, 0)
    assert role.limits is None


def test_a_rate_without_a_period_is_one_a_minute(world: World) -> None:
    for period in ({}, {"issue_period": 0}, {"issue_period": None}):
        world.write("roles/r", issue_limit=10, **period)
        role = world.services.connections.role(world.mount.uuid, "r")
        assert role is not None
        assert role.limits == IssueLimits(issues=10, period=60)


def test_a_write_keeps_what_it_does_not_give(world: World) -> None:
    world.write("roles/r", ttl=60, allowed_models="gpt-4.1")

    world.write("roles/r", max_ttl=120)

    assert world.read("roles/r") == {"ttl": 60, "allowed_models": ["gpt-4.1"], "max_ttl": 120}


def test_roles_are_listed_sorted_and_an_empty_list_is_none(world: World) -> None:
    assert world.do(Operation.LIST, "roles/") is None
    for name in ("b", "a.b-c", "Z"):
        world.write(f"roles/{name}", ttl=60)

    answer = world.do(Operation.LIST, "roles/")

    assert answer is not None
    assert answer.data == {"keys": ["Z", "a.b-c", "b"]}


def test_a_role_is_gone_when_deleted_and_deleting_it_again_is_no_error(world: World) -> None:
    world.write("roles/r", ttl=60)
    assert world.services.connections.role(world.mount.uuid, "r") is not None

    assert world.delete("roles/r") is None
    assert world.delete("roles/r") is None

    assert world.read("roles/r") is None
    assert world.services.connections.role(world.mount.uuid, "r") is None


def test_the_existence_check_knows_the_role(world: World) -> None:
    request = Request(Operation.UPDATE, "roles/r", world.mount)
    assert world.backend.exists(request) is False
    world.write("roles/r", ttl=60)
    assert world.backend.exists(request) is True


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"ttl": "2h", "max_ttl": "1h"}, "ttl of 2h must not be greater than max_ttl of 1h"),
        ({"ttl": -1}, "error converting input for field \"ttl\": cannot provide negative value '-1'"),
        ({"ttl": "abc"}, 'error converting input for field "ttl": time: invalid duration "abc"'),
        ({"rate_limit": -5}, "rate_limit must not be negative"),
        ({"max_tpm": -5}, "max_tpm must not be negative"),
        ({"rate_limit": "many"}, 'error converting input for field "rate_limit"'),
        ({"allowed_models": "a,,b"}, "allowed_models holds an empty name"),
        ({"permissions": [""]}, "permissions holds an empty name"),
        ({"permissions": "chat,fly"}, 'relay "holysheep" cannot honour this role: permission fly is unknown'),
        (
            {"budget": "-5"},
            'error converting input for field "budget": the amount must be a positive decimal',
        ),
        ({"budget": {"limit": "5", "period": "week"}}, "period must be one of total, day, month"),
        ({"metadata": {f"k{n}": "v" for n in range(11)}}, "metadata may hold at most 10 pairs, not 11"),
        ({"metadata": {"k" * 65: "v"}}, "metadata keys have 1 to 64 characters"),
        ({"metadata": {"": "v"}}, "metadata keys have 1 to 64 characters"),
        ({"metadata": {"k": "v" * 257}}, "values at most 256"),
        (
            {"metadata": {"aikeys_role": "other"}},
            "metadata keys that begin with aikeys_ are the engine's own",
        ),
        ({"metadata": "nonsense"}, "invalid key pair"),
        ({"max_leases": -1}, "max_leases must be from 1 to 100000, or 0 for no limit"),
        ({"max_leases": 100_001}, "max_leases must be from 1 to 100000, or 0 for no limit"),
        ({"max_leases": "five"}, 'error converting input for field "max_leases"'),
        ({"issue_limit": -1}, "issue_limit must be from 1 to 10000, or 0 for no limit"),
        ({"issue_limit": 10_001}, "issue_limit must be from 1 to 10000, or 0 for no limit"),
        ({"issue_limit": "10/m"}, 'error converting input for field "issue_limit"'),
        ({"issue_limit": 5, "issue_period": "721h"}, "issue_period must be at most 720h"),
        (
            {"issue_period": -60},
            'error converting input for field "issue_period": cannot provide negative value',
        ),
    ],
)
def test_a_role_that_cannot_be_is_refused_and_not_stored(
    data: dict[str, Any], text: str, world: World
) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(text)):
        world.write("roles/bad", **data)
    assert world.read("roles/bad") is None


def test_a_refused_update_leaves_the_role_as_it_was(world: World) -> None:
    world.write("roles/r", ttl=60, max_ttl=120)

    with pytest.raises(InvalidRequest, match="ttl of 1h must not be greater"):
        world.write("roles/r", ttl="1h")

    assert world.read("roles/r") == {"ttl": 60, "max_ttl": 120}


@pytest.mark.parametrize("name", ["a..b", "-a", "a-", "a b", "a/b", "", ".."])
def test_a_name_of_another_form_is_an_unsupported_path(name: str, world: World) -> None:
    with pytest.raises((UnsupportedPath, InvalidRequest)) as refused:
        world.write(f"roles/{name}", ttl=60)
    assert str(refused.value) in ("unsupported path", "cannot write to a path ending in '/'")


def test_a_name_longer_than_the_relay_can_hold_is_refused(world: World) -> None:
    world.write("roles/" + "x" * 128, ttl=60)

    with pytest.raises(InvalidRequest, match="at most 128 characters, not 129"):
        world.write("roles/" + "x" * 129, ttl=60)


def test_the_name_of_a_shadow_sentinel_is_refused(world: World) -> None:
    with pytest.raises(InvalidRequest, match="reserved"):
        world.write("roles/aikeys-0123456789abcdef", ttl=60)
    world.write("roles/aikeys-0123456789abcde", ttl=60)


def test_without_a_config_no_role_can_be_written(world: World) -> None:
    world.delete("config")

    with pytest.raises(InvalidRequest, match="this mount has no relay yet: write ai-keys/config first"):
        world.write("roles/r", ttl=60)


# -- what the relay can keep to ------------------------------------------------------------------------------------


def test_the_relay_is_asked_about_the_lifetimes_that_would_apply(world: World) -> None:
    world.mount = replace(world.mount, default_lease_ttl=3600, max_lease_ttl=7200)
    for data in ({}, {"ttl": 60}, {"max_ttl": 1800}, {"ttl": 600, "max_ttl": 86400}):
        world.write("roles/r", **{"ttl": 0, "max_ttl": 0, **data})

    asked = [what for call, what in world.books.calls if call == "validate_role"]
    assert asked == ["3600/7200", "60/7200", "1800/1800", "600/7200"]


def test_keys_that_would_outlive_the_relays_own_expiry_are_refused(world: World) -> None:
    world.mount = replace(world.mount, max_lease_ttl=2 * 31_536_000)

    with pytest.raises(InvalidRequest, match=r"ends every key after 8760h at most, but .* could live 17520h"):
        world.write("roles/r", ttl=60)
    assert world.write("roles/r", ttl=60, max_ttl="8760h") is None


def test_keys_shorter_than_the_relays_least_life_are_warned_of(world: World) -> None:
    answer = world.write("roles/short", ttl=8, max_ttl=20)

    assert answer is not None
    assert answer.data is None
    (warning,) = answer.warnings
    assert 'relay "holysheep" cannot end a key by itself before 1m' in warning
    assert world.read("roles/short") == {"ttl": 8, "max_ttl": 20}


# -- patch ---------------------------------------------------------------------------------------------------------


def test_a_patch_changes_what_it_names_and_a_null_unsets(world: World) -> None:
    world.write("roles/r", **FULL)

    assert (
        world.patch("roles/r", ttl="2m", budget=None, max_tpm=None, metadata={"owner": None, "x": "y"})
        is None
    )

    expected = {**FULL, "ttl": 120, "metadata": {"cost-centre": "42", "x": "y"}}
    del expected["budget"], expected["max_tpm"]
    assert world.read("roles/r") == expected


def test_a_patch_goes_into_a_budget(world: World) -> None:
    world.write("roles/r", budget={"limit": "5", "period": "day"})

    world.patch("roles/r", budget={"limit": "7", "currency": "EUR"})
    assert world.read("roles/r") == {"budget": {"limit": "7", "period": "day", "currency": "EUR"}}

    world.patch("roles/r", budget="9")
    assert world.read("roles/r") == {"budget": "9"}


def test_a_patch_that_leaves_no_valid_role_changes_nothing(world: World) -> None:
    world.write("roles/r", ttl=60, budget={"limit": "5"})

    for data, text in (
        ({"budget": {"limit": None}}, "limit is missing"),
        ({"max_ttl": 30}, "ttl of 1m must not be greater than max_ttl of 30s"),
        ({"permissions": "fly"}, "permission fly is unknown"),
    ):
        with pytest.raises(InvalidRequest, match=re.escape(text)):
            world.patch("roles/r", **data)

    assert world.read("roles/r") == {"ttl": 60, "budget": {"limit": "5"}}


def test_a_patch_cannot_rename(world: World) -> None:
    world.write("roles/r", ttl=60)

    world.patch("roles/r", name="other", ttl=70)

    assert world.read("roles/r") == {"ttl": 70}
    assert world.read("roles/other") is None


def test_a_patch_of_no_role_is_refused(world: World) -> None:
    with pytest.raises(ResourceMissing):
        world.patch("roles/r", ttl=60)
    assert world.read("roles/r") is None


def test_two_patches_at_once_both_count(world: World) -> None:
    """Reading, merging and storing are one step."""
    world.write("roles/r", ttl=60)
    read = world.store.entries(world.mount.uuid).get

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(world.store.entries(world.mount.uuid), name)

        def get(self, key: str) -> dict[str, Any] | None:
            found = read(key)
            time.sleep(0.1)
            return found

    services = replace(world.services, entries=lambda _uuid: Slow())
    backend = build_backend(services)

    def patch(data: dict[str, Any]) -> None:
        backend.handle(Request(Operation.PATCH, "roles/r", world.mount, data=data))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(patch, [{"max_ttl": 120}, {"rate_limit": 5}]))

    assert world.read("roles/r") == {"ttl": 60, "max_ttl": 120, "rate_limit": 5}
