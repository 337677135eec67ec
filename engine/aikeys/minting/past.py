"""Whether an intent of an earlier process may be settled, or comes from an older copy of the database.

In a restored backup stand intents of mints that were under way when it was made. Long since a lease may hold such a
key, in a database that is gone. So before what a dead process left is settled, the relay is asked whether it has keys
that this database never asked for. If it has, the intent stays open: until those keys have ended, or an operator takes
them for this database's own (`tidy`).

What it cannot see: a copy made while a key was under way, put back before any further key was made.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from aikeys.errors import AikeysError
from aikeys.framework.clock import Clock
from aikeys.framework.deadline import Deadline
from aikeys.minting.bounds import MintBounds
from aikeys.minting.marks import name_prefix, read_mark
from aikeys.relays.interface import Driver
from aikeys.storage.interface import Store
from aikeys.storage.records import IntentRecord

_log = structlog.get_logger(__name__)

# How long an answer counts, in seconds. A good one does not change by itself; after a bad one somebody is at work.
GOOD_FOR = 60.0
BAD_FOR = 15.0


class OlderCopy(AikeysError):
    """Its text says what was seen."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """At `at` (monotonic) the keys made after `since` had been looked at; `problem` is "" when all were known."""

    at: float
    since: datetime
    problem: str

    def holds(self, now: float, since: datetime) -> bool:
        return now - self.at < (BAD_FOR if self.problem else GOOD_FOR) and self.since <= since


class Past:
    """Safe for many threads."""

    def __init__(self, store: Store, clock: Clock, bounds: MintBounds) -> None:
        self._store = store
        self._clock = clock
        self._bounds = bounds
        self._seen: dict[str, _Seen] = {}

    def check(self, record: IntentRecord, driver: Driver, deadline: Deadline) -> None:
        """Return when the intent is surely this database's own. `OlderCopy` when it is not, `DriverError` when the
        relay cannot be asked."""
        if self._store.gave(record.serial):
            return
        since = record.created_at - timedelta(seconds=self._bounds.expiry_margin)
        seen = self._seen.get(record.mount_uuid)
        if seen is None or not seen.holds(self._clock.monotonic(), since):
            seen = self._seen[record.mount_uuid] = self._look(record, driver, since, deadline)
        if seen.problem:
            raise OlderCopy(seen.problem)

    def _look(self, record: IntentRecord, driver: Driver, since: datetime, deadline: Deadline) -> _Seen:
        instance = record.name.split("-")[1]
        serials = self._store.serials()
        problem = ""
        for key in driver.list(name_prefix(instance), deadline, created_after=since):
            mark = read_mark(instance, key)
            if mark is None or mark.given(serials):
                continue
            # Another process may just have asked for it.
            serials = self._store.serials()
            if not mark.given(serials):
                problem = (
                    f"the relay has key {key.ref.key_id} ({key.ref.name}), which this database never asked for: the "
                    "database is an older copy, or has a twin. Mints that were under way in it are left alone, since "
                    "leases may hold their keys; read tidy for what to do"
                )
                _log.error("this database is not the one that made all of its keys", problem=problem)
                break
        return _Seen(self._clock.monotonic(), since, problem)
