"""The table is whole: every call that a driver makes, every fault that the simulator knows, every answer."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from tests.faults.relay_table import CALLS, FAULTS, ONE_OF_EACH_KIND, TABLE, Family, as_markdown

from aikeys.relay_simulator.faults import KINDS, MOMENTS
from aikeys.relays import registry
from aikeys.relays.client import RelayClient

# What a parameter can be, where that is a choice and not a number or a text.
CHOICES = {"when": MOMENTS, "framing": ("short", "full"), "answer": ("first", "second")}


def calls_of(driver: type) -> dict[str, str]:
    """The verb of each call that a driver's module makes, by the function that makes it."""
    module = inspect.getmodule(driver)
    assert module is not None
    found = {}
    for function in ast.walk(ast.parse(inspect.getsource(module))):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == RelayClient.ask.__name__
            ):
                verb = node.args[1]
                assert isinstance(verb, ast.Constant)
                found[function.name] = str(verb.value)
    return found


def test_every_call_of_every_driver_has_its_row() -> None:
    for relay in registry.relay_names():
        driver = registry._RELAYS[relay].make
        assert isinstance(driver, type)
        assert calls_of(driver) == {name: asked.method for name, asked in CALLS.items()}, relay


def test_every_fault_of_the_simulator_has_its_row() -> None:
    assert set(ONE_OF_EACH_KIND) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_every_choice_of_a_fault_has_its_row(kind: str) -> None:
    for name, default in KINDS[kind].defaults.items():
        choices = (False, True) if isinstance(default, bool) else CHOICES.get(name, ())
        given = {fault.parameters.get(name, default) for fault in FAULTS.values() if fault.kind == kind}
        assert set(choices) <= given, f"{kind} {name}"


def test_every_family_says_what_a_client_is_told() -> None:
    of_a_client = {name for name, asked in CALLS.items() if not asked.by.startswith("nobody")}
    assert set(TABLE) == set(Family) == {fault.family for fault in FAULTS.values()}
    for answers in TABLE.values():
        assert set(answers) == of_a_client - {"_confirm_absent"}
        assert all(once and lasting for once, lasting in answers.values())


def test_the_guide_shows_this_table() -> None:
    guide = Path(__file__).parents[2] / "docs" / "platform-engineer.md"
    assert as_markdown() in guide.read_text(), f"docs/platform-engineer.md must hold:\n{as_markdown()}"
