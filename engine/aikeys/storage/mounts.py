"""Mounts, their entries, and the generation that tells every process when to look again."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from aikeys.errors import StorageError
from aikeys.storage import schema
from aikeys.storage.barrier import Barrier
from aikeys.storage.database import Database, Part, range_end
from aikeys.storage.records import Enabling, MountRecord
from aikeys.storage.rows import from_micros, mount_record, mount_row, to_micros

_ALL_MOUNTS = select(schema.mounts).order_by(schema.mounts.c.namespace, schema.mounts.c.path)
_DELETE_MOUNT = delete(schema.mounts).where(schema.mounts.c.uuid == bindparam("b_uuid"))
_LEASES_OF = (
    select(func.count()).select_from(schema.leases).where(schema.leases.c.mount_uuid == bindparam("b_uuid"))
)
_INTENTS_OF = (
    select(func.count()).select_from(schema.intents).where(schema.intents.c.mount_uuid == bindparam("b_uuid"))
)
_ENABLINGS = select(schema.enablings).order_by(schema.enablings.c.asked_at)
_DELETE_ENABLING = delete(schema.enablings).where(schema.enablings.c.mark == bindparam("b_mark"))
_BUMP = update(schema.generation).values(value=schema.generation.c.value + 1)
_GENERATION = "SELECT value FROM generation"

_entry = schema.entries.c
_THIS_ENTRY = (_entry.mount_uuid == bindparam("b_mount"), _entry.key == bindparam("b_key"))
_GET_ENTRY = select(_entry.sealed_value).where(*_THIS_ENTRY)
_DELETE_ENTRY = delete(schema.entries).where(*_THIS_ENTRY)
_ENTRY_KEYS = (
    select(_entry.key)
    .where(
        _entry.mount_uuid == bindparam("b_mount"),
        _entry.key >= bindparam("b_from"),
        _entry.key < bindparam("b_to"),
    )
    .order_by(_entry.key)
)


def upsert(connection: Connection, table: Any, keys: tuple[str, ...], row: dict[str, Any]) -> None:
    """Insert or overwrite one row. Never deletes it in between, so nothing that refers to it goes with it."""
    make = postgresql_insert if connection.dialect.name == "postgresql" else sqlite_insert
    statement = make(table)
    changed = {name: statement.excluded[name] for name in row if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=changed), row)


class Mounts(Part):
    def mounts(self) -> list[MountRecord]:
        rows = self._database.read(lambda connection: connection.execute(_ALL_MOUNTS).all())
        return [mount_record(row, self._barrier) for row in rows]

    def put_mount(self, record: MountRecord) -> None:
        row = mount_row(record, self._barrier)

        def work(connection: Connection) -> None:
            upsert(connection, schema.mounts, ("uuid",), row)
            connection.execute(_BUMP)

        self._database.write(work)

    def delete_mount(self, uuid: str) -> None:
        def work(connection: Connection) -> None:
            leases = connection.execute(_LEASES_OF, {"b_uuid": uuid}).scalar_one()
            intents = connection.execute(_INTENTS_OF, {"b_uuid": uuid}).scalar_one()
            if leases or intents:
                raise StorageError(
                    f"the mount still has {leases} leases and {intents} open mint intents: "
                    "revoke them first, else their keys would live on unknown"
                )
            if connection.execute(_DELETE_MOUNT, {"b_uuid": uuid}).rowcount:
                connection.execute(_BUMP)

        self._database.write(work)

    def put_enabling(self, record: Enabling) -> None:
        row = {"mark": record.mark, "path": record.path, "asked_at": to_micros(record.asked_at)}

        def work(connection: Connection) -> None:
            connection.execute(insert(schema.enablings), row)
            connection.execute(_BUMP)

        self._database.write(work)

    def enablings(self) -> list[Enabling]:
        rows = self._database.read(lambda connection: connection.execute(_ENABLINGS).all())
        return [Enabling(row.mark, row.path, from_micros(row.asked_at)) for row in rows]

    def delete_enabling(self, mark: str) -> None:
        def work(connection: Connection) -> None:
            if connection.execute(_DELETE_ENABLING, {"b_mark": mark}).rowcount:
                connection.execute(_BUMP)

        self._database.write(work)

    def adopt_mount(self, mark: str, record: MountRecord) -> bool:
        """Whether it was still to be adopted: two processes that come upon it together make one mount of it."""
        row = mount_row(record, self._barrier)

        def work(connection: Connection) -> bool:
            if not connection.execute(_DELETE_ENABLING, {"b_mark": mark}).rowcount:
                return False
            upsert(connection, schema.mounts, ("uuid",), row)
            connection.execute(_BUMP)
            return True

        return self._database.write(work)

    def generation(self) -> int:
        value: int = self._database.scalar(_GENERATION)
        return value

    def entries(self, mount_uuid: str) -> Entries:
        return Entries(self._database, self._barrier, mount_uuid)


class Entries(Part):
    """One mount's key-value view (Vault: `logical.Storage`)."""

    def __init__(self, database: Database, barrier: Barrier, mount_uuid: str) -> None:
        super().__init__(database, barrier)
        self._mount_uuid = mount_uuid

    def get(self, key: str) -> dict[str, Any] | None:
        box = self._database.read(
            lambda connection: connection.execute(
                _GET_ENTRY, {"b_mount": self._mount_uuid, "b_key": key}
            ).scalar()
        )
        return None if box is None else self._barrier.open_json(box, "entries", self._row(key), "value")

    def put(self, key: str, value: dict[str, Any]) -> None:
        box = self._barrier.seal(json.dumps(value).encode(), "entries", self._row(key), "value")
        row = {"mount_uuid": self._mount_uuid, "key": key, "sealed_value": box}

        def work(connection: Connection) -> None:
            upsert(connection, schema.entries, ("mount_uuid", "key"), row)
            connection.execute(_BUMP)

        self._database.write(work)

    def delete(self, key: str) -> None:
        def work(connection: Connection) -> None:
            if connection.execute(_DELETE_ENTRY, {"b_mount": self._mount_uuid, "b_key": key}).rowcount:
                connection.execute(_BUMP)

        self._database.write(work)

    def list(self, prefix: str) -> list[str]:
        """Names directly below `prefix`, sorted; what has more below it ends in "/" (Vault: `logical.Storage.List`)."""
        bounds = {"b_mount": self._mount_uuid, "b_from": prefix, "b_to": range_end(prefix)}
        keys = self._database.read(lambda connection: connection.execute(_ENTRY_KEYS, bounds).scalars().all())
        names: dict[str, None] = {}
        for key in keys:
            head, slash, _ = key.removeprefix(prefix).partition("/")
            names[head + slash] = None
        return sorted(names)

    def _row(self, key: str) -> str:
        return f"{self._mount_uuid}/{key}"
