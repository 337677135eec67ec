"""Processes that are made to be killed, forked from one that has imported everything: each starts in some 50 ms."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from aikeys.storage.failpoints import arm

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.crash.worker", "tests.crash.door", "aikeys.sidecar.app"])


class Child:
    """`work(*arguments)` in a process of its own, with fail points armed; what it says goes to the file `said`.

    It leads a process group, so that what it starts is ended with it.
    """

    def __init__(self, work: Callable[..., None], *arguments: Any, points: str, said: Path) -> None:
        self.said = said
        self._process: ForkServerProcess = _context.Process(
            target=_begin, args=(points, str(said), work, arguments), daemon=False
        )
        self._process.start()

    def wait(self, seconds: float = 120.0) -> int:
        """Its exit status; a negative one is the signal that ended it. One that takes longer is killed."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self.kill()
            raise AssertionError(
                f"the process did not end within {seconds} s; it said:\n{self.read()[-3000:]}"
            )
        return self._process.exitcode

    def kill(self) -> None:
        """End it and all that it started, at once."""
        pid = self._process.pid
        if pid is not None and self._process.exitcode is None:
            for end in (os.killpg, os.kill):
                try:
                    end(pid, signal.SIGKILL)
                    break
                except ProcessLookupError:
                    # It had no time to become the leader of its group.
                    continue
        self._process.join(30)

    @property
    def pid(self) -> int:
        """Its id, and that of its process group and session."""
        assert self._process.pid is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def read(self) -> str:
        return self.said.read_text(errors="replace") if self.said.exists() else ""


def _begin(points: str, said: str, work: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.setsid()
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for stream in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(descriptor, stream)
    os.close(descriptor)
    arm(points)
    work(*arguments)
