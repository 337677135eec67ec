"""Mint intents: keys that may exist at a relay without a lease."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from aikeys.storage import schema
from aikeys.storage.keys import Keys
from aikeys.storage.limits import admit
from aikeys.storage.mounts import upsert
from aikeys.storage.records import IntentRecord, IntentState, IssueLimits
from aikeys.storage.rows import intent_record, intent_row, to_micros

_intent = schema.intents.c
_INSERT = insert(schema.intents)
_UPDATE = update(schema.intents).where(_intent.intent_id == bindparam("b_intent"))
_DELETE = delete(schema.intents).where(_intent.intent_id == bindparam("b_intent"))
_ALL = select(schema.intents).order_by(_intent.created_at)
_CLAIM = (
    update(schema.intents)
    .where(
        _intent.intent_id.in_(
            select(_intent.intent_id)
            .where(_intent.due_at <= bindparam("b_now"))
            .order_by(_intent.due_at)
            .limit(bindparam("b_limit"))
            .with_for_update(skip_locked=True)
        )
    )
    .values(state=IntentState.SETTLING.value, claimed=True, due_at=bindparam("b_until"))
    .returning(*_intent)
)
_ANY_DUE = select(_intent.intent_id).where(_intent.due_at <= bindparam("b_now")).limit(1)
_HASTEN = (
    update(schema.intents)
    .where(_intent.mount_uuid == bindparam("b_mount"), _intent.claimed.is_(False))
    .values(state=IntentState.SETTLING.value, due_at=bindparam("b_now"))
)
# Only an intent that nobody settles may become a lease.
COMPLETE = delete(schema.intents).where(
    _intent.intent_id == bindparam("b_intent"), _intent.state == IntentState.MINTING.value
)


class Intents(Keys):
    def put_intent(self, record: IntentRecord, limits: IssueLimits | None = None) -> str:
        """The serial it was given. With `limits`, `LimitReached` when the role has as much as it may."""
        row = intent_row(record)

        def work(connection: Connection) -> str:
            if limits is not None:
                admit(connection, record, limits)
            serial = self._next_serial(connection, record.created_at)
            connection.execute(_INSERT, {**row, "serial": serial})
            return serial

        # Each key needs room for its end, too.
        return self._database.write(work, with_reserve=False)

    def update_intent(self, record: IntentRecord) -> None:
        """Write it if it still exists, and give up the claim."""
        row = intent_row(record)
        row["b_intent"] = row.pop("intent_id")
        self._database.write(lambda connection: connection.execute(_UPDATE, row) and None)

    def delete_intent(self, intent_id: str) -> None:
        self._database.write(lambda connection: connection.execute(_DELETE, {"b_intent": intent_id}) and None)

    def intents(self, mount_uuid: str = "") -> list[IntentRecord]:
        statement = _ALL.where(_intent.mount_uuid == mount_uuid) if mount_uuid else _ALL
        return [intent_record(row) for row in self._database.read(lambda c: c.execute(statement).all())]

    def claim_intents(self, now: datetime, until: datetime, limit: int) -> list[IntentRecord]:
        """Take intents that are due. From then on they are SETTLING: no lease can come of them any more."""
        bounds = {"b_now": to_micros(now), "b_until": to_micros(until), "b_limit": limit}
        # Asked every second by every process, mostly for nothing: look before taking the pen.
        if self._database.read(lambda connection: connection.execute(_ANY_DUE, bounds).first()) is None:
            return []
        rows = self._database.write(lambda connection: connection.execute(_CLAIM, bounds).all())
        return [intent_record(row) for row in rows]

    def hasten_intents(self, mount_uuid: str, now: datetime) -> None:
        """Settle all intents of a mount at once, those of mints under way included: none becomes a lease any more."""
        bounds = {"b_mount": mount_uuid, "b_now": to_micros(now)}
        self._database.write(lambda connection: connection.execute(_HASTEN, bounds) and None)

    def reopen_intent(self, record: IntentRecord, lease_id: str = "") -> None:
        """Undo an issue that failed on its last step: no lease, and the intent on record again, however far the
        failed transaction came."""
        row = intent_row(record)

        def work(connection: Connection) -> None:
            connection.execute(delete(schema.leases).where(schema.leases.c.lease_id == lease_id))
            upsert(connection, schema.intents, ("intent_id",), row)

        self._database.write(work)
