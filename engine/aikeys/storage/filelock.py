"""The queue of the processes that want to write one SQLite file.

SQLite's own waiting sleeps up to 100 ms between looks and lets whoever comes by pass first. Here a process first
takes its place (`.queue`), then waits for the pen (`.lock`): whoever just wrote has to queue again, so two busy
processes take turns. Waiting is bounded, unlike a blocking flock.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from aikeys.errors import StorageError

_FIRST_PAUSE = 0.0001
_LONGEST_PAUSE = 0.002


class WriteLock:
    """One holder among all processes. Not for several threads at once: the caller holds its own lock."""

    def __init__(self, database: Path, timeout: float) -> None:
        self._database = database
        self._timeout = timeout
        self._queue = _open(database.with_name(database.name + ".queue"))
        self._pen = _open(database.with_name(database.name + ".lock"))

    def acquire(self) -> None:
        """StorageError when it is not free within the timeout."""
        end = time.monotonic() + self._timeout
        self._wait(self._queue, end)
        try:
            self._wait(self._pen, end)
        finally:
            fcntl.flock(self._queue, fcntl.LOCK_UN)

    def release(self) -> None:
        fcntl.flock(self._pen, fcntl.LOCK_UN)

    def close(self) -> None:
        os.close(self._queue)
        os.close(self._pen)

    def _wait(self, descriptor: int, end: float) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise StorageError(
                        f"another process has kept {self._database} for {self._timeout:.0f} s: "
                        "look for one that hangs or is stopped; nothing was changed"
                    ) from None
                time.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
            else:
                return


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
