"""The threads that revoke, shared fairly by the mounts (Vault: helper/fairshare).

A free thread goes to the mount with the fewest in flight, so a mount with 30,000 leases at a slow relay does not keep
another's three waiting; and a mount with none in flight gets a thread even when all are taken.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from aikeys.storage.records import LeaseRecord

# A thread waits this long for more before it ends: each has a database connection and keep-alive connections.
_IDLE_SECONDS = 20.0


class RevocationPool:
    """Threads come with the work and go some time after it. They are daemons: claims of what they leave undone lapse."""

    def __init__(
        self, workers: int, run: Callable[[LeaseRecord], None], admits: Callable[[str, int], bool]
    ) -> None:
        """`run` does one lease and must not raise. `admits(mount_uuid, in flight)`: may that mount have one more?"""
        self._workers = workers
        self._run = run
        self._admits = admits
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[LeaseRecord]] = {}
        self._in_flight: dict[str, dict[str, LeaseRecord]] = {}
        self._threads = 0
        self._idle = 0
        self._stopped = False

    def add(self, mount_uuid: str, leases: Iterable[LeaseRecord]) -> None:
        """Those that are here already are left out: one that was made due again meanwhile is claimed once more."""
        with self._changed:
            waiting = self._waiting.setdefault(mount_uuid, deque())
            held = {lease.lease_id for lease in waiting} | self._in_flight.setdefault(mount_uuid, {}).keys()
            waiting.extend(lease for lease in leases if lease.lease_id not in held)
        self.poke()

    def poke(self) -> None:
        """Look again at what could not run when it came."""
        with self._changed:
            if self._stopped:
                return
            waiting = sum(map(len, self._waiting.values()))
            self._changed.notify(waiting)
            # One more than the workers for each mount, see `_take`.
            for _ in range(min(waiting - self._idle, self._workers + len(self._in_flight) - self._threads)):
                self._threads += 1
                threading.Thread(target=self._work, name="aikeys-revoke", daemon=True).start()

    def load(self, mount_uuid: str) -> tuple[int, int]:
        """How many of the mount wait here and how many are in flight."""
        with self._changed:
            return len(self._waiting.get(mount_uuid, ())), len(self._in_flight.get(mount_uuid, ()))

    def held(self) -> Sequence[str]:
        """The ids of all that wait or are in flight: what this process has claimed."""
        with self._changed:
            waiting = [lease.lease_id for leases in self._waiting.values() for lease in leases]
            return waiting + [lease_id for leases in self._in_flight.values() for lease_id in leases]

    def stop(self, timeout: float) -> Sequence[str]:
        """Begin nothing more and wait for what is in flight; the ids that were never begun."""
        end = time.monotonic() + timeout
        with self._changed:
            self._stopped = True
            left = [lease.lease_id for leases in self._waiting.values() for lease in leases]
            self._waiting.clear()
            self._changed.notify_all()
            while self._threads and (remaining := end - time.monotonic()) > 0:
                self._changed.wait(remaining)
            return left

    def _work(self) -> None:
        while (lease := self._next()) is not None:
            try:
                self._run(lease)
            finally:
                with self._changed:
                    del self._in_flight[lease.mount_uuid][lease.lease_id]

    def _next(self) -> LeaseRecord | None:
        """The next lease to revoke; None when there was none for a while, and then this thread counts no more."""
        patience = time.monotonic() + _IDLE_SECONDS
        with self._changed:
            while (lease := self._take()) is None:
                remaining = patience - time.monotonic()
                if self._stopped or remaining <= 0:
                    self._threads -= 1
                    self._changed.notify_all()
                    return None
                self._idle += 1
                self._changed.wait(remaining)
                self._idle -= 1
            return lease

    def _take(self) -> LeaseRecord | None:
        total = sum(map(len, self._in_flight.values()))
        candidates = [
            (len(self._in_flight[mount]), mount)
            for mount, leases in self._waiting.items()
            if leases
            and (total < self._workers or not self._in_flight[mount])
            and self._admits(mount, len(self._in_flight[mount]))
        ]
        if not candidates:
            return None
        mount = min(candidates)[1]
        lease = self._waiting[mount].popleft()
        self._in_flight[mount][lease.lease_id] = lease
        return lease
