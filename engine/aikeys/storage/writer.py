"""Group commit: many waiting transactions share one write to the disk.

Nobody owns the pen for good. The first thread to come becomes the writer: it runs its own transaction and all
that queued up meanwhile, each in a savepoint, commits once and hands the pen to the next one waiting. One caller
alone pays no thread switch, fifty share the fsync, and a fork leaves no writer thread behind.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

from sqlalchemy import Connection

from aikeys.errors import DiskFull, StorageError
from aikeys.storage.failpoints import reach

T = TypeVar("T")

# A batch's last transaction waits for all before it; this many take some 20 ms.
LARGEST_BATCH = 256


class Transactions(Protocol):
    """What the writer needs of a database. `translate` makes a StorageError of a database's or the system's error."""

    def begin(self) -> Connection: ...
    def savepoint(self) -> None: ...
    def release(self) -> None: ...
    def undo(self) -> bool:
        """Back to the savepoint. False when the database has ended the whole transaction by itself."""
        ...

    def commit(self) -> None: ...
    def rollback(self) -> None:
        """End whatever is open. Never raises."""
        ...

    def translate(self, error: BaseException) -> BaseException: ...


class _Job:
    __slots__ = ("done", "error", "promoted", "result", "turn", "work")

    def __init__(self, work: Callable[[Connection], Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False
        self.promoted = False
        # Held until the job is done or its thread becomes the writer: a bare lock is the cheapest signal.
        self.turn = threading.Lock()
        self.turn.acquire()


class GroupCommit:
    """Runs transactions durably, one batch at a time. Safe for many threads of one process."""

    def __init__(self, database: Transactions) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._waiting: deque[_Job] = deque()
        self._writing = False

    def run(self, work: Callable[[Connection], T]) -> T:
        """`work`'s result, once it is on the disk. `work` only talks to the database; what it raises comes out here
        and undoes only its own changes. StorageError when the batch could not be written: then nothing changed.
        """
        job = _Job(work)
        with self._lock:
            self._waiting.append(job)
            writer, self._writing = not self._writing, True
        if not writer:
            try:
                job.turn.acquire()
            except BaseException:
                # A signal handler raised in the waiting thread: nobody must wait for it to take the pen.
                self._leave(job)
                raise
        if not job.done:
            self._write_batch()
        if job.error is not None:
            raise job.error
        result: T = job.result
        return result

    def _leave(self, job: _Job) -> None:
        with self._lock:
            if job in self._waiting:
                self._waiting.remove(job)
            if job.promoted and not job.done:
                self._hand_over()

    def _hand_over(self) -> None:
        """Under the lock: the next one waiting becomes the writer, if there is one."""
        if self._waiting:
            heir = self._waiting[0]
            heir.promoted = True
            heir.turn.release()
        else:
            self._writing = False

    def _write_batch(self) -> None:
        batch: list[_Job] = []
        try:
            connection = self._database.begin()
            # Only now: whoever came while the file was another process's shares this commit.
            self._take(batch)
            for job in batch:
                self._run_one(connection, job)
            reach("store.before_commit")
            self._database.commit()
            reach("store.after_commit")
        except BaseException as error:
            self._database.rollback()
            if not batch:
                self._take(batch)
            known = self._database.translate(error)
            text = str(known) if isinstance(known, StorageError) else f"the writer was interrupted: {known!r}"
            kind = DiskFull if isinstance(known, DiskFull) else StorageError
            for job in batch:
                # One error object per caller: a shared one would collect everybody's traceback.
                job.error = job.error or kind(text)
            if not isinstance(error, Exception):
                raise
        finally:
            with self._lock:
                self._hand_over()
            for job in batch:
                job.done = True
                if job.turn.locked():
                    job.turn.release()

    def _take(self, batch: list[_Job]) -> None:
        with self._lock:
            while self._waiting and len(batch) < LARGEST_BATCH:
                batch.append(self._waiting.popleft())

    def _run_one(self, connection: Connection, job: _Job) -> None:
        self._database.savepoint()
        try:
            job.result = job.work(connection)
        except Exception as error:  # noqa: BLE001 - raised again in the caller's own thread
            job.error = self._database.translate(error)
            job.result = None
            if not self._database.undo():
                # The error was such that the database ended the transaction of all.
                raise job.error from None
        else:
            self._database.release()
