"""A Vault server, and one as a child process: what OpenBao and HashiCorp Vault have in common, which is nearly all.

Of the process, ``storage="dev"`` is ``server -dev``: in memory, unsealed, ``root_token`` as chosen. ``"raft"`` (the
one durable storage that both servers have without another program) is an ordinary server, initialised with one unseal
key, which can be sealed, stopped, and started again with everything it held.
"""

from __future__ import annotations

import contextlib
import json
import os
import ssl
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Literal, Self

import httpx
from tests.realparts.process import POLL_SECONDS, ChildProcess, ProcessFailed, clean_environment, free_port

Storage = Literal["dev", "raft"]
Setting = str | int | bool

REQUEST_SECONDS = 10.0
#: The port a server was given can be taken between the choice and its bind: that start is tried again.
START_TRIES = 3


class ServerFailed(RuntimeError):
    """The server gave an answer that its set-up does not allow for."""


class Server(ABC):
    """A running Vault or OpenBao, whether process or container: where it is, and how to ask it.

    Attributes: ``address`` (no slash at its end), ``root_token``, ``binary`` (its own client, on this machine),
    ``folder`` (its logs and data), ``ca_file`` (what its certificate is checked against; ``None`` without TLS).
    """

    #: Name of the program, of the log, and what the sub-commands call it.
    program: ClassVar[str]
    #: Environment variables its client reads: ``VAULT`` or ``BAO``.
    prefix: ClassVar[str]

    folder: Path
    root_token: str
    ca_file: Path | None = None

    @classmethod
    @abstractmethod
    def find_binary(cls) -> Path:
        """The program; raises :class:`~tests.realparts.requirements.PartMissing` where it is not to be had."""

    @property
    def binary(self) -> Path:
        return self.find_binary()

    @property
    @abstractmethod
    def address(self) -> str: ...

    def request(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, token: str | None = ""
    ) -> dict[str, Any]:
        """One call below ``/v1/`` with the root token (``token=None``: with none); the decoded answer, ``{}`` for a 204.

        Raises :class:`ServerFailed` for any status of 400 and above.
        """
        headers = {"X-Vault-Request": "true"}
        if token is not None:
            headers["X-Vault-Token"] = token or self.root_token
        with self.client() as client:
            answer = client.request(method, f"/v1/{path.lstrip('/')}", json=body, headers=headers)
        if answer.status_code >= 400:
            raise ServerFailed(
                f"{self.program}: {method} {path} answered {answer.status_code}: {answer.text.strip()}"
            )
        if not answer.content:
            return {}
        decoded: dict[str, Any] = answer.json()
        return decoded

    def client(self) -> httpx.Client:
        """A client for this server that heeds no proxy, gives up after ten seconds and trusts only ``ca_file``."""
        trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca_file is not None:
            trust.load_verify_locations(self.ca_file)
        return httpx.Client(base_url=self.address, timeout=REQUEST_SECONDS, trust_env=False, verify=trust)

    def version(self) -> str:
        """What ``sys/health`` says, such as ``2.7.2`` or ``1.21.1``."""
        with self.client() as client:
            return str(client.get("/v1/sys/health").json()["version"])

    def client_environment(self, *, address: str | None = None, token: str | None = None) -> dict[str, str]:
        """The environment in which its command line client talks to it (or to ``address``), with a home of its own."""
        home = self.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        names = {"ADDR": address or self.address, "TOKEN": token or self.root_token}
        if self.ca_file is not None:
            names["CACERT"] = str(self.ca_file)
        return clean_environment(
            HOME=str(home), **{f"{self.prefix}_{name}": value for name, value in names.items()}
        )

    def cli(
        self,
        *arguments: str,
        address: str | None = None,
        token: str | None = None,
        check: bool = True,
        stdin: str = "",
        seconds: float = 30.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run its own command line client; with ``check`` a status other than 0 raises :class:`ServerFailed`."""
        done = subprocess.run(
            [os.fspath(self.binary), *arguments],
            env=self.client_environment(address=address, token=token),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        if check and done.returncode != 0:
            raise ServerFailed(
                f"{self.program} {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}"
            )
        return done

    def _status(self, path: str, **headers: str) -> int:
        """The status of one GET; raises ``ConnectionError`` when there is no answer within 2 s."""
        with self.client() as client:
            try:
                return client.get(f"/v1/{path}", headers=headers, timeout=2.0).status_code
            except httpx.TransportError as error:
                raise ConnectionError(str(error)) from error

    def _answers(self) -> bool:
        # 501 not initialised, 503 sealed, 429 standby: up, whatever its state.
        return self._status("sys/health") in {200, 429, 501, 503}

    def _serves(self) -> bool:
        """Active and the root token works: a dev server answers 200 a moment before its token does."""
        if self._status("sys/health") != 200:
            return False
        return self._status("auth/token/lookup-self", **{"X-Vault-Token": self.root_token}) == 200


class ServerProcess(Server):
    """Base of :class:`~tests.realparts.openbao.OpenBaoProcess` and :class:`~tests.realparts.vault.VaultProcess`.

    ``listener`` sets options of the listener stanza and ``config`` is HCL of your own (the first for
    ``raft`` only). With ``tls_cert_file`` and ``tls_key_file`` among the listener's options
    the address is https, and ``ca_file`` is what the calls made here trust.
    """

    #: Top-level settings of a server's configuration that only this product has.
    server_settings: ClassVar[Mapping[str, Setting]] = {}

    def __init__(
        self,
        folder: Path,
        *,
        root_token: str = "root",
        storage: Storage = "dev",
        listener: Mapping[str, Setting] | None = None,
        config: str = "",
        arguments: tuple[str, ...] = (),
        ca_file: Path | None = None,
        env: Mapping[str, str] | None = None,
        log_level: str = "info",
    ) -> None:
        if storage == "dev" and listener:
            raise ValueError("the listener of a dev server is made by its flags: use storage='raft'")
        self.folder = folder
        self.storage = storage
        self.listener = dict(listener or {})
        self.config = config
        self.arguments = arguments
        self.ca_file = ca_file
        self.log_level = log_level
        self.env = dict(env or {})
        #: The root token: as chosen in dev mode, else the one the initialisation gave.
        self.root_token = root_token
        self.unseal_key: str | None = None
        self.port = free_port()
        self.cluster_port = free_port()
        self._child: ChildProcess | None = None

    @property
    def address(self) -> str:
        """``http://127.0.0.1:<port>`` (https with TLS files); the same after a restart."""
        return f"{'https' if 'tls_cert_file' in self.listener else 'http'}://127.0.0.1:{self.port}"

    @property
    def child(self) -> ChildProcess:
        if self._child is None:
            raise ProcessFailed(f"{self.program} is not running")
        return self._child

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    @property
    def log_path(self) -> Path:
        return self.folder / f"{self.program}.log"

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        """Start, and (not in dev mode) initialise once and unseal; ready for requests when it returns."""
        for attempt in range(1, START_TRIES + 1):
            try:
                self._launch()
                break
            except ProcessFailed as error:
                fresh = self.storage == "dev" or self.unseal_key is None
                if attempt == START_TRIES or not fresh or "address already in use" not in str(error):
                    raise
                self.port, self.cluster_port = free_port(), free_port()
        if self.storage != "dev":
            try:
                if self.unseal_key is None:
                    self._initialise()
                self.unseal()
            except BaseException:
                self.stop()
                raise
        return self

    def stop(self) -> None:
        """End the process; what ``raft`` holds stays in the folder."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def kill(self) -> None:
        """End the process as a crash would (SIGKILL)."""
        if self._child is not None:
            self._child.kill()
            self._child = None

    def restart(self) -> None:
        """Stop and start at the same address; not for dev mode, which would come back empty."""
        if self.storage == "dev":
            raise ServerFailed("a dev server forgets everything at a restart: use storage='raft'")
        self.stop()
        self.start()

    def seal(self) -> None:
        """Seal it; every request but the health ones is then a 503 until :meth:`unseal`."""
        self.request("PUT", "sys/seal")

    def unseal(self) -> None:
        """Give the unseal key and wait until it serves requests as the active node."""
        if self.unseal_key is None:
            raise ServerFailed(f"a {self.storage} server has no unseal key before it was initialised")
        self.request("PUT", "sys/unseal", {"key": self.unseal_key}, token=None)
        self._wait_until_active()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- inner --------------------------------------------------------------------------------------------------

    def _launch(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        command = [os.fspath(self.binary), "server", f"-log-level={self.log_level}"]
        if self.storage == "dev":
            command += [
                "-dev",
                f"-dev-root-token-id={self.root_token}",
                f"-dev-listen-address=127.0.0.1:{self.port}",
                "-dev-no-store-token",
            ]
            if self.config:
                command.append(f"-config={self._write_config(self.config)}")
        else:
            command.append(f"-config={self._write_config(self._server_config() + self.config)}")
        self._child = ChildProcess(
            [*command, *self.arguments],
            folder=self.folder,
            name=self.program,
            env=clean_environment(HOME=str(home), **self.env),
        )
        ready = self._serves if self.storage == "dev" else self._answers
        try:
            self._child.start(ready)
        except BaseException:
            self._child = None
            raise

    def _write_config(self, text: str) -> Path:
        path = self.folder / f"{self.program}.hcl"
        path.write_text(text)
        return path

    def _server_config(self) -> str:
        options: dict[str, Setting] = {"address": f"127.0.0.1:{self.port}", **self.listener}
        if "tls_cert_file" not in options:
            options["tls_disable"] = True
        data = self.folder / "data"
        data.mkdir(exist_ok=True)
        top: dict[str, Setting] = {
            "api_addr": self.address,
            "cluster_addr": f"https://127.0.0.1:{self.cluster_port}",
            "ui": True,
            **self.server_settings,
        }
        # The cluster port is the address's plus one by default, which nobody has reserved.
        options.setdefault("cluster_address", f"127.0.0.1:{self.cluster_port}")
        return "".join(
            [
                _block('listener "tcp"', options),
                # A multiplier of 1 instead of 5: a single node elects itself in about 2 s, not 9.
                _block(
                    'storage "raft"', {"path": str(data), "node_id": "node1", "performance_multiplier": 1}
                ),
                *(f"{name} = {json.dumps(value)}\n" for name, value in top.items()),
            ]
        )

    def _initialise(self) -> None:
        made = self.request("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, token=None)
        self.unseal_key = str(made["keys_base64"][0])
        self.root_token = str(made["root_token"])

    def _wait_until_active(self, seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while True:
            with contextlib.suppress(ConnectionError):
                if self._serves():
                    return
            if time.monotonic() > end:
                tail = "\n".join(self.child.log().splitlines()[-30:])
                raise ServerFailed(f"{self.program} was not active {seconds:g} s after the unseal\n{tail}")
            time.sleep(POLL_SECONDS)


def _block(head: str, settings: Mapping[str, Setting]) -> str:
    return (
        f"{head} {{\n"
        + "".join(f"  {name} = {json.dumps(value)}\n" for name, value in settings.items())
        + "}\n"
    )
