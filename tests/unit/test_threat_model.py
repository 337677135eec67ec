"""Every test that the threat model calls as a witness exists, and every attacker that it names has one."""

from __future__ import annotations

import re

import pytest
from tests.documents import ROOT

PAGE = ROOT / "docs" / "security.md"
ATTACKERS = (
    "A stolen app token",
    "A stolen key",
    "A hostile relay answer",
    "A reader of the disk",
    "A writer at the shadow mount",
    "Somebody in the middle, or a client that speaks in two tongues",
    "An operator with too much",
)


def defined_tests() -> set[str]:
    return {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^ *def (test_\w+)\(", path.read_text(), re.MULTILINE)
    }


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", PAGE.read_text()))
    assert len(named) > 50
    assert sorted(named - defined_tests()) == []


@pytest.mark.parametrize("attacker", ATTACKERS)
def test_each_attack_has_a_witness_and_each_attacker_something_left(attacker: str) -> None:
    (part,) = re.findall(
        rf"^## {re.escape(attacker)}$(.*?)(?=^## |\Z)", PAGE.read_text(), re.MULTILINE | re.DOTALL
    )
    rows = [line for line in part.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 5
    assert [row for row in rows if "`test_" not in row] == []
    assert "**Left.**" in part, "nothing is without risk"
