"""One SQLite file: connections, pragmas, transactions, errors. Knows no table but the one-row generation.

WAL with synchronous=FULL: a transaction is on the disk when it returns, and readers never wait for the writer.
Reading connections are held per thread.

SQLite remembers locks per process, in memory: a forked child believes to hold what its parent holds and would write
without any lock. So a store may be opened before a fork, as an application server that loads its application early
does, and used by the children; but once it was used, only the process that used it may go on.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Engine, NullPool, create_engine
from sqlalchemy.exc import DBAPIError

from aikeys.errors import DiskFull, StorageError
from aikeys.storage.filelock import WriteLock
from aikeys.storage.reserve import Reserve
from aikeys.storage.writer import GroupCommit

T = TypeVar("T")

# Seconds to wait for another process before saying so: well below any client's own timeout.
LOCK_TIMEOUT = 10.0
BUSY_TIMEOUT = 5.0

_PRAGMAS = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA temp_store=MEMORY",
    "PRAGMA trusted_schema=OFF",
    # Per connection, and there is one for each thread; the operating system caches the file for all of them.
    "PRAGMA cache_size=-1024",
)

_opened: weakref.WeakSet[SqliteDatabase] = weakref.WeakSet()


class SqliteDatabase:
    """Durable transactions and per-thread reading on the file `path`. Safe for threads, processes and forks."""

    def __init__(self, path: Path, *, lock_timeout: float = LOCK_TIMEOUT, reserve: int = 0) -> None:
        """`reserve` is the size of the file that is given up on a full disk, in bytes."""
        self.path = path
        self._reserve = Reserve(path, reserve)
        self.lock_timeout = lock_timeout
        self._prepare_file()
        self._engine: Engine = create_engine("sqlite://", creator=self._connect, poolclass=NullPool)
        self._refusal = ""
        self._start()
        _opened.add(self)

    def write(self, work: Callable[[Connection], T], *, with_reserve: bool = True) -> T:
        """Run `work` in a transaction, durable on return. StorageError when it could not be written.

        `with_reserve`: also where only the room is left that is kept for the end of keys.
        """
        self._check_usable()
        if not with_reserve:
            self._reserve.require()
        try:
            return self._group.run(work)
        except DiskFull:
            if not with_reserve or not self._reserve.give_up():
                raise
            return self._group.run(work)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on this thread's connection; it sees what was durable when it began."""
        try:
            return work(self._reader())
        except (DBAPIError, sqlite3.Error) as error:
            raise storage_error(self.path, error) from error

    def scalar(self, sql: str) -> Any:
        """The first column of the first row, without SQLAlchemy in between: some 4 microseconds."""
        try:
            raw: sqlite3.Connection | None = getattr(self._local, "raw", None)
            if raw is None:
                raw = _driver_connection(self._reader())
                self._local.raw = raw
            return raw.execute(sql).fetchone()[0]
        except (DBAPIError, sqlite3.Error) as error:
            raise storage_error(self.path, error) from error

    def close(self) -> None:
        """End all connections; later use is a StorageError."""
        if self._refusal:
            return
        self._refusal = f"the database {self.path} was closed"
        _opened.discard(self)
        self._local = threading.local()
        for held in list(self._readers):
            held.close()
        self._transactions.close()

    # connections

    def _start(self) -> None:
        self._local = threading.local()
        self._readers: weakref.WeakSet[_Held] = weakref.WeakSet()
        self._transactions = _SqliteTransactions(self)
        self._group = GroupCommit(self._transactions)

    def rest(self) -> None:
        """Close the writing connection until it is needed, so that the process may fork."""
        self._transactions.rest()

    def start_after_fork(self) -> None:
        """In the child: begin anew, or never, if the parent had connections. Those are left alone: closing them would
        drop locks and tidy up files under the parent's hands."""
        readers = list(self._readers)
        if readers or self._transactions.connected:
            self._refusal = f"the database {self.path} was in use when this process was forked: open it after the fork, in each process"
        for item in (self._local, self._transactions, self._group, *readers):
            _never_let_go(item)
        self._start()

    def _prepare_file(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Made before SQLite does, for the mode; its -wal and -shm files take it over.
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise StorageError(
                f"the database {self.path} cannot be opened for writing: {error.strerror}"
            ) from None

    def _connect(self) -> sqlite3.Connection:
        raw = sqlite3.connect(
            self.path,
            timeout=BUSY_TIMEOUT,
            isolation_level=None,  # transactions are begun here, not guessed by the module
            check_same_thread=False,  # the writer's connection passes from thread to thread under a lock
            cached_statements=256,
        )
        for pragma in _PRAGMAS:
            raw.execute(pragma)
        return raw

    def _reader(self) -> Connection:
        held: _Held | None = getattr(self._local, "held", None)
        if held is None:
            held = self._local.held = _Held(self.open_connection())
            self._readers.add(held)
        return held.connection

    def open_connection(self) -> Connection:
        self._check_usable()
        return self._engine.connect()

    def _check_usable(self) -> None:
        if self._refusal:
            raise StorageError(self._refusal)


class _Held:
    """A thread's connection, closed when its thread ends: a bare one would wait for the garbage collector.

    In a forked child all threads but one have ended, and Python lets go of what was theirs before anything of ours
    runs. SQLite must not hear of it: another thread may have held its locks at the moment of the fork, for ever here.
    """

    __slots__ = ("__weakref__", "connection", "process")

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.process = os.getpid()

    def close(self) -> None:
        with contextlib.suppress(DBAPIError, sqlite3.Error):
            self.connection.close()

    def __del__(self) -> None:
        if self.process == os.getpid():
            self.close()
        else:
            _never_let_go(self.connection)


class _SqliteTransactions:
    """The writing connection, used by one thread at a time (see `GroupCommit`)."""

    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database
        self._lock = WriteLock(database.path, database.lock_timeout)
        self._locked = False
        self._connection: Connection | None = None
        self._raw: sqlite3.Connection | None = None

    def begin(self) -> Connection:
        self._lock.acquire()
        self._locked = True
        if self._connection is None:
            self._connection = self._database.open_connection()
            self._raw = _driver_connection(self._connection)
        self._execute("BEGIN IMMEDIATE")
        return self._connection

    def savepoint(self) -> None:
        self._execute("SAVEPOINT one")

    def release(self) -> None:
        self._execute("RELEASE one")

    def undo(self) -> bool:
        # SQLite itself ends the transaction on some errors: disk full, I/O error, out of memory.
        if self._raw is None or not self._raw.in_transaction:
            return False
        self._execute("ROLLBACK TO one")
        self._execute("RELEASE one")
        return True

    def commit(self) -> None:
        self._execute("COMMIT")
        self._unlock()

    def rollback(self) -> None:
        try:
            if self._raw is not None and self._raw.in_transaction:
                self._execute("ROLLBACK")
        except sqlite3.Error:
            # Whatever is wrong with it, the next batch starts on a fresh connection.
            self._drop()
        finally:
            self._unlock()

    def translate(self, error: BaseException) -> BaseException:
        if isinstance(error, DBAPIError | sqlite3.Error):
            return storage_error(self._database.path, error)
        if isinstance(error, OSError):
            return StorageError(
                f"the database {self._database.path} cannot be written: {error}; nothing was changed"
            )
        return error

    @property
    def connected(self) -> bool:
        return self._connection is not None

    def rest(self) -> None:
        """Only while nobody writes."""
        self._drop()

    def close(self) -> None:
        self._drop()
        self._lock.close()

    def _execute(self, sql: str) -> None:
        assert self._raw is not None
        self._raw.execute(sql)

    def _unlock(self) -> None:
        if self._locked:
            self._locked = False
            self._lock.release()

    def _drop(self) -> None:
        connection, self._connection, self._raw = self._connection, None, None
        if connection is not None:
            with contextlib.suppress(DBAPIError, sqlite3.Error):
                connection.close()


# What SQLite may say where a file beside the database finds no room.
_UNSAID = ("SQLITE_IOERR", "SQLITE_CANTOPEN")


def _is_full(path: Path) -> bool:
    try:
        return os.statvfs(path.parent).f_bavail == 0
    except OSError:
        return False


def storage_error(path: Path, error: DBAPIError | sqlite3.Error) -> StorageError:
    """What happened to the file, and what its owner can do about it."""
    cause = error.orig if isinstance(error, DBAPIError) else error
    name = getattr(cause, "sqlite_errorname", "") or type(cause).__name__
    if name.startswith("SQLITE_FULL") or (name.startswith(_UNSAID) and _is_full(path)):
        return DiskFull(f"no space left for the database {path}: free some; nothing was changed")
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return StorageError(f"the database {path} is locked by another program: nothing was changed")
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")):
        return StorageError(
            f"the database {path} cannot be written ({name}): look at its owner, mode and file system"
        )
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return StorageError(f"the database {path} is damaged ({name}): restore a backup")
    if name.startswith("SQLITE_IOERR"):
        return StorageError(f"the disk of the database {path} reports an error ({name}): nothing was changed")
    return StorageError(f"the database refused: {cause}")


def _driver_connection(connection: Connection) -> sqlite3.Connection:
    raw = connection.connection.driver_connection
    assert isinstance(raw, sqlite3.Connection)
    return raw


def _never_let_go(item: object) -> None:
    """Not even when the interpreter ends, which closes what it finds."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))


def _after_fork_in_child() -> None:
    for database in list(_opened):
        database.start_after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
