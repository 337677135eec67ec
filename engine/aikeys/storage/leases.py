"""Leases: their rows, the searches over them, and the claims of those who end them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any

import structlog
from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    bindparam,
    case,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from aikeys.errors import StorageError
from aikeys.storage import schema
from aikeys.storage.database import Part, range_end, storable
from aikeys.storage.intents import COMPLETE
from aikeys.storage.records import EndedLease, LeaseRecord, LeaseState
from aikeys.storage.rows import ended_row, from_micros, lease_record, lease_row, to_micros
from aikeys.storage.tokens import watch

_log = structlog.get_logger(__name__)

_lease = schema.leases.c
_ACTIVE, _REVOKING = LeaseState.ACTIVE.value, LeaseState.REVOKING.value
# SQLite takes 32,766 parameters in one statement; this many keep each one short.
_CHUNK = 500
# Ended leases, of all mounts together: some 70 MB.
MOST_REMEMBERED = 100_000

_INSERT = insert(schema.leases)
_GET = select(schema.leases).where(_lease.lease_id == bindparam("b_lease"))
_UPDATE = update(schema.leases).where(
    _lease.lease_id == bindparam("b_lease"), _lease.state == bindparam("b_state")
)
_DELETE = delete(schema.leases).where(_lease.lease_id == bindparam("b_lease"))
_REMEMBER = insert(schema.ended_leases)
_FORGET = delete(schema.ended_leases).where(schema.ended_leases.c.number <= bindparam("b_last"))
_BELOW = (_lease.lease_id > bindparam("b_after"), _lease.lease_id < bindparam("b_end"))
_PAGE = select(schema.leases).where(*_BELOW).order_by(_lease.lease_id).limit(bindparam("b_limit"))
_ID_PAGE = select(_lease.lease_id).where(*_BELOW).order_by(_lease.lease_id).limit(bindparam("b_limit"))
_IDS = select(_lease.lease_id).where(*_BELOW).order_by(_lease.lease_id)
# An active lease is due at its end (see `lease_row`), one that is being revoked at its next attempt.
_DUE = (_lease.mount_uuid == bindparam("b_mount"), _lease.due_at <= bindparam("b_now"))
_CLAIM = (
    update(schema.leases)
    .where(
        _lease.lease_id.in_(
            select(_lease.lease_id)
            .where(*_DUE)
            .order_by(_lease.due_at)
            .limit(bindparam("b_limit"))
            .with_for_update(skip_locked=True)
        )
    )
    .values(state=_REVOKING, claimed=True, due_at=bindparam("b_until"))
    .returning(*_lease)
)
_FIRST_DUE = (
    select(func.min(_lease.due_at))
    .where(_lease.mount_uuid == schema.mounts.c.uuid)
    .correlate(schema.mounts)
    .scalar_subquery()
)
_DUE_MOUNTS = select(schema.mounts.c.uuid).where(bindparam("b_now") >= _FIRST_DUE).order_by(_FIRST_DUE)
_NEXT_DUE = (
    select(func.min(_FIRST_DUE)).select_from(schema.mounts).scalar_subquery(),
    select(func.min(schema.intents.c.due_at)).scalar_subquery(),
    select(func.min(schema.wrapped.c.expires_at)).scalar_subquery(),
)
_FAILING = select(schema.leases).where(_lease.attempts > 0)


class Leases(Part):
    def complete_intent(self, intent_id: str, lease: LeaseRecord) -> None:
        """Store the lease and remove the intent in one transaction.

        StorageError when the intent is gone or being settled: then the key must not be handed out.
        """
        row = lease_row(lease, self._barrier)

        def work(connection: Connection) -> None:
            if connection.execute(COMPLETE, {"b_intent": intent_id}).rowcount != 1:
                raise StorageError(
                    f"the mint intent {intent_id} was settled meanwhile; its key is not handed out"
                )
            connection.execute(_INSERT, row)
            watch(connection, lease)

        self._database.write(work)

    def put_lease(self, record: LeaseRecord) -> None:
        row = lease_row(record, self._barrier)

        def work(connection: Connection) -> None:
            connection.execute(_INSERT, row)
            watch(connection, record)

        self._database.write(work)

    def lease(self, lease_id: str) -> LeaseRecord | None:
        if not storable(lease_id):
            return None
        row = self._database.read(
            lambda connection: connection.execute(_GET, {"b_lease": lease_id}).one_or_none()
        )
        return None if row is None else lease_record(row, self._barrier)

    def update_lease(self, record: LeaseRecord, *, expected: LeaseState) -> bool:
        """Write it if it still exists in state `expected`, and give up the claim; False otherwise."""
        row = lease_row(record, self._barrier)
        row["b_lease"] = row.pop("lease_id")
        row["b_state"] = expected.value
        return self._database.write(lambda connection: connection.execute(_UPDATE, row).rowcount == 1)

    def delete_lease(self, lease_id: str, ended: EndedLease | None = None) -> bool:
        """Remove it and remember `ended` in one transaction; False when it was gone, and then nothing is remembered."""
        row = None if ended is None or not ended.key_hash else ended_row(ended, self._barrier)

        def work(connection: Connection) -> bool:
            gone: bool = connection.execute(_DELETE, {"b_lease": lease_id}).rowcount == 1
            if gone and row is not None:
                (number,) = connection.execute(_REMEMBER, row).inserted_primary_key or (0,)
                connection.execute(_FORGET, {"b_last": number - MOST_REMEMBERED})
            return gone

        return self._database.write(work)

    # searches

    def leases_with_prefix(self, prefix: str, after: str = "", limit: int = 1000) -> list[LeaseRecord]:
        if not storable(prefix):
            return []
        bounds = {"b_after": max(after, prefix), "b_end": range_end(prefix), "b_limit": limit}
        return self._records(self._database.read(lambda connection: connection.execute(_PAGE, bounds).all()))

    def lease_ids_with_prefix(self, prefix: str) -> list[str]:
        if not storable(prefix):
            return []
        bounds = {"b_after": prefix, "b_end": range_end(prefix)}
        return list(self._database.read(lambda connection: connection.execute(_IDS, bounds).scalars().all()))

    def lease_names(self, prefix: str) -> list[str]:
        """One level below `prefix`, which ends in "/" or is empty; what has more below it ends in "/".

        Jumps over what lies below a directory, so a listing of the top costs the same with 100,000 leases.
        """

        def work(connection: Connection) -> list[str]:
            names: list[str] = []
            after, end = prefix, range_end(prefix)
            while True:
                bounds = {"b_after": after, "b_end": end, "b_limit": _CHUNK}
                page = connection.execute(_ID_PAGE, bounds).scalars().all()
                if not page:
                    return names
                for lease_id in page:
                    head, slash, _ = lease_id.removeprefix(prefix).partition("/")
                    names.append(head + slash)
                    after = lease_id
                    if slash:
                        after = range_end(prefix + head + slash)
                        break

        return self._database.read(work) if storable(prefix) else []

    def failing_leases(self, mount_uuid: str = "", limit: int = 10_000) -> list[LeaseRecord]:
        """Those whose revocation has failed at least once, by the end they should have had."""
        statement = _FAILING.where(_lease.mount_uuid == mount_uuid) if mount_uuid else _FAILING
        statement = statement.order_by(_lease.expire_time, _lease.lease_id).limit(limit)
        return self._records(self._database.read(lambda connection: connection.execute(statement).all()))

    def count_leases(
        self, mount_uuid: str = "", role: str = "", *, failing: bool = False, over: datetime | None = None
    ) -> int:
        """`over`: only those that had to end by that moment, whether somebody has begun to revoke them or not."""
        conditions: list[ColumnElement[bool]] = []
        if mount_uuid:
            conditions.append(_lease.mount_uuid == mount_uuid)
        if role:
            conditions.append(_lease.role == role)
        if failing:
            conditions.append(_lease.attempts > 0)
        if over is not None:
            conditions.append(is_over(over))
        statement = select(func.count()).select_from(schema.leases).where(*conditions)
        return self._database.read(lambda connection: connection.execute(statement).scalar_one())

    # the end of a lease

    def mark_revoking(self, lease_ids: Sequence[str], now: datetime, until: datetime | None = None) -> int:
        """ACTIVE to REVOKING in one transaction: what is decided survives a crash. How many were ACTIVE.

        Due now, also those that were REVOKING and waited or were claimed. With `until` the caller claims them:
        nobody else takes them up before.
        """
        moment = to_micros(now)
        due = {"due_at": moment if until is None else to_micros(until), "claimed": until is not None}
        end = {"expire_time": case((_lease.expire_time > moment, moment), else_=_lease.expire_time)}
        ended = (_lease.state == _REVOKING,)
        # What is due already needs no writing, unless somebody claims it.
        if_waiting = (*ended, _lease.due_at > moment) if until is None else ended

        def work(connection: Connection) -> int:
            marked = 0
            for some in _chunks(lease_ids):
                these = _lease.lease_id.in_(some)
                connection.execute(update(schema.leases).where(these, *if_waiting).values(due))
                statement = update(schema.leases).where(these, _lease.state == _ACTIVE)
                marked += connection.execute(statement.values(state=_REVOKING, **due, **end)).rowcount
            return marked

        return self._database.write(work)

    def due_mounts(self, now: datetime) -> list[str]:
        """Mounts with a lease that is due, the longest waiting first."""
        bounds = {"b_now": to_micros(now)}
        return list(
            self._database.read(lambda connection: connection.execute(_DUE_MOUNTS, bounds).scalars().all())
        )

    def claim_due_leases(
        self, now: datetime, until: datetime, limit: int, mount_uuid: str = ""
    ) -> list[LeaseRecord]:
        """Take leases whose end or next attempt has come; they are REVOKING from then on.

        One mount's, or of all mounts in turn. A claim lapses at `until`.
        """
        mounts = [mount_uuid] if mount_uuid else self.due_mounts(now)

        def work(connection: Connection) -> list[Row[Any]]:
            rows: list[Row[Any]] = []
            for mount in mounts:
                bounds = {
                    "b_mount": mount,
                    "b_now": to_micros(now),
                    "b_until": to_micros(until),
                    "b_limit": limit - len(rows),
                }
                rows.extend(connection.execute(_CLAIM, bounds).all())
                if len(rows) >= limit:
                    break
            return rows

        return self._records(self._database.write(work) if mounts else [])

    def extend_claims(self, lease_ids: Sequence[str], until: datetime) -> None:
        """Keep what one has claimed and still works on."""

        def work(connection: Connection) -> None:
            for some in _chunks(lease_ids):
                statement = update(schema.leases).where(_lease.lease_id.in_(some), _lease.claimed.is_(True))
                connection.execute(statement.values(due_at=to_micros(until)))

        self._database.write(work)

    def hasten(self, mount_uuid: str, now: datetime, limit: int | None = None) -> int:
        """Make failing leases of a mount that wait for a later attempt due now; how many."""
        waiting = (
            select(_lease.lease_id)
            .where(
                _lease.mount_uuid == mount_uuid,
                _lease.attempts > 0,
                _lease.state == _REVOKING,
                _lease.claimed.is_(False),
                _lease.due_at > to_micros(now),
            )
            .limit(limit)
        )
        statement = update(schema.leases).where(_lease.lease_id.in_(waiting)).values(due_at=to_micros(now))
        return self._database.write(lambda connection: connection.execute(statement).rowcount)

    def release_stale(self, now: datetime, latest: datetime) -> int:
        """Make due what waits for a moment later than any back-off or claim can be: the clock stepped back, or a
        row was written by hand. How many leases and intents that were."""
        moment, bound = to_micros(now), to_micros(latest)
        leases = update(schema.leases).where(_lease.state == _REVOKING, _lease.due_at > bound)
        intents = update(schema.intents).where(schema.intents.c.due_at > bound)

        def work(connection: Connection) -> int:
            return sum(
                connection.execute(statement.values(due_at=moment, claimed=False)).rowcount
                for statement in (leases, intents)
            )

        return self._database.write(work)

    def next_due(self) -> datetime | None:
        """When the next lease, intent or wrapped answer wants attention."""
        row = self._database.read(lambda connection: connection.execute(select(*_NEXT_DUE)).one())
        moments = [value for value in row if value is not None]
        return from_micros(min(moments)) if moments else None

    def _records(self, rows: Iterable[Row[Any]]) -> list[LeaseRecord]:
        records: list[LeaseRecord] = []
        for row in rows:
            try:
                records.append(lease_record(row, self._barrier))
            except StorageError as error:
                # One damaged row must not keep all others from being revoked.
                _log.error("a lease cannot be read and is left out", lease_id=row.lease_id, error=str(error))
        return records


def is_over(now: datetime) -> ColumnElement[bool]:
    """Being revoked, or past its end and not yet taken up, as while its relay is away."""
    over: ColumnElement[bool] = or_(_lease.state == _REVOKING, _lease.expire_time <= to_micros(now))
    return over


def _chunks(items: Sequence[str]) -> Iterator[list[str]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, _CHUNK)):
        yield chunk
