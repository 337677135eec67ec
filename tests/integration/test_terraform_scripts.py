"""The scripts around Terraform: the provider is made once and whole, and what cannot be checked is said.

Short programs stand for terraform and the Go tool chain: what is tested is the scripts' own care.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = [
    "basename",
    "bash",
    "cat",
    "command",
    "cp",
    "dirname",
    "env",
    "find",
    "flock",
    "grep",
    "mkdir",
    "mktemp",
    "mv",
    "rm",
    "sed",
    "sha256sum",
    "sleep",
    "tr",
    "uname",
]
BINARY = "mirror/registry.example/hashicorp/vault/5.9.0/{machine}/terraform-provider-vault_v5.9.0_x5"
GO = """#!/usr/bin/env bash
echo "$@" >> "$SAID"
sleep 0.2
[ -n "${GO_FAILS:-}" ] && exit 1
echo a provider > "$GOBIN/terraform-provider-vault"
"""
TERRAFORM = """#!/usr/bin/env bash
case "$1" in
  providers) echo "└── provider[registry.example/hashicorp/vault] 5.9.0" ;;
  init)
    [ -n "${REGISTRY:-}" ] || { echo "could not connect"; exit 1; }
    machine=$(uname -s | tr '[:upper:]' '[:lower:]')_$(uname -m | sed -e 's/x86_64/amd64/' -e 's/aarch64/arm64/')
    folder=.terraform/providers/registry.example/hashicorp/vault/5.9.0/$machine
    mkdir -p "$folder"
    echo fetched > "$folder/terraform-provider-vault_v5.9.0_x5" ;;
  fmt) exit "${FMT:-0}" ;;
esac
"""


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A folder of programs, terraform and go among them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PROGRAMS:
        if found := shutil.which(name):
            (folder / name).symlink_to(found)
    for name, text in (("go", GO), ("terraform", TERRAFORM)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return folder


def start(machine: Path, script: str, **extra: str) -> subprocess.Popen[str]:
    base = machine.parent
    environment = {
        "PATH": str(machine),
        "HOME": str(base),
        "AIKEYS_CACHE": str(base / "cache"),
        "SAID": str(base / "go-said"),
        **extra,
    }
    return subprocess.Popen(
        [ROOT / "scripts" / script],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(machine: Path, script: str = "build-terraform-provider", **extra: str) -> tuple[int, str, str]:
    with start(machine, script, **extra) as running:
        out, err = running.communicate(timeout=60)
        return running.returncode, out, err


def provider(machine: Path) -> Path:
    folder = machine.parent / "cache" / "terraform-provider-vault-5.9.0"
    return next(folder.glob(BINARY.format(machine="*")), folder / "none")


def builds(machine: Path) -> int:
    said = machine.parent / "go-said"
    return len(said.read_text().splitlines()) if said.exists() else 0


def test_the_provider_is_built_once_and_named_by_a_cli_configuration(machine: Path) -> None:
    status, out, err = run(machine)
    assert status == 0, err
    configuration = Path(out.splitlines()[-1])
    assert str(provider(machine).parents[5]) in configuration.read_text()
    assert provider(machine).read_text() == "a provider\n"

    again = run(machine)

    assert again[:2] == (0, out)
    assert "already there" in again[2]
    assert builds(machine) == 1


def test_the_registry_is_asked_first(machine: Path) -> None:
    status, _out, err = run(machine, REGISTRY="yes")

    assert status == 0, err
    assert provider(machine).read_text() == "fetched\n"
    assert builds(machine) == 0


def test_a_build_that_failed_leaves_nothing_that_counts(machine: Path) -> None:
    assert run(machine, GO_FAILS="yes")[0] != 0

    assert run(machine)[0] == 0
    assert builds(machine) == 2


def test_a_damaged_provider_is_made_again(machine: Path) -> None:
    run(machine)
    provider(machine).write_text("half a prov")

    assert run(machine)[0] == 0
    assert provider(machine).read_text() == "a provider\n"


def test_two_at_once_build_once(machine: Path) -> None:
    with start(machine, "build-terraform-provider") as one, start(machine, "build-terraform-provider") as two:
        one.communicate(timeout=60)
        two.communicate(timeout=60)
        assert (one.returncode, two.returncode) == (0, 0)

    assert builds(machine) == 1


@pytest.mark.parametrize("missing", ["terraform", "go"])
def test_what_is_missing_is_named(missing: str, machine: Path) -> None:
    (machine / missing).unlink()

    status, _out, err = run(machine)

    assert status == 1
    assert f"needs {missing}".lower() in err.lower()


@pytest.mark.parametrize(("require", "status"), [("", 0), ("vault", 0), ("all", 1), ("vault, terraform", 1)])
def test_a_check_without_terraform_says_so_and_fails_only_where_it_is_required(
    require: str, status: int, machine: Path
) -> None:
    (machine / "terraform").unlink()

    done = run(machine, "check-terraform", AIKEYS_REQUIRE=require)

    assert done[0] == status
    assert "neither terraform nor tofu is on the PATH" in done[2]


def test_a_check_without_the_provider_says_what_it_left_out(machine: Path) -> None:
    done = run(machine, "check-terraform")

    assert done[0] == 0
    assert "nothing was validated: run scripts/build-terraform-provider" in done[2]
    assert run(machine, "check-terraform", AIKEYS_REQUIRE="all")[0] == 1


def test_a_check_fails_for_what_is_not_formatted(machine: Path) -> None:
    done = run(machine, "check-terraform", FMT="3")

    assert done[0] == 1
    assert "terraform fmt -recursive terraform" in done[2]


def test_the_readmes_are_those_of_the_code(tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    shutil.copytree(ROOT / "terraform", copy / "terraform", ignore=shutil.ignore_patterns(".terraform*"))
    (copy / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "terraform-readmes", copy / "scripts")
    command: list[str | Path] = [sys.executable, copy / "scripts" / "terraform-readmes"]
    assert subprocess.run([*command, "--check"], check=False, env=os.environ).returncode == 0
    variables = copy / "terraform/modules/role/variables.tf"
    variables.write_text(variables.read_text().replace("Name of the role.", "What it is called."))

    said = subprocess.run([*command, "--check"], check=False, capture_output=True, text=True)

    assert said.returncode == 1
    assert "terraform/modules/role/README.md" in said.stderr
    assert subprocess.run(command, check=False).returncode == 0
    assert "What it is called." in (variables.parent / "README.md").read_text()
