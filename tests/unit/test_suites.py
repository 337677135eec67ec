"""No folder of tests is left out: each belongs to `make test` or to `make long`, and continuous integration runs both."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_folder_with_tests_is_run() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    recipe = re.search(r"^long: .*\n\t.*$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe
    run = {*options["testpaths"], *re.findall(r"tests/\w+", recipe[0])}
    there = {
        f"tests/{path.relative_to(ROOT / 'tests').parts[0]}" for path in (ROOT / "tests").rglob("test_*.py")
    }
    assert run == there
    for target in ("test", "long"):
        assert f"\nmake {target} ||" in (ROOT / ".ci/run").read_text()
