"""What the tables need of a database, and what they share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from aikeys.storage.barrier import Barrier

T = TypeVar("T")


class Database(Protocol):
    """`work` may be run together with the transactions of other threads, so it only talks to the database."""

    def write(self, work: Callable[[Connection], T], *, with_reserve: bool = True) -> T:
        """Without `with_reserve` only while the disk has room to spare, else `DiskFull`."""
        ...

    def read(self, work: Callable[[Connection], T]) -> T: ...
    def scalar(self, sql: str) -> Any: ...
    def close(self) -> None: ...


class Part:
    """One family of tables over the common database and barrier."""

    def __init__(self, database: Database, barrier: Barrier) -> None:
        self._database = database
        self._barrier = barrier


def storable(text: str) -> bool:
    """Whether anything can be stored under `text`: a request's path may hold bytes that are no UTF-8, as half surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def range_end(prefix: str) -> str:
    """An upper bound of all texts that begin with `prefix`, in byte order."""
    return prefix + "\U0010ffff"
