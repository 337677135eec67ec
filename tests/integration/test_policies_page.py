"""Every block of docs/policies.md does what the page says: it is taken from there and run."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.realparts.openbao import OpenBaoProcess

from aikeys.policy.approles import parse_approle
from aikeys.policy.folder import Folder, default_folder, read_folder
from aikeys.policy.lint import lint
from aikeys.policy.parse import parse_policy

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/policies.md").read_text()
BIN = str(Path(sys.executable).parent)


def blocks(language: str) -> list[str]:
    return [
        text
        for found, text in re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        if found == language
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBaoProcess]:
    with OpenBaoProcess(tmp_path_factory.mktemp("page")) as running:
        yield running


def run(server: OpenBaoProcess, script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-ec", script],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": BIN + os.pathsep + os.environ["PATH"],
            "VAULT_ADDR": server.address,
            "VAULT_TOKEN": server.root_token,
        },
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


def test_every_block_has_a_test() -> None:
    assert set(re.findall(r"^```(\w+)$", PAGE, re.MULTILINE)) == {"hcl", "console", "sh"}
    assert [len(blocks(language)) for language in ("hcl", "console", "sh")] == [2, 3, 1]


def test_every_shipped_policy_and_every_finding_is_on_the_page() -> None:
    assert {policy.name for policy in read_folder(default_folder()).policies} == set(
        re.findall(r"^\| `([a-z-]+)` \| (?!what)[^|]+ \|[^|]+\|[^|]+\|$", PAGE, re.MULTILINE)
    )
    source = (ROOT / "engine/aikeys/policy/lint.py").read_text()
    codes = set(re.findall(r'_(?:at|on)\([^"]*?(?:"[a-z_]+", )?"([a-z0-9]+(?:-[a-z0-9]+)*)"', source)) - {
        "token_policies"
    }
    table = "\n".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    assert len(codes) > 8
    for code in codes:
        assert f"`{code}`" in table, code


def test_the_policy_and_the_approle_of_the_page_are_right() -> None:
    approle, allowed = blocks("hcl")
    role = parse_approle(approle, file="search-indexer.hcl")
    folder = read_folder(default_folder())
    assert lint(Folder(folder.policies, (*folder.approles, role))) == []
    policy = parse_policy(allowed, name="pipeline", file="pipeline.hcl")
    assert lint(Folder((policy,), ())) == []
    assert "escalation" in {
        finding.code
        for finding in lint(Folder((parse_policy(allowed.split("\n", 1)[1], name="p", file="p"),), ()))
    }


def test_the_sessions_show_what_the_page_shows(server: OpenBaoProcess) -> None:
    """`…` stands for what differs, within a line or for whole lines. One after the other: they build on each other."""
    for block in blocks("console"):
        for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            shown = run(server, command)
            assert shown.returncode == 0, shown.stdout + shown.stderr
            lines = [re.escape(line).replace("…", ".*") for line in expected.strip().splitlines()]
            pattern = "\n".join("(?:.*\n?)*?" if line == ".*" else line + " *" for line in lines)
            pattern = pattern.replace("(?:.*\n?)*?\n", "(?:.*\n)*?")
            assert re.fullmatch(pattern, shown.stdout.strip()), f"$ {command}\n{shown.stdout}"


def test_a_secret_id_comes_wrapped_as_the_page_says(server: OpenBaoProcess) -> None:
    (command,) = blocks("sh")
    assert run(server, "aikeys provision --apply").returncode == 0
    done = server.cli(*command.split()[1:])
    assert "wrapping_token" in done.stdout
    assert "secret_id " not in done.stdout
