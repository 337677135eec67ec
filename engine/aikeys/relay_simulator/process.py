"""Starting the simulator as a child process: for ``aikeys dev`` and for tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aikeys.relay_simulator.clock import Clock
from aikeys.relay_simulator.identifiers import Identifiers, noted

START_SECONDS = 30.0
STOP_SECONDS = 10.0


class RelaySimulatorProcess:
    """A simulator on free loopback ports; a context manager.

    It runs in a process group of its own (Ctrl-C in a terminal does not reach it: `stop` does) and ends by
    itself when the process that started it is gone, however that ended. Management limits are off unless asked
    for.

    Attributes, once started: `address` (the root, under which ``/v1`` and ``/_sim`` lie), `base_url` (``/v1``),
    `second_address` (the second node's root, or None), `management_key`, `management_key_id`, `pid`.
    """

    def __init__(
        self,
        *,
        management_key: str | None = None,
        signing_secret: str | None = None,
        second_node: bool = False,
        management_rpm: int = 0,
        max_live_keys: int = 1000,
        revoke_lag_ms: int = 0,
        threads: int = 64,
        seed: int | None = None,
        control: bool = True,
        port: int = 0,
        log: Path | None = None,
    ) -> None:
        if management_key:
            noted(management_key)
        if signing_secret:
            noted(signing_secret)
        self.management_key = management_key or Identifiers(Clock(), seed).management_key()
        self._secrets = {
            "AIKEYS_RELAY_MANAGEMENT_KEY": self.management_key,
            "AIKEYS_RELAY_SIGNING_SECRET": signing_secret,
        }
        self.signing_secret = signing_secret
        self._options = [
            f"--port={port}",
            f"--management-rpm={management_rpm}",
            f"--max-live-keys={max_live_keys}",
            f"--revoke-lag-ms={revoke_lag_ms}",
            f"--threads={threads}",
            "--sim" if control else "--no-sim",
            "--stop-with-stdin",
        ]
        if second_node:
            self._options.append("--second-node-port=0")
        if seed is not None:
            self._options.append(f"--seed={seed}")
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""
        self.second_address: str | None = None
        self.management_key_id = ""

    @property
    def base_url(self) -> str:
        """What a client takes as the relay's base URL."""
        return f"{self.address}/v1"

    @property
    def second_base_url(self) -> str | None:
        """The same of the second node."""
        return None if self.second_address is None else f"{self.second_address}/v1"

    @property
    def pid(self) -> int | None:
        """Of the process that was started, while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> Self:
        """Start and wait until it listens; a ``RuntimeError`` has its last words."""
        with tempfile.TemporaryDirectory(prefix="aikeys-relay-") as folder:
            port_file, words = Path(folder, "port.json"), self._log or Path(folder, "log")
            with words.open("ab") as log:
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        "-m",
                        "aikeys.relay_simulator",
                        f"--port-file={port_file}",
                        *self._options,
                    ],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=self._environment(),
                    start_new_session=True,
                )
            try:
                facts = self._await(port_file)
            except RuntimeError as error:
                self.kill()
                said = words.read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{error}; it said:\n{said}") from None
        self.address = facts["address"]
        self.second_address = facts["second_address"]
        self.management_key_id = facts["management_key_id"]
        return self

    def stop(self) -> None:
        """End it as SIGTERM does, and by force when that takes longer than ten seconds."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
        self._ended(process)

    def kill(self) -> None:
        """End it without a chance to say anything (SIGKILL, the worker too): the state is lost."""
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._await_silence()
        self._ended(process)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name not in self._secrets}
        return environment | {name: value for name, value in self._secrets.items() if value is not None}

    def _await(self, port_file: Path) -> dict[str, Any]:
        process, deadline = self._process, time.monotonic() + START_SECONDS
        while not port_file.exists():
            if process is None or process.poll() is not None:
                raise RuntimeError("the relay simulator ended before it listened")
            if time.monotonic() > deadline:
                raise RuntimeError(f"the relay simulator did not listen within {START_SECONDS:.0f} s")
            time.sleep(0.02)
        facts: dict[str, Any] = json.loads(port_file.read_text())
        return facts

    def _await_silence(self) -> None:
        """The worker is no child of ours: that it is dead shows in that nobody listens any more."""
        deadline = time.monotonic() + STOP_SECONDS
        for address in filter(None, (self.address, self.second_address)):
            host, _, port = address.removeprefix("http://").rpartition(":")
            while time.monotonic() < deadline:
                try:
                    socket.create_connection((host.strip("[]"), int(port)), timeout=1).close()
                except ConnectionRefusedError:
                    break
                except OSError:
                    pass
                time.sleep(0.005)

    def _ended(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            process.stdin.close()
        self._process = None
