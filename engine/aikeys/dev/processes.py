"""Programs that `aikeys dev` starts, and their end: by the id it started, and with it if it is killed."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from aikeys.errors import AikeysError

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class DevError(AikeysError):
    """The development set-up could not be made; the message says which part and why."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nobody uses, and that the system gives to nobody else for the next minute.

    A connection that was closed from here stands in TIME_WAIT: a server may listen on such a port all the same (they
    set SO_REUSEADDR), but the system neither chooses it for another who asks for any port, nor for a client.
    """
    with socket.socket() as listener:
        # Of both sockets on a port it is wanted, of the one in TIME_WAIT as of the server's.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        address = listener.getsockname()
        with socket.create_connection(address, timeout=10) as client:
            accepted, _ = listener.accept()
            accepted.close()
            client.recv(1)
        return int(address[1])


def _die_with_parent() -> None:
    """Linux: SIGTERM when the parent is gone, so that even `kill -9` of it leaves no process."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """One program in a session of its own: a Ctrl-C at the terminal reaches us first, and we end it in order."""

    def __init__(
        self, name: str, command: Sequence[str], *, log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one prctl, loaded before the fork
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def running(self) -> bool:
        return self._process.poll() is None

    def wait_until(self, ready: Callable[[], bool], *, seconds: float) -> None:
        """Return when `ready()` is true; `DevError` with the end of the log when it ends or takes too long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self.running():
                raise DevError(f"{self.name} ended at once:\n{self.last_lines()}")
            if ready():
                return
            time.sleep(0.05)
        raise DevError(f"{self.name} was not ready within {seconds:.0f} s:\n{self.last_lines()}")

    def last_lines(self, count: int = 20) -> str:
        """The end of what the program printed."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(f"    {line}" for line in lines[-count:])

    def stop(self, *, seconds: float = 15.0) -> None:
        """SIGTERM, then SIGKILL for whatever of its session is left."""
        if self.running():
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
