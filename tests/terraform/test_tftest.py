"""The .tftest.hcl files: those of the modules plan without a server, that of the example applies at the sidecar."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.realparts.terraform import ROOT, Terraform
from tests.sidecar_stack import SidecarStack
from tests.terraform.conftest import Use

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


def test_the_minimal_example_applies_as_its_tests_say(use: Use, stack: SidecarStack) -> None:
    terraform = use("minimal")

    said = terraform.run("test")

    assert "Success! 4 passed, 0 failed." in said
    assert stack.request("GET", "sys/mounts/ai-keys").status_code == 400, "and leaves nothing behind"
