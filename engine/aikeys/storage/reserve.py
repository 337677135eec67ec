"""Room on the disk that is kept for the end of keys: a file whose only use is its size.

When the disk is full the file goes, and what ends keys can still be put on record. What makes keys needs the file to be
there, so while the disk is full none is made. Any process of the sidecar may give it up, and any makes it again.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import structlog

from aikeys.errors import DiskFull

_log = structlog.get_logger(__name__)

# SQLite's log of changes grows to 4 MiB before it begins anew; the rest holds some thousand ended leases.
SIZE = 8 * 1024 * 1024
# Seconds between two looks whether there is room again.
_LOOK_EVERY = 1.0


class Reserve:
    """Safe for many threads and processes. With `size` 0 there is none, and nothing is asked of the disk."""

    def __init__(self, database: Path, size: int) -> None:
        self.path = database.with_name(database.name + ".reserve")
        self._size = size
        self._lock = threading.Lock()
        self._next_look = 0.0

    def require(self) -> None:
        """Return when it is there; `DiskFull` when it is not and there is no room for it."""
        if self._size == 0 or self._whole():
            return
        with self._lock:
            if self._whole():
                return
            if time.monotonic() >= self._next_look:
                self._next_look = time.monotonic() + _LOOK_EVERY
                if self._renewed():
                    return
            raise DiskFull(
                f"no space left in {self.path.parent}: free {2 * self._size // 2**20} MiB there; until then no key is "
                "made, and what is left is kept for revocations"
            )

    def give_up(self) -> bool:
        """Whether there is a reserve at all: then what did not fit may be tried once more."""
        if self._size == 0:
            return False
        try:
            self.path.unlink()
        except OSError:
            # Another thread or process was here before us.
            return True
        _log.error(
            "disk_full", note="the reserve is given up for revocations, no key is made", path=str(self.path)
        )
        return True

    def _whole(self) -> bool:
        try:
            return self.path.stat().st_size >= self._size
        except OSError:
            return False

    def _renewed(self) -> bool:
        try:
            disk = os.statvfs(self.path.parent)
            if disk.f_bavail * disk.f_frsize < 2 * self._size:
                return False
            descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, self._size)
            finally:
                os.close(descriptor)
        except OSError as error:
            _log.warning("reserve_not_made", path=str(self.path), error=error.strerror)
            self.path.unlink(missing_ok=True)
            return False
        return True
