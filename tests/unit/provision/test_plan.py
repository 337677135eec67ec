"""A plan that would take more than it should is not applied."""

from __future__ import annotations

import pytest

from aikeys.policy.diff import MARK, Action, Change, Live
from aikeys.policy.folder import Folder
from aikeys.policy.parse import Server, parse_policy
from aikeys.provision.plan import Plan, UnsafePlanError, make_plan

TEXT = 'path "a" { capabilities = ["read"] }\n'


def test_a_plan_counts_what_it_would_do() -> None:
    folder = Folder((parse_policy(TEXT, name="a", file="a"), parse_policy(TEXT, name="b", file="b")), ())
    plan = make_plan(folder, Live(Server.VAULT, {"a": MARK + TEXT, "old": MARK + TEXT}, {}), prune=True)
    assert str(plan) == "1 to create, 1 to delete, 1 unchanged"
    assert [change.name for change in plan.pending] == ["b", "old"]
    assert plan.owned == 2


def test_a_conflict_is_never_applied_not_even_forced() -> None:
    plan = Plan((Change("policy", "a", Action.CONFLICT),), owned=5)
    with pytest.raises(UnsafePlanError, match="policy a; rename yours, or take them over with --adopt"):
        plan.raise_if_unsafe(force=True)


@pytest.mark.parametrize(
    ("deleted", "owned", "unsafe"), [(0, 0, False), (1, 2, False), (2, 3, True), (1, 1, True)]
)
def test_more_than_half_is_deleted_only_by_force(deleted: int, owned: int, unsafe: bool) -> None:
    plan = Plan(tuple(Change("policy", str(n), Action.DELETE) for n in range(deleted)), owned)
    plan.raise_if_unsafe(force=True)
    if unsafe:
        with pytest.raises(UnsafePlanError, match=f"would delete {deleted} of {owned}"):
            plan.raise_if_unsafe(force=False)
    else:
        plan.raise_if_unsafe(force=False)
