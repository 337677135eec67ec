"""The .tftest.hcl files of the modules, which plan without a server. That of an example applies: see test_examples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.realparts.terraform import ROOT, Terraform

MODULES = sorted(folder.name for folder in (ROOT / "terraform/modules").iterdir() if folder.is_dir())


@pytest.mark.parametrize("module", MODULES)
def test_a_module_plans_and_refuses_as_its_tests_say(module: str, tmp_path: Path, terraform: None) -> None:
    copy = Terraform(f"modules/{module}", tmp_path)
    copy.init()

    said = copy.run("test")

    written = sum(
        len(re.findall(r"^run ", file.read_text(), re.MULTILINE))
        for file in (copy.root / "tests").glob("*.hcl")
    )
    assert written > 0
    assert f"Success! {written} passed, 0 failed." in said
