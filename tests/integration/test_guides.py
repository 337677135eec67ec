"""The guides in docs/ do what they say: every block is pasted into one shell, in order."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from tests.documents import ENVIRONMENT, ROOT, blocks, run_guide, shows
from tests.realparts.terraform import cli_config, find_terraform

GUIDES = [ROOT / "docs" / f"{who}.md" for who in ("platform-engineer", "app-developer", "security-engineer")]


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_reader_who_pastes_every_block_of_a_guide_succeeds(page: Path, tmp_path: Path) -> None:
    asks_for_terraform = any(
        re.search(r"^(\$ )?terraform ", block.text, re.MULTILINE) for block in blocks(page)
    )
    assert run_guide(page, terraform(tmp_path) if asks_for_terraform else {}) == []


def terraform(folder: Path) -> dict[str, str]:
    """An environment in which `terraform` is the one of this machine (or tofu), with the provider at hand."""
    program = folder / "terraform"
    program.symlink_to(find_terraform())
    return {"PATH": f"{folder}{os.pathsep}{ENVIRONMENT['PATH']}", "TF_CLI_CONFIG_FILE": str(cli_config())}


@pytest.mark.parametrize("page", [*GUIDES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_every_link_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text())
    assert links
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


def test_a_guide_that_is_wrong_is_found_out(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```sh\naikeys dev -- bash\n```\n```console\n$ echo one\ntwo\n$ false\n```\n"
        "```sh\nfalse\n```\n```console\n$ echo Error; false\nError\n```\n"
    )
    problems = run_guide(page)
    assert [problem.splitlines()[0] for problem in problems] == ["$ echo one", "$ false", "$ false"]
    page.write_text("```sh\naikeys dev -- bash\n```\n```hcl\nx = 1\n```\n")
    assert run_guide(page) == ["line 4: nobody runs a block of 'hcl'"]
    assert shows("a … c\n…\n", "a b c\nd\ne")
    assert not shows("a\n", "a\nb")
