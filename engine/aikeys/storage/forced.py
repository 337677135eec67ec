"""Keys whose leases were revoked by force: what is known of each, and the claims of those who try them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update

from aikeys.storage import schema
from aikeys.storage.barrier import Barrier
from aikeys.storage.database import Part
from aikeys.storage.records import EndedLease, ForcedKey
from aikeys.storage.rows import ended_row, from_micros, to_micros

_forced = schema.forced_keys.c
_DELETE_LEASE = delete(schema.leases).where(schema.leases.c.lease_id == bindparam("b_lease"))
_INSERT = insert(schema.forced_keys)
_REMEMBER = insert(schema.ended_leases)
_THIS = _forced.lease_id == bindparam("b_lease")
_UPDATE = update(schema.forced_keys).where(_THIS)
_DELETE = delete(schema.forced_keys).where(_THIS)
_ALL = select(schema.forced_keys).order_by(_forced.forced_at, _forced.lease_id)
_ANY_DUE = select(_forced.lease_id).where(_forced.due_at <= bindparam("b_now")).limit(1)
_CLAIM = (
    update(schema.forced_keys)
    .where(
        _forced.lease_id.in_(
            select(_forced.lease_id)
            .where(_forced.due_at <= bindparam("b_now"))
            .order_by(_forced.due_at)
            .limit(bindparam("b_limit"))
            .with_for_update(skip_locked=True)
        )
    )
    .values(claimed=True, due_at=bindparam("b_until"))
    .returning(*_forced)
)
_HASTEN = (
    update(schema.forced_keys)
    .where(
        _forced.mount_uuid == bindparam("b_mount"),
        _forced.claimed.is_(False),
        _forced.due_at > bindparam("b_now"),
    )
    .values(due_at=bindparam("b_now"))
)
_COUNT = (
    select(func.count()).select_from(schema.forced_keys).where(_forced.mount_uuid == bindparam("b_mount"))
)


class Forced(Part):
    def force_lease(self, key: ForcedKey, ended: EndedLease | None = None) -> bool:
        """The lease is gone and its key on record as one that may live on, in one transaction; False when it was gone."""
        row = _row(key, self._barrier)
        memory = None if ended is None or not ended.key_hash else ended_row(ended, self._barrier)

        def work(connection: Connection) -> bool:
            if connection.execute(_DELETE_LEASE, {"b_lease": key.lease_id}).rowcount != 1:
                return False
            connection.execute(_INSERT, row)
            if memory is not None:
                connection.execute(_REMEMBER, memory)
            return True

        return self._database.write(work)

    def forced_keys(self, mount_uuid: str = "", limit: int = 10_000) -> list[ForcedKey]:
        """The longest forced first."""
        statement = (_ALL.where(_forced.mount_uuid == mount_uuid) if mount_uuid else _ALL).limit(limit)
        rows = self._database.read(lambda connection: connection.execute(statement).all())
        return [_key(row, self._barrier) for row in rows]

    def count_forced(self, mount_uuid: str) -> int:
        bounds = {"b_mount": mount_uuid}
        return self._database.read(lambda connection: connection.execute(_COUNT, bounds).scalar_one())

    def claim_forced(self, now: datetime, until: datetime, limit: int) -> list[ForcedKey]:
        """Take those whose next try has come. A claim lapses at `until`."""
        bounds = {"b_now": to_micros(now), "b_until": to_micros(until), "b_limit": limit}
        # Asked every second by every process, mostly for nothing: look before taking the pen.
        if self._database.read(lambda connection: connection.execute(_ANY_DUE, bounds).first()) is None:
            return []
        rows = self._database.write(lambda connection: connection.execute(_CLAIM, bounds).all())
        return [_key(row, self._barrier) for row in rows]

    def update_forced(self, key: ForcedKey) -> None:
        """Write it if it still exists, and give up the claim."""
        row = _row(key, self._barrier)
        row["b_lease"] = row.pop("lease_id")
        self._database.write(lambda connection: connection.execute(_UPDATE, row) and None)

    def delete_forced(self, lease_id: str) -> None:
        self._database.write(lambda connection: connection.execute(_DELETE, {"b_lease": lease_id}) and None)

    def hasten_forced(self, mount_uuid: str, now: datetime) -> int:
        """Make those of a mount that wait for a later try due now; how many."""
        bounds = {"b_mount": mount_uuid, "b_now": to_micros(now)}
        return self._database.write(lambda connection: connection.execute(_HASTEN, bounds).rowcount)


def _row(key: ForcedKey, barrier: Barrier) -> dict[str, Any]:
    return {
        "lease_id": key.lease_id,
        "mount_uuid": key.mount_uuid,
        "secret_type": key.secret_type,
        "sealed_internal": barrier.seal_json(key.internal, "forced_keys", key.lease_id, "internal"),
        "role": key.role,
        "forced_at": to_micros(key.forced_at),
        "key_ends": None if key.key_ends is None else to_micros(key.key_ends),
        "due_at": to_micros(key.due_at),
        "claimed": False,
        "attempts": key.attempts,
        "last_error": key.last_error,
        "deleted_at": None if key.deleted_at is None else to_micros(key.deleted_at),
    }


def _key(row: Row[Any], barrier: Barrier) -> ForcedKey:
    return ForcedKey(
        lease_id=row.lease_id,
        mount_uuid=row.mount_uuid,
        secret_type=row.secret_type,
        internal=barrier.open_json(row.sealed_internal, "forced_keys", row.lease_id, "internal"),
        role=row.role,
        forced_at=from_micros(row.forced_at),
        key_ends=None if row.key_ends is None else from_micros(row.key_ends),
        due_at=from_micros(row.due_at),
        attempts=row.attempts,
        last_error=row.last_error,
        deleted_at=None if row.deleted_at is None else from_micros(row.deleted_at),
    )
