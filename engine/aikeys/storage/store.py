"""The store: opened with a seal, made of the tables' parts."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import Connection, insert, select

from aikeys.durable import sync_names
from aikeys.errors import SealError, SettingsError, StorageError
from aikeys.framework.clock import Clock
from aikeys.seals.interface import Seal
from aikeys.storage import schema
from aikeys.storage.barrier import Barrier, new_data_key
from aikeys.storage.chores import Chores
from aikeys.storage.database import Database
from aikeys.storage.forced import Forced
from aikeys.storage.intents import Intents
from aikeys.storage.leases import Leases
from aikeys.storage.mounts import Mounts
from aikeys.storage.rows import to_micros
from aikeys.storage.search import Search
from aikeys.storage.sqlite import SqliteDatabase
from aikeys.storage.tokens import Tokens
from aikeys.storage.wrapped import Wrapped


class SqlStore(Mounts, Intents, Leases, Forced, Search, Tokens, Chores, Wrapped):
    """The `Store` of `aikeys.storage.interface` on a SQL database."""

    def keyed_hash(self, value: str) -> str:
        """What a secret is found by without being kept: HMAC-SHA256 under a key derived from the data key."""
        return self._barrier.keyed_hash(value)

    def close(self) -> None:
        self._database.close()


def open_store(location: Path | str, seal: Seal, *, clock: Clock, reserve: int = 0) -> SqlStore:
    """Open the database at `location` (a path, or "sqlite:///path"), making or migrating it as needed. `reserve` bytes
    of the disk are kept for the end of keys (`aikeys.storage.reserve`).

    StorageError when it cannot be used, SealError when `seal` is not the one that closed it.
    """
    path = _path_of(location)
    database = SqliteDatabase(path, reserve=reserve)
    try:
        store = SqlStore(database, _unseal(database, path, seal, clock))
        database.rest()
        return store
    except BaseException:
        database.close()
        raise


def _path_of(location: Path | str) -> Path:
    text = str(location)
    if text.startswith("sqlite:///"):
        return Path(text.removeprefix("sqlite:///"))
    if "://" in text:
        raise SettingsError(f"storage {text.split('://', 1)[0]!r}: only a path or sqlite:///path is known")
    return Path(text)


def _unseal(database: Database, path: Path, seal: Seal, clock: Clock) -> Barrier:
    def work(connection: Connection) -> Barrier:
        schema.migrate(connection)
        row = connection.execute(select(schema.data_keys)).one_or_none()
        if row is None:
            # A new database. Its name must survive a power cut before anything in it is worth to.
            _sync_names(path)
            data_key = new_data_key()
            connection.execute(
                insert(schema.data_keys).values(
                    version=1, seal=seal.name, wrapped=seal.wrap(data_key), created_at=to_micros(clock.now())
                )
            )
            return Barrier(data_key)
        if row.seal != seal.name:
            raise SealError(
                f"the database was closed by the seal {row.seal!r}, the settings name {seal.name!r}: set it back to {row.seal!r}"
            )
        return Barrier(seal.unwrap(row.wrapped), row.version)

    return database.write(work)


def _sync_names(path: Path) -> None:
    try:
        sync_names(path.parent)
    except OSError as error:
        raise StorageError(
            f"the folder of the database {path} cannot be made sure of: {error.strerror}"
        ) from None
