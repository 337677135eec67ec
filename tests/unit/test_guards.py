"""The list of guards is true: each is there once, can be turned off, and names tests that exist."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.guards.catalogue import ROOT, Guard, guards

GUARDS = guards()


def test_no_two_guards_share_a_name() -> None:
    assert len({guard.name for guard in GUARDS}) == len(GUARDS)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_a_guard_can_be_turned_off_where_the_list_says(guard: Guard) -> None:
    source = (ROOT / guard.file).read_text()
    changed = guard.turned_off(source)
    assert changed != source
    if guard.file.endswith(".py"):
        ast.parse(changed)


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_the_tests_of_a_guard_exist(guard: Guard) -> None:
    assert guard.tests
    for test in guard.tests:
        file, _, name = test.partition("::")
        functions = {
            node.name
            for node in ast.walk(ast.parse((ROOT / file).read_text()))
            if isinstance(node, ast.FunctionDef)
        }
        assert not name or name.rpartition("::")[2].partition("[")[0] in functions, test
    assert guard.promise.endswith(".")
    assert Path(guard.file).parts[0] in {"engine", "policies", "terraform"}
