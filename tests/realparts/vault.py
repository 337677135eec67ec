"""HashiCorp Vault, whose binary ``scripts/build-vault`` builds once from its Go module (or finds on the PATH)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import ClassVar

from tests.realparts.requirements import missing
from tests.realparts.server import ServerProcess, Setting

VERSION = "1.21.1"
#: A binary on the PATH fits when it is of the same minor line: 1.21.x answers alike.
FITTING = re.compile(r"^Vault v1\.21\.\d+\b")


def cached_binary() -> Path:
    """Where ``scripts/build-vault`` puts it: below ``$AIKEYS_CACHE``, else below ``~/.cache/aikeys``."""
    cache_folder = os.environ.get("AIKEYS_CACHE")
    base = Path(cache_folder) if cache_folder else Path.home() / ".cache" / "aikeys"
    return base / f"vault-{VERSION}" / "vault"


@cache
def find_binary() -> Path:
    """The ``vault`` of the PATH when its version fits, else the built one."""
    on_path = shutil.which("vault")
    if on_path is not None:
        said = subprocess.run(
            [on_path, "version"], capture_output=True, text=True, timeout=30, check=False
        ).stdout
        if FITTING.match(said):
            return Path(on_path)
    built = cached_binary()
    if not built.is_file():
        missing("vault", f"neither a vault 1.21 on the PATH nor a built one at {built}")
    return built


class VaultProcess(ServerProcess):
    """HashiCorp Vault as a process of this machine, on a free port of 127.0.0.1."""

    program: ClassVar[str] = "vault"
    prefix: ClassVar[str] = "VAULT"
    #: Vault since 1.20 does not start on raft storage unless this is said; OpenBao has no such setting.
    server_settings: ClassVar[Mapping[str, Setting]] = {"disable_mlock": True}

    @classmethod
    def find_binary(cls) -> Path:
        return find_binary()
