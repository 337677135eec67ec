"""Answers that wait behind the upstream's wrapping tokens."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, insert, or_, select, update

from aikeys.storage import schema
from aikeys.storage.database import Part
from aikeys.storage.records import LeaseState, WrappedRecord
from aikeys.storage.rows import to_micros, wrapped_record, wrapped_row

_wrapped = schema.wrapped.c
_lease = schema.leases.c
_INSERT = insert(schema.wrapped)
_GET = select(schema.wrapped).where(
    or_(_wrapped.token_hash == bindparam("b_hash"), _wrapped.accessor_hash == bindparam("b_hash"))
)
_TAKE = delete(schema.wrapped).where(_wrapped.token_hash == bindparam("b_hash")).returning(*_wrapped)
_LAPSED = select(schema.wrapped).where(_wrapped.expires_at <= bindparam("b_now")).limit(bindparam("b_limit"))


class Wrapped(Part):
    def put_wrapped(self, record: WrappedRecord) -> None:
        row = wrapped_row(record, self._barrier)
        self._database.write(lambda connection: connection.execute(_INSERT, row) and None)

    def wrapped(self, hash_value: str) -> WrappedRecord | None:
        row = self._database.read(
            lambda connection: connection.execute(_GET, {"b_hash": hash_value}).one_or_none()
        )
        return None if row is None else wrapped_record(row, self._barrier)

    def take_wrapped(self, token_hash: str) -> WrappedRecord | None:
        rows = self._database.write(
            lambda connection: connection.execute(_TAKE, {"b_hash": token_hash}).all()
        )
        return wrapped_record(rows[0], self._barrier) if rows else None

    def lapsed_wrapped(self, now: datetime, limit: int) -> list[WrappedRecord]:
        """Remove and return those that ended unread; their leases become REVOKING in the same transaction, so a
        crash in between cannot leave a key that nobody can ever get."""
        moment = to_micros(now)
        bounds = {"b_now": moment, "b_limit": limit}
        # Asked every second by every process, mostly for nothing: look before taking the pen.
        if self._database.read(lambda connection: connection.execute(_LAPSED, bounds).first()) is None:
            return []

        def work(connection: Connection) -> list[WrappedRecord]:
            rows = connection.execute(_LAPSED, bounds).all()
            if rows:
                connection.execute(
                    delete(schema.wrapped).where(_wrapped.token_hash.in_([row.token_hash for row in rows]))
                )
                connection.execute(
                    update(schema.leases)
                    .where(
                        _lease.lease_id.in_([row.lease_id for row in rows if row.lease_id]),
                        _lease.state == LeaseState.ACTIVE.value,
                    )
                    .values(state=LeaseState.REVOKING.value, due_at=moment, expire_time=moment)
                )
            return [wrapped_record(row, self._barrier) for row in rows]

        return self._database.write(work)
