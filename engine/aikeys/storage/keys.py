"""What the store knows of the keys at a relay: their names, and which serials it has given.

Every mint intent gets a serial, `<series>.<number>`, in the transaction that stores it, and the key carries that at
the relay. A process draws a series of its own and counts in it. So a copy of the database knows exactly the serials
given before it was made: a process that goes on beside it counts further in a series whose number stands still in the
copy, and later ones draw series of which the copy has never heard. Whoever opens the copy sees by a key's serial that
the key came after it.

A new series is never wrong, so one is drawn whenever the process cannot be sure that it counts on where it stood.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, insert, literal, select, union_all, update

from aikeys.storage import schema
from aikeys.storage.barrier import Barrier
from aikeys.storage.database import Database, Part
from aikeys.storage.mounts import upsert
from aikeys.storage.records import KnownKeys

# Lower-case base32 (RFC 4648): 50 random bits, among some thousand series a year.
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"
_SERIES_LENGTH = 10
# A machine that is set back with its memory counts on where it stood then, but for no longer than this.
SERIES_LIFE = timedelta(hours=1)

_series = schema.serials.c
_COUNT = (
    update(schema.serials)
    # Less than this process gave: the database was set back under it, or its last transaction came to nothing.
    .where(_series.series == bindparam("b_series"), _series.given >= bindparam("b_last"))
    .values(given=_series.given + 1)
    .returning(_series.given)
)
_NAMES = union_all(
    select(schema.leases.c.key_name.label("name"), literal(1).label("leased")).where(
        schema.leases.c.mount_uuid == bindparam("b_mount")
    ),
    select(schema.intents.c.name, literal(0)).where(schema.intents.c.mount_uuid == bindparam("b_mount")),
)


@dataclass(slots=True)
class _Drawn:
    """A series of this process's, when it was drawn, and the last number it gave."""

    series: str
    at: datetime
    last: int


class Keys(Part):
    def __init__(self, database: Database, barrier: Barrier) -> None:
        super().__init__(database, barrier)
        self._drawn: _Drawn | None = None
        self._own: set[str] = set()

    def known_keys(self, mount_uuid: str) -> KnownKeys:
        """The names of a mount's keys that a lease or an open intent has, all of one moment."""
        bounds = {"b_mount": mount_uuid}
        rows = self._database.read(lambda connection: connection.execute(_NAMES, bounds).all())
        return KnownKeys(
            leased=frozenset(row.name for row in rows if row.leased),
            open=frozenset(row.name for row in rows if not row.leased),
        )

    def serials(self) -> dict[str, int]:
        """Of every series the last number given."""
        rows = self._database.read(lambda connection: connection.execute(select(schema.serials)).all())
        return {row.series: row.given for row in rows}

    def gave(self, serial: str) -> bool:
        """Whether this very process gave the serial, on the database as it is now."""
        return serial.partition(".")[0] in self._own

    def adopt_serials(self, given: Mapping[str, int]) -> None:
        """Take these for serials of this store's own: all up to each number."""

        def work(connection: Connection) -> None:
            known = {row.series: row.given for row in connection.execute(select(schema.serials)).all()}
            for series, number in given.items():
                row = {"series": series, "given": max(number, known.get(series, 0))}
                upsert(connection, schema.serials, ("series",), row)

        self._database.write(work)

    def _next_serial(self, connection: Connection, now: datetime) -> str:
        """Within the transaction that stores what gets it: in the order in which they become durable."""
        drawn = self._drawn
        if drawn is not None and drawn.at <= now < drawn.at + SERIES_LIFE:
            place = {"b_series": drawn.series, "b_last": drawn.last}
            number: int | None = connection.execute(_COUNT, place).scalar()
            if number is not None:
                drawn.last = number
                return f"{drawn.series}.{number}"
        drawn = self._drawn = _Drawn("".join(secrets.choice(_BASE32) for _ in range(_SERIES_LENGTH)), now, 1)
        self._own.add(drawn.series)
        connection.execute(insert(schema.serials).values(series=drawn.series, given=drawn.last))
        return f"{drawn.series}.{drawn.last}"
