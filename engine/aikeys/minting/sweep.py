"""The orphan sweep: looks for a mount's keys that no lease knows, and puts their end on record.

The end itself is the resolver's, as that of every other key without a lease: an intent says that the key exists and
is to be revoked, so a process that dies at any moment loses nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta

import structlog

from aikeys.framework.clock import Clock
from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Mount
from aikeys.minting.marks import name_prefix
from aikeys.minting.orphans import Judged, Plan, ceilings, make_plan
from aikeys.relays.interface import Driver
from aikeys.storage.failpoints import reach
from aikeys.storage.interface import Store
from aikeys.storage.records import IntentRecord

_log = structlog.get_logger(__name__)

# With the key's id: two sweeps at once put the same thing on record.
_INTENT = "tidy-"


class Sweep:
    """Safe for many threads and processes on one store."""

    def __init__(self, store: Store, clock: Clock) -> None:
        """`wake` is called when there is something for the resolver."""
        self._store = store
        self._clock = clock
        self.wake: Callable[[], None] = lambda: None

    def plan(self, mount: Mount, driver: Driver, safety: timedelta, deadline: Deadline) -> Plan:
        """Raises `DriverError` when the relay's list cannot be read whole: a part of it is no plan."""
        # The relay is read first. A key that it shows was on record before it was made, and its name is on record
        # until it is dead: so what nobody knows afterwards is nobody's.
        listed = [*driver.list(name_prefix(mount.instance), deadline)]
        return make_plan(
            listed,
            instance=mount.instance,
            known=self._store.known_keys(mount.uuid),
            serials=self._store.serials(),
            now=self._clock.now(),
            safety=safety,
        )

    def end(self, mount: Mount, orphans: Iterable[Judged]) -> dict[str, str]:
        """Put their end on record; the intent of each key by the key's id. StorageError when that fails: then it is
        on record of some."""
        recorded: dict[str, str] = {}
        for judged in orphans:
            key = judged.key
            record = IntentRecord.of_abandoned_key(
                intent_id=_INTENT + key.ref.key_id,
                mount_uuid=mount.uuid,
                key_ref=key.ref.to_json(),
                expires_at=key.expires_at,
                now=self._clock.now(),
                reason="tidy: no lease knows this key",
            )
            self._store.reopen_intent(record)
            reach("tidy.recorded")
            recorded[key.ref.key_id] = record.intent_id
            _log.warning(
                "a key that no lease knows is to end",
                mount=mount.path,
                key_id=key.ref.key_id,
                key_name=key.ref.name,
                age=judged.age,
            )
        if recorded:
            self.wake()
        return recorded

    def unfinished(self, mount: Mount, recorded: dict[str, str]) -> list[str]:
        """The ids of those keys whose end is still to come."""
        open_intents = {record.intent_id for record in self._store.intents(mount.uuid)}
        return [key_id for key_id, intent_id in recorded.items() if intent_id in open_intents]

    def accept(self, mount: Mount, plan: Plan) -> None:
        """Take the keys that this database never asked for as its own."""
        given = ceilings(plan.newer)
        self._store.adopt_serials(given)
        _log.warning(
            "keys that this database never asked for are taken for its own",
            mount=mount.path,
            keys=len(plan.newer),
            serials=given,
        )
