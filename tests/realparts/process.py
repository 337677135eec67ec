"""Child processes that are ready when ``start`` returns and gone when ``stop`` does.

Each runs in a process group of its own, is ended by the id it was started with, and writes what it says to a file
in the folder it was given, whose tail stands in every error raised here.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from aikeys.dev.processes import free_port

__all__ = [
    "KILLED_WITHIN_SECONDS", "POLL_SECONDS", "ChildProcess", "ProcessFailed", "clean_environment", "free_port",
    "processes_of_session",
]  # fmt: skip

POLL_SECONDS = 0.05
#: After SIGKILL the kernel still has to take a process down; a machine under load may take its time.
KILLED_WITHIN_SECONDS = 10.0


class ProcessFailed(RuntimeError):
    """A process did not become ready or ended by itself; holds the tail of its log."""


class ChildProcess:
    """One program as a child of this process, in its own process group.

    ``name`` names the log (``<folder>/<name>.log``, appended to at a restart). ``env`` is the whole environment.
    ``cwd`` is ``folder`` unless said. ``user`` runs it as that account, for programs that refuse to run as root. Times
    are seconds.
    """

    def __init__(
        self,
        command: Sequence[str | os.PathLike[str]],
        *,
        folder: Path,
        name: str,
        env: Mapping[str, str],
        cwd: Path | None = None,
        user: str | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.command = [os.fspath(part) for part in command]
        self.folder = folder
        self.name = name
        self.env = dict(env)
        self.cwd = cwd or folder
        self.user = user
        self.stop_signal = stop_signal
        self.log_path = folder / f"{name}.log"
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self, ready: Callable[[], bool], *, deadline: float = 60.0) -> None:
        """Start and return when ``ready()`` is true; on any failure nothing is left running.

        ``ready`` is asked again and again and answers at once; an ``OSError`` of its own means "not yet".
        Raises :class:`ProcessFailed` when the process ends first or ``deadline`` seconds pass.
        """
        if self._popen is not None:
            raise ProcessFailed(f"{self.name} was already started (process {self._popen.pid})")
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._popen = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self.user,
                group=None if self.user is None else _primary_group(self.user),
                extra_groups=None if self.user is None else [],
            )
        atexit.register(self.stop)
        try:
            self._wait_until(ready, deadline)
        except BaseException:
            self.stop()
            raise

    def stop(self, *, grace: float = 15.0) -> int | None:
        """End the process and its whole group, forcibly after ``grace`` seconds; the exit status, None if not started.

        The leader stays unreaped until its group is gone: while it is, its id cannot belong to anything else.
        """
        popen = self._popen
        if popen is None:
            return None
        self._signal_group(popen.pid, self.stop_signal)
        if not self._ended_within(popen.pid, grace):
            self._signal_group(popen.pid, signal.SIGKILL)
            if not self._ended_within(popen.pid, KILLED_WITHIN_SECONDS):
                raise ProcessFailed(f"{self.name} (process {popen.pid}) survived SIGKILL{self._said()}")
        self._signal_group(popen.pid, signal.SIGKILL)
        status = popen.wait()
        self._popen = None
        atexit.unregister(self.stop)
        return status

    def kill(self) -> None:
        """End the whole group at once with SIGKILL, as a crash would."""
        if self._popen is not None:
            self._signal_group(self._popen.pid, signal.SIGKILL)
            self.stop(grace=KILLED_WITHIN_SECONDS)

    @property
    def running(self) -> bool:
        return self._popen is not None and not _ended(self._popen.pid)

    @property
    def pid(self) -> int:
        """The process id; raises :class:`ProcessFailed` when it was not started."""
        if self._popen is None:
            raise ProcessFailed(f"{self.name} is not running")
        return self._popen.pid

    # -- what it says -------------------------------------------------------------------------------------------

    def log(self) -> str:
        """What it wrote since it was last started."""
        if not self.log_path.exists():
            return ""
        with self.log_path.open("rb") as log:
            log.seek(self._log_start)
            return log.read().decode(errors="replace")

    def _said(self) -> str:
        tail = self.log().splitlines()[-30:]
        return f"\n--- last lines of {self.log_path} ---\n" + ("\n".join(tail) if tail else "(nothing)")

    # -- inner --------------------------------------------------------------------------------------------------

    def _wait_until(self, ready: Callable[[], bool], seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            if not self.running:
                # stop() reaps it, so the status is read there.
                status = self.stop()
                raise ProcessFailed(
                    f"{self.name} ended with status {status} before it was ready{self._said()}"
                )
            try:
                if ready():
                    return
            except OSError:
                pass
            if time.monotonic() > end:
                raise ProcessFailed(f"{self.name} was not ready within {seconds:g} s{self._said()}")
            time.sleep(POLL_SECONDS)

    @staticmethod
    def _ended_within(pid: int, seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not _ended(pid):
            if time.monotonic() > end:
                return False
            time.sleep(POLL_SECONDS)
        return True

    @staticmethod
    def _signal_group(pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _ended(pid: int) -> bool:
    """Whether our child has ended; leaves it unreaped, so that its id stays its own."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _primary_group(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


def clean_environment(**extra: str) -> dict[str, str]:
    """This process's environment without what would turn a client, a server or a `make` elsewhere, plus ``extra``."""
    dropped = ("VAULT_", "BAO_", "AIKEYS_", "PG", "DBUS_", "MAKE")
    elsewhere = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "args", "n"}
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(dropped) and name.lower() not in elsewhere
    }
    return kept | extra


def processes_of_session(session: int) -> list[int]:
    """The ids of the processes whose session was begun by process ``session``, ended ones that wait to be reaped left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                # The name in parentheses may hold blanks: what is wanted comes after it.
                state, _parent, _group, owner = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(owner) == session and state != "Z":
                    found.append(int(entry.name))
    return found
