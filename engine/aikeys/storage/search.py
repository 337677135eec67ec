"""Finding leases by their key or by who holds them, and what is remembered of those that have ended.

Nothing here is indexed for its question alone: it is asked in an emergency, and answered by reading a mount's leases
once (100,000 of them in a fraction of a second), while every issue would pay for an index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, TypeVar

import structlog
from sqlalchemy import ColumnElement, Connection, Row, bindparam, delete, func, not_, or_, select

from aikeys.errors import StorageError
from aikeys.storage import schema
from aikeys.storage.barrier import Barrier
from aikeys.storage.database import Part
from aikeys.storage.leases import is_over
from aikeys.storage.records import EndedLease, Holder, LeaseRecord
from aikeys.storage.rows import ended_lease, from_micros, lease_record, to_micros

T = TypeVar("T")
_log = structlog.get_logger(__name__)

_lease, _ended, _issue = schema.leases.c, schema.ended_leases.c, schema.issues.c
# One transaction takes no more than this, so that no issue waits long for it.
_FORGOTTEN_AT_ONCE = 1000
# A search by what is sealed reads so many rows at once, and so many in all.
_PAGE = 250
_MOST_READ = 10_000
_BEYOND_ALL = 2**62


class Search(Part):
    def leases_of_key(self, mount_uuid: str, key_hash: str = "", prefix_hash: str = "") -> list[LeaseRecord]:
        """Those whose key has this hash, or begins with what has that one; by issue."""
        statement = (
            select(schema.leases)
            .where(_lease.mount_uuid == mount_uuid, _hashed(_lease, key_hash, prefix_hash))
            .order_by(_lease.issue_time)
        )
        rows = self._database.read(lambda connection: connection.execute(statement).all())
        return self._readable(rows, lease_record)

    def ended_of_key(self, mount_uuid: str, key_hash: str = "", prefix_hash: str = "") -> list[EndedLease]:
        """The same of leases that have ended and are still remembered; by end."""
        statement = (
            select(schema.ended_leases)
            .where(_ended.mount_uuid == mount_uuid, _hashed(_ended, key_hash, prefix_hash))
            .order_by(_ended.number)
        )
        rows = self._database.read(lambda connection: connection.execute(statement).all())
        return self._readable(rows, ended_lease)

    def lease_ids_of(self, mount_uuid: str, holder: Holder) -> list[str]:
        """Those of one holder, sorted."""
        statement = select(_lease.lease_id).where(_lease.mount_uuid == mount_uuid, *_held_by(holder))
        statement = statement.order_by(_lease.lease_id)
        return list(self._database.read(lambda connection: connection.execute(statement).scalars().all()))

    def leases_by_end(
        self, mount_uuid: str, now: datetime, *, over: bool, role: str, limit: int
    ) -> list[LeaseRecord]:
        """Those that are over, or those that are not, of a role ("": of all), what is due next first."""
        conditions = [_lease.mount_uuid == mount_uuid, is_over(now) if over else not_(is_over(now))]
        if role:
            conditions.append(_lease.role == role)
        statement = (
            select(schema.leases).where(*conditions).order_by(_lease.due_at, _lease.lease_id).limit(limit)
        )
        rows = self._database.read(lambda connection: connection.execute(statement).all())
        return self._readable(rows, lease_record)

    def latest_ended(self, mount_uuid: str, role: str, limit: int) -> list[EndedLease]:
        """The same of remembered ones, the latest first. The role is sealed: the latest are read until there are
        enough of it, but not all that are remembered."""
        found: list[EndedLease] = []
        page = select(schema.ended_leases).where(
            _ended.mount_uuid == mount_uuid, _ended.number < bindparam("b_before")
        )
        page = page.order_by(_ended.number.desc()).limit(_PAGE)
        bounds = {"b_before": _BEYOND_ALL}
        for _ in range(_MOST_READ // _PAGE):
            rows = self._database.read(lambda connection: connection.execute(page, bounds).all())
            if not rows or len(found) >= limit:
                break
            bounds["b_before"] = rows[-1].number
            found += [one for one in self._readable(rows, ended_lease) if not role or one.role == role]
        return found[:limit]

    def remembered_since(self, mount_uuid: str) -> datetime | None:
        """The end of the longest remembered lease of a mount."""
        statement = select(func.min(_ended.ended_at)).where(_ended.mount_uuid == mount_uuid)
        first = self._database.read(lambda connection: connection.execute(statement).scalar_one())
        return None if first is None else from_micros(first)

    def forget(self, before: datetime) -> int:
        """Let go of some of the leases that ended and of the issues that were noted before a moment. How many: call
        it again until there are none."""
        moment = to_micros(before)
        ended = select(_ended.number).where(_ended.ended_at < moment).limit(_FORGOTTEN_AT_ONCE)
        issues = select(_issue.number).where(_issue.at < moment).limit(_FORGOTTEN_AT_ONCE)
        statements = (
            delete(schema.ended_leases).where(_ended.number.in_(ended)),
            delete(schema.issues).where(_issue.number.in_(issues)),
        )

        def work(connection: Connection) -> int:
            return sum(connection.execute(statement).rowcount for statement in statements)

        return self._database.write(work)

    def _readable(self, rows: Iterable[Row[Any]], read: Callable[[Row[Any], Barrier], T]) -> list[T]:
        records: list[T] = []
        for row in rows:
            try:
                records.append(read(row, self._barrier))
            except StorageError as error:
                # One damaged row must not hide the others.
                _log.error("a lease cannot be read and is left out", error=str(error))
        return records


def _hashed(columns: Any, key_hash: str, prefix_hash: str) -> ColumnElement[bool]:
    if bool(key_hash) is bool(prefix_hash):
        raise ValueError(
            "either the key's hash or its prefix's, and not the empty one of leases that have none"
        )
    found: ColumnElement[bool] = (
        columns.key_hash == key_hash if key_hash else columns.prefix_hash == prefix_hash
    )
    return found


def _held_by(holder: Holder) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if holder.role:
        conditions.append(_lease.role == holder.role)
    if holder.entity_id:
        conditions.append(_lease.entity_id == holder.entity_id)
    if holder.token_accessor:
        accessor = holder.token_accessor
        conditions.append(or_(_lease.token_accessor == accessor, _lease.parent_accessor == accessor))
    if holder.login_role:
        # Compared by letters, since LIKE takes no notice of their case in SQLite.
        base = f"auth/{holder.auth_mount}/"
        conditions.append(_lease.login_role == holder.login_role)
        conditions.append(func.substr(_lease.login_path, 1, len(base)) == base)
    if not conditions:
        raise ValueError("nobody is named whose leases are meant")
    return conditions
