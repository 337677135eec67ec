"""Each row of the track record names a test that exists and is selected by its words."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"\| `(tests/\S+?)(?: -k (\w+))?` \|", (ROOT / "docs" / "defects.md").read_text())


def test_the_record_has_rows() -> None:
    assert ROWS


@pytest.mark.parametrize(("file", "words"), ROWS, ids=str)
def test_the_test_of_a_defect_is_there(file: str, words: str) -> None:
    names = [
        node.name
        for node in ast.walk(ast.parse((ROOT / file).read_text()))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    assert any(words in name for name in names), names
