"""The tokens that hold leases: each stands here once, with the moment at which it is to be looked up again.

A token's row comes with its first lease, in the lease's transaction, and goes when it is due and none of its leases is
active any more. It is never taken away beside that: a lease that is stored while its token's end is noted finds a row,
or makes one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, and_, bindparam, delete, exists, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from aikeys.storage import schema
from aikeys.storage.database import Part
from aikeys.storage.mounts import upsert
from aikeys.storage.records import LeaseRecord, LeaseState, TokenRecord, WitnessRecord
from aikeys.storage.rows import from_micros, to_micros

# The first look comes so soon after an issue because a token may have died while its key was being made.
FIRST_LOOK = timedelta(seconds=1)
# Names in one statement.
_CHUNK = 500

_token, _lease = schema.tokens.c, schema.leases.c
_WATCH = {
    name: make(schema.tokens).on_conflict_do_nothing(index_elements=["accessor"])
    for name, make in (("sqlite", sqlite_insert), ("postgresql", postgresql_insert))
}
# A moment later than any that is ever set means that the clock was set back since, or the interval was.
_DUE = or_(_token.due_at <= bindparam("b_now"), _token.due_at > bindparam("b_latest"))
_ANY_DUE = select(_token.accessor).where(_DUE).limit(1)
_CLAIM = (
    update(schema.tokens)
    .where(
        _token.accessor.in_(
            select(_token.accessor)
            .where(_DUE)
            .order_by(_token.due_at)
            .limit(bindparam("b_limit"))
            .with_for_update(skip_locked=True)
        )
    )
    .values(due_at=bindparam("b_until"))
    .returning(*_token)
)
_NEXT = select(func.min(_token.due_at))
_SETTLE = (
    update(schema.tokens)
    .where(_token.accessor == bindparam("b_accessor"))
    .values(seen_at=bindparam("b_seen"), due_at=bindparam("b_due"))
)
_PARENT = select(schema.batch_parents.c.accessor).where(
    schema.batch_parents.c.token_hash == bindparam("b_hash")
)
_FORGET_PARENTS = delete(schema.batch_parents).where(schema.batch_parents.c.expires_at <= bindparam("b_now"))
_WITNESS = select(schema.witness)
_IS_ACTIVE = _lease.state == LeaseState.ACTIVE.value
# "Not empty" is said for the indexes, which leave the empty ones out.
_HOLDS = or_(
    exists().where(_lease.token_accessor == _token.accessor, _lease.token_accessor != "", _IS_ACTIVE),
    exists().where(_lease.parent_accessor == _token.accessor, _lease.parent_accessor != "", _IS_ACTIVE),
)


def watch(connection: Connection, lease: LeaseRecord) -> None:
    """The token with which `lease` ends, within the lease's transaction."""
    seen, due = to_micros(lease.issue_time), to_micros(lease.issue_time + FIRST_LOOK)
    for accessor, orphan in ((lease.token_accessor, lease.token_orphan), (lease.parent_accessor, False)):
        if accessor:
            row = {"accessor": accessor, "orphan": orphan, "seen_at": seen, "due_at": due}
            connection.execute(_WATCH[connection.dialect.name], row)


class Tokens(Part):
    def claim_tokens(self, now: datetime, until: datetime, latest: datetime, limit: int) -> list[TokenRecord]:
        """Take tokens that are due, the longest waiting first; those without an active lease are forgotten instead.

        One that waits for a moment beyond `latest` is due as well.
        """
        bounds = {
            "b_now": to_micros(now),
            "b_until": to_micros(until),
            "b_latest": to_micros(latest),
            "b_limit": limit,
        }
        # Asked every second by every process, often for nothing: look before taking the pen.
        if self._database.read(lambda connection: connection.execute(_ANY_DUE, bounds).first()) is None:
            return []

        def work(connection: Connection) -> list[TokenRecord]:
            rows = {row.accessor: row for row in connection.execute(_CLAIM, bounds).all()}
            for some in _chunks(list(rows)):
                unheld = delete(schema.tokens).where(_token.accessor.in_(some), ~_HOLDS)
                for accessor in connection.execute(unheld.returning(_token.accessor)).scalars().all():
                    del rows[accessor]
            return [
                TokenRecord(row.accessor, row.orphan, from_micros(row.seen_at), from_micros(row.due_at))
                for row in rows.values()
            ]

        return self._database.write(work)

    def settle_tokens(self, tokens: Sequence[TokenRecord]) -> None:
        """Write down when they were last seen and when they are due again, and give up the claim."""
        rows = [
            {
                "b_accessor": token.accessor,
                "b_seen": to_micros(token.seen_at),
                "b_due": to_micros(token.due_at),
            }
            for token in tokens
        ]
        if rows:
            self._database.write(lambda connection: connection.execute(_SETTLE, rows) and None)

    def hasten_tokens(self, now: datetime, *, orphans: bool) -> int:
        """Make all tokens due now, orphans only when they are meant too; how many were not."""
        statement = update(schema.tokens).where(_token.due_at > to_micros(now)).values(due_at=to_micros(now))
        if not orphans:
            statement = statement.where(_token.orphan.is_(False))
        return self._database.write(lambda connection: connection.execute(statement).rowcount)

    def next_token_due(self) -> datetime | None:
        due = self._database.read(lambda connection: connection.execute(_NEXT).scalar_one())
        return None if due is None else from_micros(due)

    def active_leases_of_tokens(self, accessors: Sequence[str]) -> list[str]:
        """The ids of those that end with these tokens: their own, and those of batch tokens whose parents they are."""

        def work(connection: Connection) -> list[str]:
            found: set[str] = set()
            for some in _chunks(accessors):
                for column in (_lease.token_accessor, _lease.parent_accessor):
                    statement = select(_lease.lease_id).where(
                        and_(column.in_(some), column != "", _IS_ACTIVE)
                    )
                    found.update(connection.execute(statement).scalars())
            return sorted(found)

        return self._database.read(work)

    def put_batch_parent(self, token_hash: str, accessor: str, expires_at: datetime, now: datetime) -> None:
        """Remember whose child a batch token is until it ends; what has ended is forgotten."""
        row = {"token_hash": token_hash, "accessor": accessor, "expires_at": to_micros(expires_at)}

        def work(connection: Connection) -> None:
            connection.execute(_FORGET_PARENTS, {"b_now": to_micros(now)})
            upsert(connection, schema.batch_parents, ("token_hash",), row)

        self._database.write(work)

    def batch_parent(self, token_hash: str) -> str:
        """The parent's accessor, "" when it is not known."""
        found = self._database.read(
            lambda connection: connection.execute(_PARENT, {"b_hash": token_hash}).scalar()
        )
        return str(found or "")

    def witness(self) -> WitnessRecord | None:
        row = self._database.read(lambda connection: connection.execute(_WITNESS).one_or_none())
        if row is None:
            return None
        return _witness_of(row)

    def put_witness(self, record: WitnessRecord) -> None:
        """Neither the number nor the moment goes back."""

        def work(connection: Connection) -> None:
            row = connection.execute(_WITNESS).one_or_none()
            old = record if row is None else _witness_of(row)
            newer = old if old.number > record.number else record
            moments = [one.restored_at for one in (old, record) if one.restored_at is not None]
            connection.execute(delete(schema.witness))
            connection.execute(
                insert(schema.witness),
                {
                    "number": newer.number,
                    "mounts": " ".join(sorted(newer.mounts)),
                    "restored_at": to_micros(max(moments)) if moments else None,
                },
            )

        self._database.write(work)


def _witness_of(row: Row[Any]) -> WitnessRecord:
    restored_at = None if row.restored_at is None else from_micros(row.restored_at)
    return WitnessRecord(row.number, frozenset(row.mounts.split()), restored_at)


def _chunks(accessors: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(accessors), _CHUNK):
        yield accessors[start : start + _CHUNK]
