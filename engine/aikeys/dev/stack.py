"""OpenBao, relay simulator and sidecar as one thing that starts, can be tried, and ends."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

import httpx
import hvac

from aikeys.dev.openbao import DevOpenBao
from aikeys.dev.processes import Child, DevError, free_port
from aikeys.dev.provision import SIDECAR, Credentials, Provisioner, dev_folder
from aikeys.policy.live import asking
from aikeys.redaction import SecretString
from aikeys.relay_simulator.process import RelaySimulatorProcess

MOUNT = "ai-keys"
ROLE = "demo"


class Stack:
    """A context manager: everything runs inside, nothing is left outside.

    `upstream` names a Vault that already runs (then `token` is its operator's); None starts an OpenBao.
    """

    def __init__(
        self, *, upstream: str | None = None, token: str = "", port: int = 0, data_dir: Path | None = None
    ) -> None:
        self._given_upstream = upstream
        self._port = port
        self._given_data_dir = data_dir
        self.root_token = token or f"dev-root-{secrets.token_hex(8)}"
        self.provisioner = Provisioner(MOUNT)
        self.problems: list[str] = []
        self._openbao: DevOpenBao | None = None
        self._relay: RelaySimulatorProcess | None = None
        self._sidecar: Child | None = None
        self.app: Credentials | None = None

    def __enter__(self) -> Stack:
        self._folder = Path(tempfile.mkdtemp(prefix="aikeys-dev-"))
        self.data_dir = self._given_data_dir or self._folder / "data"
        try:
            self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    @property
    def upstream_address(self) -> str:
        return self._given_upstream or self._running_openbao.address

    @property
    def _running_openbao(self) -> DevOpenBao:
        if self._openbao is None:
            raise DevError("no OpenBao was started")
        return self._openbao

    def _start(self) -> None:
        if self._given_upstream is None:
            self._openbao = DevOpenBao(self._folder, self.root_token)
        self._relay = RelaySimulatorProcess()
        self._relay.start()
        if self._openbao is not None:
            self._openbao.wait()
        self.relay_address = self._relay.address
        self.management_key = SecretString(self._relay.management_key)
        upstream = hvac.Client(url=self.upstream_address, token=self.root_token)
        with asking(f"use the Vault at {self.upstream_address}"):
            if not upstream.is_authenticated():
                raise DevError(f"the token in VAULT_TOKEN is not valid at {self.upstream_address}")
        self.provisioner.logins(upstream, dev_folder())
        self._start_sidecar(self.provisioner.credentials(upstream, SIDECAR))
        sidecar = hvac.Client(url=self.address, token=self.root_token)
        self.provisioner.engine(
            sidecar, relay_url=self._relay.base_url, management_key=self._relay.management_key
        )
        self.app = self.provisioner.credentials(upstream, ROLE)

    def _start_sidecar(self, identity: Credentials) -> None:
        secret_id_file = self._folder / "sidecar-secret-id"
        secret_id_file.touch(mode=0o600)
        secret_id_file.write_text(identity.secret_id.reveal())
        port = self._port or free_port()
        self.address = f"http://127.0.0.1:{port}"
        self._sidecar = Child(
            "the sidecar",
            [sys.executable, "-m", "aikeys", "serve"],
            log=self._folder / "sidecar.log",
            environment={
                "AIKEYS_LISTEN": f"127.0.0.1:{port}",
                "AIKEYS_UPSTREAM_ADDR": self.upstream_address,
                "AIKEYS_DATA_DIR": str(self.data_dir),
                "AIKEYS_AUTH_METHOD": "approle",
                "AIKEYS_AUTH_ROLE_ID": identity.role_id,
                "AIKEYS_AUTH_SECRET_ID_FILE": str(secret_id_file),
            },
        )
        self._sidecar.wait_until(self._sidecar_ready, seconds=30)

    def _sidecar_ready(self) -> bool:
        try:
            return httpx.get(f"{self.address}/aikeys/health", timeout=2).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def sidecar_log(self) -> Path:
        return self._folder / "sidecar.log"

    def environment(self) -> dict[str, str]:
        """What a command needs to talk to all of this, by the names that Vault's and our own clients read."""
        if self.app is None or self._sidecar is None:
            raise DevError("the set-up is not complete")
        return {
            "VAULT_ADDR": self.address,
            "BAO_ADDR": self.address,
            "VAULT_TOKEN": self.root_token,
            "BAO_TOKEN": self.root_token,
            "AIKEYS_UPSTREAM_ADDR": self.upstream_address,
            "AIKEYS_RELAY_ADDR": self.relay_address,
            "AIKEYS_RELAY_MANAGEMENT_KEY": self.management_key.reveal(),
            "AIKEYS_MOUNT": MOUNT,
            "AIKEYS_ROLE": ROLE,
            "AIKEYS_ROLE_ID": self.app.role_id,
            "AIKEYS_SECRET_ID": self.app.secret_id.reveal(),
            "AIKEYS_SIDECAR_PID": str(self._sidecar.pid),
            "AIKEYS_DATA_DIR": str(self.data_dir),
        }

    def run(self, command: list[str]) -> int:
        """Run it with `environment()` and its own terminal; its exit status (128 + n when signal n ended it)."""
        try:
            child = subprocess.Popen(command, env={**os.environ, **self.environment(), "PATH": _path()})
        except OSError as error:
            raise DevError(f"cannot run {command[0]}: {error.strerror}") from error
        # Ctrl-C reaches the command by the terminal; it decides, and we wait for what it decides.
        previous = signal.signal(signal.SIGINT, signal.SIG_IGN)
        terminated = signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        try:
            status = child.wait()
        finally:
            signal.signal(signal.SIGINT, previous)
            signal.signal(signal.SIGTERM, terminated)
        return status if status >= 0 else 128 - status

    def _stop(self) -> None:
        # A Vault of somebody else's gets back what it had; our own OpenBao simply ends.
        if self._openbao is None:
            self.problems += self.provisioner.undo_engine()
        if self._sidecar is not None:
            self._sidecar.stop()
        if self._openbao is None:
            self.problems += self.provisioner.undo_logins()
        if self._relay is not None:
            self._relay.stop()
        if self._openbao is not None:
            self._openbao.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


def _path() -> str:
    """PATH with the folder of our interpreter behind it: `bao` and `aikeys` are there where nothing else has them."""
    return os.pathsep.join(
        part for part in (os.environ.get("PATH", ""), str(Path(sys.executable).parent)) if part
    )
