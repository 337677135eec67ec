"""Group commit: many share a write, and none pays for another's mistake."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection

from aikeys.errors import StorageError
from aikeys.storage.failpoints import arm
from aikeys.storage.sqlite import SqliteDatabase

INSERT = "INSERT INTO t VALUES (?)"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[SqliteDatabase]:
    opened = SqliteDatabase(tmp_path / "t.db")
    opened.write(lambda connection: connection.exec_driver_sql("CREATE TABLE t (x INTEGER PRIMARY KEY)"))
    yield opened
    arm("")
    opened.close()


def put(number: int) -> Callable[[Connection], int]:
    def work(connection: Connection) -> int:
        connection.exec_driver_sql(INSERT, (number,))
        return number

    return work


def rows(database: SqliteDatabase) -> list[int]:
    return list(
        database.read(
            lambda connection: connection.exec_driver_sql("SELECT x FROM t ORDER BY x").scalars().all()
        )
    )


def together(database: SqliteDatabase, works: list[Callable[[Connection], Any]]) -> list[Any]:
    """Run `works` in one batch: the first one holds the pen until all others queue behind it."""
    results: list[Any] = [None] * len(works)
    release = threading.Event()

    def hold(_connection: Connection) -> None:
        release.wait(10)

    def run(index: int) -> None:
        try:
            results[index] = database.write(works[index])
        except Exception as error:  # noqa: BLE001 - the caller looks at it
            results[index] = error

    holder = threading.Thread(target=database.write, args=(hold,))
    holder.start()
    time.sleep(0.05)
    threads = []
    for index in range(len(works)):
        threads.append(threading.Thread(target=run, args=(index,)))
        threads[-1].start()
        time.sleep(0.01)
    release.set()
    for thread in [holder, *threads]:
        thread.join(20)
        assert not thread.is_alive()
    return results


def commits(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by one with each commit."""
    seen: list[int] = []
    transactions = database._transactions
    real = transactions.commit

    def count() -> None:
        seen.append(1)
        real()

    monkeypatch.setattr(transactions, "commit", count)
    return seen


def test_those_that_wait_share_one_commit(database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = commits(database, monkeypatch)
    assert together(database, [put(number) for number in range(20)]) == list(range(20))
    assert len(seen) == 2, "one for who held the pen, one for all who waited"
    assert rows(database) == list(range(20))


def test_a_failing_transaction_undoes_only_itself(database: SqliteDatabase) -> None:
    def half_done(connection: Connection) -> None:
        connection.exec_driver_sql(INSERT, (100,))
        raise ValueError("a mistake")

    results = together(database, [put(1), half_done, put(1), put(2)])
    assert results[0] == 1
    assert isinstance(results[1], ValueError), "what the work raised comes out as it is"
    assert isinstance(results[2], StorageError), "and what the database refused as a StorageError"
    assert results[3] == 2
    assert rows(database) == [1, 2]


def test_a_commit_that_fails_fails_all_of_its_batch_and_none_of_the_next(database: SqliteDatabase) -> None:
    arm("store.before_commit=error:2")
    results = together(database, [put(1), put(2), put(3)])
    assert [type(result) for result in results] == [StorageError] * 3
    assert len({id(result) for result in results}) == 3, "each caller has an error of its own"
    assert rows(database) == []
    assert database.write(put(4)) == 4
    assert rows(database) == [4]


def test_an_error_that_ends_the_transaction_of_all_is_reported_to_all(database: SqliteDatabase) -> None:
    def end_it(connection: Connection) -> None:
        connection.exec_driver_sql("ROLLBACK")  # as SQLite itself does when the disk is full
        connection.exec_driver_sql(INSERT, (1,))
        connection.exec_driver_sql(INSERT, (1,))

    results = together(database, [put(1), end_it, put(3)])
    assert [type(result) for result in results] == [StorageError] * 3
    assert database.write(put(5)) == 5


def test_a_broken_connection_is_replaced(database: SqliteDatabase) -> None:
    database.write(put(1))
    database._transactions._raw.close()  # type: ignore[union-attr]
    with pytest.raises(StorageError):
        database.write(put(2))
    assert database.write(put(3)) == 3
    assert rows(database) == [1, 3]


def test_a_signal_in_a_waiting_thread_leaves_nobody_waiting_for_it(
    database: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    holder = threading.Thread(target=database.write, args=(lambda _connection: release.wait(10),))
    holder.start()
    time.sleep(0.05)

    class Interrupted(BaseException):
        pass

    class InterruptedLock:
        def acquire(self) -> bool:
            raise Interrupted

        def release(self) -> None: ...
        def locked(self) -> bool:
            return False

    from aikeys.storage import writer

    real = writer._Job.__init__

    def broken(self: Any, work: Any) -> None:
        real(self, work)
        self.turn = InterruptedLock()

    with monkeypatch.context() as patch:
        patch.setattr(writer._Job, "__init__", broken)
        with pytest.raises(Interrupted):
            database.write(put(1))
    others = [threading.Thread(target=database.write, args=(put(number),)) for number in (2, 3)]
    for thread in others:
        thread.start()
    release.set()
    for thread in [holder, *others]:
        thread.join(10)
        assert not thread.is_alive()
    assert rows(database) == [2, 3]


def test_fifty_threads_lose_nothing(database: SqliteDatabase) -> None:
    def write(thread: int) -> None:
        for number in range(20):
            database.write(put(thread * 100 + number))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(rows(database)) == 1000
