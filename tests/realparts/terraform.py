"""Terraform (or OpenTofu) from the PATH with the real hashicorp/vault provider, run in a copy of ``terraform/``.

The provider comes from the local mirror that ``scripts/build-terraform-provider`` makes, so that no run fetches
anything.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from tests.realparts.process import clean_environment
from tests.realparts.requirements import missing

PROVIDER_VERSION = "5.9.0"
ROOT = Path(__file__).parents[2]
COMMAND_SECONDS = 120.0
#: ``plan -detailed-exitcode``: nothing to do, failed, something to do.
NO_CHANGES, FAILED, CHANGES = 0, 1, 2
#: Terraform's own, of which no server knows, and one that the provider cannot import.
NOT_IMPORTED = ("terraform_data", "vault_audit_request_header")
_FITTING = re.compile(r"^(?:Terraform|OpenTofu) v1\.(\d+)\.")
_LEAST_MINOR = 11


@cache
def find_terraform() -> Path:
    """The ``terraform`` of the PATH, else ``tofu``: 1.11 or newer, for write-only arguments."""
    found = next(
        (found for name in ("terraform", "tofu") if (found := shutil.which(name)) and _fits(found)), None
    )
    if found is None:
        missing("terraform", f"neither a terraform nor a tofu from 1.{_LEAST_MINOR} on is on the PATH")
    return Path(found)


def _fits(program: str) -> bool:
    environment = clean_environment(CHECKPOINT_DISABLE="1")
    asked = subprocess.run(
        [program, "version"], capture_output=True, text=True, timeout=30, check=False, env=environment
    )
    version = _FITTING.search(asked.stdout)
    return version is not None and int(version[1]) >= _LEAST_MINOR


@cache
def cli_config() -> Path:
    """The CLI configuration that names the mirror with the provider."""
    cache_folder = os.environ.get("AIKEYS_CACHE")
    base = Path(cache_folder) if cache_folder else Path.home() / ".cache" / "aikeys"
    found = base / f"terraform-provider-vault-{PROVIDER_VERSION}" / "terraformrc"
    if not found.is_file():
        missing("terraform", f"no provider in a local mirror: {found} is missing")
    return found


class TerraformFailed(AssertionError):
    """A command did not end as it should have; holds what it said."""


class Terraform:
    """One root module of ``terraform/`` in a copy of its own below ``folder``: its state, its log, its commands.

    ``where`` is the root module below ``terraform/``, such as ``examples/minimal``. ``address`` and ``token`` are
    the provider's. ``variables`` are given to every command by the environment, as users give secrets. ``loud`` has
    Terraform and the provider log all that they can.
    """

    def __init__(
        self,
        where: str,
        folder: Path,
        *,
        address: str = "",
        token: str = "",
        variables: Mapping[str, str | int] | None = None,
        loud: bool = False,
    ) -> None:
        #: Further environment variables of every command.
        self.environment: dict[str, str] = {}
        self._program = find_terraform()
        self.folder = folder
        for name in ("terraform", "policies"):
            shutil.copytree(
                ROOT / name,
                folder / name,
                ignore=shutil.ignore_patterns(".terraform*", "*.tfstate*"),
                dirs_exist_ok=True,
            )
        self.root = folder / "terraform" / where
        self.log = folder / "terraform.log"
        self.said = ""
        self.variables = {name: str(value) for name, value in (variables or {}).items()}
        self._env = clean_environment(
            TF_CLI_CONFIG_FILE=str(cli_config()),
            TF_IN_AUTOMATION="1",
            TF_INPUT="0",
            TF_LOG="TRACE" if loud else "",
            TF_LOG_PATH=str(self.log),
            VAULT_ADDR=address,
            VAULT_TOKEN=token,
            # Runs are short and memory is there: less collecting of garbage saves a sixth of their time.
            GOGC="400",
            # The provider must not pick up a token that lies on this machine.
            HOME=str(folder),
        )

    def init(self) -> None:
        self.run("init", "-input=false")

    def apply(self, *arguments: str, **variables: str | int) -> str:
        return self.run("apply", "-auto-approve", *arguments, variables=variables)

    def destroy(self, *arguments: str, **variables: str | int) -> str:
        return self.run("destroy", "-auto-approve", *arguments, variables=variables)

    def changes(self, **variables: str | int) -> dict[str, str]:
        """What a plan would do, by address: "create", "update", "replace", "delete", or "import" of what is there."""
        said = self.run(
            "plan", "-json", "-detailed-exitcode", expect=(NO_CHANGES, CHANGES), variables=variables
        )
        messages = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
        planned = [message["change"] for message in messages if message["type"] == "planned_change"]
        return {change["resource"]["addr"]: change["action"] for change in planned}

    def refused(self, command: str, *arguments: str, **variables: str | int) -> str:
        """What a command says that fails, as it must: on one line, without the frame."""
        extra = ["-auto-approve"] if command in {"apply", "destroy"} else []
        said = self.run(command, *extra, *arguments, expect=(FAILED,), variables=variables)
        return " ".join(re.sub(r"[│╷╵]", " ", said).split())

    def outputs(self) -> dict[str, Any]:
        return {name: output["value"] for name, output in json.loads(self.run("output", "-json")).items()}

    def ids(self) -> dict[str, str]:
        """Of every resource in the state that can be imported, by its address: the id for that."""
        return dict(_ids(json.loads(self.run("show", "-json"))["values"]["root_module"]))

    def run(
        self,
        *arguments: str,
        expect: Sequence[int] = (0,),
        variables: Mapping[str, str | int] | None = None,
    ) -> str:
        """One command and what it said, on both channels unless the first is JSON."""
        given = {
            f"TF_VAR_{name}": str(value) for name, value in {**self.variables, **(variables or {})}.items()
        }
        is_json = arguments[0] == "output" or "-json" in arguments
        plain = [] if is_json or arguments[0] == "state" else ["-no-color"]
        done = subprocess.run(
            [self._program, arguments[0], *plain, *arguments[1:]],
            cwd=self.root,
            env={**self._env, **self.environment, **given},
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        self.said += done.stdout + done.stderr
        if done.returncode not in expect:
            raise TerraformFailed(
                f"terraform {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
            )
        return done.stdout if is_json else done.stdout + done.stderr

    def everything_kept(self) -> str:
        """All that any command said, logged or left in a file: state, its backups, plans unpacked, lock files."""
        texts = [self.said, self.log.read_text(errors="replace") if self.log.exists() else ""]
        files = (file for file in self.root.rglob("*") if file.is_file() and "providers" not in file.parts)
        texts += [_text_of(file) for file in files]
        return "\n".join(texts)


def _ids(module: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for resource in module.get("resources", []):
        if resource["mode"] == "managed" and resource["type"] not in NOT_IMPORTED:
            yield resource["address"], resource["values"]["id"]
    for inner in module.get("child_modules", []):
        yield from _ids(inner)


def _text_of(file: Path) -> str:
    """A file as text; a plan is a zip archive, so what is in it."""
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            return "\n".join(archive.read(name).decode(errors="replace") for name in archive.namelist())
    return file.read_text(errors="replace")
