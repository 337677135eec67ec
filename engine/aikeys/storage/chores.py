"""Work that comes up from time to time and that one of all processes does."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, insert, or_, select, update

from aikeys.storage import schema
from aikeys.storage.database import Part
from aikeys.storage.rows import to_micros

_chore = schema.chores.c
_DUE_AT = select(_chore.due_at).where(_chore.name == bindparam("b_name"))
_CLAIM = (
    update(schema.chores)
    .where(_chore.name == bindparam("b_name"))
    # Later than anybody claims to: the clock was set back since, or the interval was.
    .where(or_(_chore.due_at <= bindparam("b_now"), _chore.due_at > bindparam("b_until")))
    .values(due_at=bindparam("b_until"))
)
_SET = update(schema.chores).where(_chore.name == bindparam("b_name")).values(due_at=bindparam("b_due"))


class Chores(Part):
    def claim_chore(self, name: str, now: datetime, until: datetime, first: datetime) -> bool:
        """Whether the caller is to do it: it is due, and nobody else gets it before `until`.

        One that was never heard of is due at `first`.
        """
        bounds = {"b_name": name, "b_now": to_micros(now), "b_until": to_micros(until)}
        due = self._database.read(lambda connection: connection.execute(_DUE_AT, bounds).scalar())
        if due is not None and bounds["b_now"] < due <= bounds["b_until"]:
            return False

        def work(connection: Connection) -> bool:
            if connection.execute(_DUE_AT, bounds).scalar() is None:
                row = {"name": name, "due_at": to_micros(first)}
                connection.execute(insert(schema.chores), row)
            return bool(connection.execute(_CLAIM, bounds).rowcount)

        return self._database.write(work)

    def put_off_chore(self, name: str, due_at: datetime) -> None:
        """It is done; the next time is `due_at`."""
        bounds = {"b_name": name, "b_due": to_micros(due_at)}
        self._database.write(lambda connection: connection.execute(_SET, bounds) and None)
