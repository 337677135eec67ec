"""The sweep for keys that no lease knows, from time to time: plan and apply under the guards of `tidy`, without force."""

from __future__ import annotations

from datetime import timedelta

import structlog

from aikeys.engine.connections import Connections
from aikeys.errors import AikeysError
from aikeys.framework.clock import Clock
from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Mount
from aikeys.minting.orphans import SAFETY, Standing
from aikeys.minting.sweep import Sweep
from aikeys.relays.interface import Driver, DriverError
from aikeys.sidecar.mount_table import MountTable
from aikeys.storage.interface import Store

log = structlog.get_logger(__name__)

CHORE = "tidy"
# One run over all mounts takes no longer than this (seconds), and no other process begins one meanwhile.
RUN_SECONDS = 240.0
CLAIM_SECONDS = 300.0
# How often a process looks whether a run is due (seconds).
LOOK_EVERY = 30.0


class Tidying:
    """Of all processes on one store one does it, every `interval` seconds; the first time after one interval."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        sweep: Sweep,
        connections: Connections,
        mounts: MountTable,
        interval: float,
    ) -> None:
        self._store = store
        self._clock = clock
        self._sweep = sweep
        self._connections = connections
        self._mounts = mounts
        self._interval = interval

    def run(self) -> None:
        """Do it if it is due. Raises `StorageError`."""
        now = self._clock.now()
        following = now + timedelta(seconds=self._interval)
        until = now + timedelta(seconds=max(self._interval, CLAIM_SECONDS))
        if not self._store.claim_chore(CHORE, now, until, following):
            return
        deadline = Deadline.after(RUN_SECONDS)
        try:
            for mount in self._mounts.all():
                if not mount.tainted:
                    self._tidy(mount, deadline)
        finally:
            self._store.put_off_chore(CHORE, following)

    def _tidy(self, mount: Mount, deadline: Deadline) -> None:
        try:
            connection = self._connections.state(mount.uuid).connection
            if connection is not None:
                self._end_orphans(mount, connection.driver, deadline)
        except DriverError as error:
            log.warning(
                "tidy_refused",
                mount=mount.path,
                reason=f"the list of keys is not whole: {error.safe_message}",
            )
        except AikeysError as error:
            log.error("tidy_refused", mount=mount.path, reason=str(error))

    def _end_orphans(self, mount: Mount, driver: Driver, deadline: Deadline) -> None:
        plan = self._sweep.plan(mount, driver, SAFETY, deadline)
        plan.raise_if_restored()
        plan.raise_if_unsafe()
        ended = self._sweep.end(mount, plan.orphans)
        counts = {standing.value: len(plan.of(standing)) for standing in Standing}
        log.info("tidied", mount=mount.path, ended=sorted(ended), **counts)
