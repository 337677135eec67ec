"""The file: its modes, its versions, its processes, a full disk."""

from __future__ import annotations

import gc
import multiprocessing
import os
import select
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.unit.storage.samples import MOUNT, intent, lease, mount

from aikeys.errors import StorageError
from aikeys.framework.clock import SystemClock
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.storage import SqlStore, open_store, schema, sqlite
from aikeys.storage.filelock import WriteLock
from aikeys.storage.sqlite import SqliteDatabase


def reopen(place: Path) -> SqlStore:
    return open_store(place, KeyFileSeal(place.with_name("seal.key")), clock=SystemClock())


def test_only_the_owner_can_read_the_files(store: SqlStore, place: Path) -> None:
    store.put_lease(lease())
    assert place.parent.stat().st_mode & 0o777 == 0o700
    modes = {path.name: path.stat().st_mode & 0o777 for path in place.parent.iterdir()}
    assert set(modes.values()) == {0o600}
    assert {"aikeys.db", "aikeys.db-wal"} <= set(modes)


def test_every_commit_is_synced(store: SqlStore, place: Path) -> None:
    database = SqliteDatabase(place)
    assert database.scalar("PRAGMA journal_mode") == "wal"
    assert database.scalar("PRAGMA synchronous") == 2
    assert database.scalar("PRAGMA foreign_keys") == 1
    database.close()


def test_a_database_of_a_newer_release_is_refused_and_left_alone(store: SqlStore, place: Path) -> None:
    store.close()
    with sqlite3.connect(place) as raw:
        raw.execute("UPDATE schema_version SET version = ?", (schema.VERSION + 1,))
    raw.close()
    with pytest.raises(StorageError, match=f"schema version {schema.VERSION + 1}, this release knows up to"):
        reopen(place)


def test_migrations_run_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "aikeys.db"
    reopen(place).close()
    ran: list[str] = []
    steps = (
        *schema.MIGRATIONS,
        lambda _connection: ran.append("second"),
        lambda _connection: ran.append("third"),
    )
    monkeypatch.setattr(schema, "MIGRATIONS", steps)
    monkeypatch.setattr(schema, "VERSION", len(steps))
    reopen(place).close()
    reopen(place).close()
    assert ran == ["second", "third"]


def test_a_failing_migration_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "aikeys.db"
    reopen(place).close()

    def broken(connection: object) -> None:
        connection.exec_driver_sql("DROP TABLE leases")  # type: ignore[attr-defined]
        raise StorageError("no")

    with monkeypatch.context() as patch:
        patch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
        patch.setattr(schema, "VERSION", 2)
        with pytest.raises(StorageError, match="no"):
            reopen(place)
    store = reopen(place)
    assert store.count_leases() == 0
    store.close()


def test_something_that_is_no_database_is_named(tmp_path: Path) -> None:
    place = tmp_path / "aikeys.db"
    place.write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match=r"aikeys\.db is damaged.*restore a backup"):
        reopen(place)
    (tmp_path / "folder.db").mkdir()
    with pytest.raises(StorageError, match="cannot be opened for writing"):
        reopen(tmp_path / "folder.db")


def test_a_full_disk_is_a_clear_error_and_nothing_is_lost(store: SqlStore, place: Path) -> None:
    store.put_intent(intent(1))
    _limit_pages(store, place, spare=3)
    stored: list[str] = []
    failures: set[str] = set()
    for number in range(2, 400):
        try:
            store.put_lease(lease(number))
            stored.append(lease(number).lease_id)
        except StorageError as error:
            failures.add(str(error))
    assert failures == {f"no space left for the database {place}: free some; nothing was changed"}
    assert store.lease_ids_with_prefix("ai-keys/") == stored, "what was confirmed is there, and nothing else"
    with pytest.raises(StorageError, match="no space left"):
        store.complete_intent(intent(1).intent_id, lease(1, internal={"much": "x" * 40_000}))
    assert len(store.intents()) == 1, "a lease that found no room leaves its intent"
    _limit_pages(store, place, spare=10_000)
    store.complete_intent(intent(1).intent_id, lease(1))
    assert store.lease(lease(1).lease_id) == lease(1), "once there is room it goes on without a restart"


def _limit_pages(store: SqlStore, place: Path, spare: int) -> None:
    """Let the file grow by `spare` pages and no more, as a full disk would."""

    def work(connection: object) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()  # type: ignore[attr-defined]
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + spare}")  # type: ignore[attr-defined]

    store._database.write(work)


def test_a_disk_that_fails_in_the_middle_of_a_commit_loses_nothing(tmp_path: Path) -> None:
    """A child may write files up to a bound (RLIMIT_FSIZE); what it reported as stored is there afterwards."""
    place = tmp_path / "aikeys.db"
    reopen(place).close()
    script = f"""
import resource, sys
from pathlib import Path
from tests.unit.storage.test_database_file import reopen
from tests.unit.storage.samples import lease, mount
from aikeys.errors import StorageError
store = reopen(Path({str(place)!r}))
store.put_mount(mount())
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
for number in range(200):
    try:
        store.put_lease(lease(number))
        print("stored", lease(number).lease_id)
    except StorageError as error:
        print("failed", error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.put_lease(lease(1000))
print("stored", lease(1000).lease_id)
"""
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60, cwd=Path.cwd()
    )
    said = [line.split(" ", 1) for line in run.stdout.splitlines()]
    stored = sorted(text for kind, text in said if kind == "stored")
    failures = {text for kind, text in said if kind == "failed"}
    assert failures
    assert all("reports an error (SQLITE_IOERR" in text or "no space left" in text for text in failures), (
        failures
    )
    store = reopen(place)
    assert store.lease_ids_with_prefix("ai-keys/") == stored
    store.close()


def in_child(work: Callable[[], object], *, seconds: int = 60) -> str:
    """What went wrong with `work` in a forked child, "" when nothing did; the child ends by itself."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            work()
        except StorageError as error:
            os.write(write_end, str(error).encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        # Here and not in the child, which may hang before it comes to anything of ours.
        ended = bool(select.select([pipe], [], [], seconds)[0])
        if not ended:
            os.kill(child, signal.SIGKILL)
        said = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert ended, "the child hung"
    assert status == 0
    return said


def test_a_store_opened_before_a_fork_serves_every_child(store: SqlStore, place: Path) -> None:
    store.close()
    early = reopen(place)
    assert [in_child(lambda number=number: early.put_lease(lease(number))) for number in range(3)] == [""] * 3  # type: ignore[misc]
    assert early.count_leases() == 3
    early.close()


def test_a_store_in_use_is_refused_to_a_forked_child_and_goes_on_in_the_parent(store: SqlStore) -> None:
    """SQLite would believe to hold the parent's locks: the child would write without any."""
    store.put_lease(lease(1))
    uses = (lambda: store.put_lease(lease(2)), store.count_leases, store.generation)
    for use in uses:
        assert "open it after the fork" in in_child(use)
    store.put_lease(lease(3))
    assert store.count_leases() == 2


def _fork_while_writing(place: Path) -> None:
    store = reopen(place)
    stop = threading.Event()
    counts = [0] * 4

    def write(thread: int) -> None:
        while not stop.is_set():
            counts[thread] += 1
            store.put_lease(lease(thread * 100_000 + counts[thread]))
            store.lease(lease(thread).lease_id)

    # A store that nobody has used yet is a child's to use.
    store.put_lease(lease(888_888))
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(10):
            assert "open it after the fork" in in_child(lambda: store.put_lease(lease(999_999)))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert store.count_leases() == sum(counts) + 1


def test_a_forked_child_lets_go_of_no_connection_of_the_threads_that_it_lost(
    store: SqlStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python lets go of what was theirs before a child runs anything; SQLite could wait for one of them for ever."""
    done, reading = threading.Event(), threading.Event()

    def read() -> None:
        store.count_leases()
        reading.set()
        done.wait(60)

    closed = tmp_path / "closed"
    close = sqlite._Held.close

    def watched(held: sqlite._Held) -> None:
        with closed.open("a") as file:
            file.write(f"{os.getpid()} ")
        close(held)

    monkeypatch.setattr(sqlite._Held, "close", watched)
    thread = threading.Thread(target=read)
    thread.start()
    assert reading.wait(60)
    assert "open it after the fork" in in_child(store.count_leases)
    assert not closed.exists()
    done.set()
    thread.join()
    gc.collect()
    assert set(closed.read_text().split()) == {str(os.getpid())}, "where it was opened it is closed"


def test_a_child_forked_while_others_write_is_refused_and_never_hurts_the_parent(
    store: SqlStore, place: Path
) -> None:
    # In an interpreter of its own: what the threads of other tests hold when one forks is not this store's doing.
    process = multiprocessing.get_context("spawn").Process(target=_fork_while_writing, args=(place,))
    process.start()
    process.join(150)
    process.kill()
    process.join()
    assert process.exitcode == 0


def _write_many(place: Path, process: int, count: int, gate: object, times: object) -> None:
    store = reopen(place)
    gate.wait()  # type: ignore[attr-defined]
    longest = 0.0
    for number in range(count):
        start = time.monotonic()
        store.put_lease(lease(process * 10_000 + number))
        longest = max(longest, time.monotonic() - start)
    times.put((process, longest))  # type: ignore[attr-defined]
    store.close()


def test_processes_take_turns_and_lose_nothing(store: SqlStore, place: Path) -> None:
    context = multiprocessing.get_context("spawn")
    gate, times = context.Barrier(3), context.Queue()
    children = [
        context.Process(target=_write_many, args=(place, number, 300, gate, times)) for number in (1, 2, 3)
    ]
    for child in children:
        child.start()
    longest = dict(times.get(timeout=60) for _ in children)
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert store.count_leases() == 900
    assert max(longest.values()) < 2.0, f"nobody starves: {longest}"


def _open_first(place: Path, gate: object, digests: object) -> None:
    gate.wait()  # type: ignore[attr-defined]
    store = reopen(place)
    digests.put(store.keyed_hash("token"))  # type: ignore[attr-defined]
    store.close()


def test_processes_that_make_the_database_together_agree_on_its_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    gate, digests = context.Barrier(4), context.Queue()
    place = tmp_path / "data" / "aikeys.db"
    children = [context.Process(target=_open_first, args=(place, gate, digests)) for _ in range(4)]
    for child in children:
        child.start()
    found = {digests.get(timeout=60) for _ in children}
    for child in children:
        child.join()
    store = reopen(place)
    assert found == {store.keyed_hash("token")}
    store.close()


def test_the_files_names_survive_a_power_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    real = os.fsync

    def watch(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", watch)
    reopen(tmp_path / "new" / "data" / "aikeys.db").close()
    above = [tmp_path / "new" / "data", tmp_path / "new", tmp_path, *tmp_path.parents]
    assert synced[: len(above)] == [str(folder) for folder in above], "any of the folders may be new"
    synced.clear()
    reopen(tmp_path / "new" / "data" / "aikeys.db").close()
    assert synced == [], "once is enough"


def test_a_process_that_keeps_the_lock_is_reported_in_bounded_time(store: SqlStore, place: Path) -> None:
    other = WriteLock(place, timeout=1.0)
    other.acquire()
    impatient = SqliteDatabase(place, lock_timeout=0.2)
    start = time.monotonic()
    with pytest.raises(StorageError, match="another process has kept"):
        impatient.write(lambda connection: connection.exec_driver_sql("SELECT 1").scalar())
    assert time.monotonic() - start < 2.0
    other.release()
    assert impatient.write(lambda connection: connection.exec_driver_sql("SELECT 1").scalar()) == 1
    impatient.close()
    other.close()


def test_a_killed_holder_leaves_the_lock_free(store: SqlStore, place: Path) -> None:
    child = os.fork()
    if child == 0:
        WriteLock(place, timeout=1.0).acquire()
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    store.put_lease(lease())
    assert store.count_leases(MOUNT) == 1


def test_a_closed_store_says_so(store: SqlStore) -> None:
    store.close()
    for use in (store.count_leases, lambda: store.put_mount(mount()), store.generation):
        with pytest.raises(StorageError, match="was closed"):
            use()


def test_a_thread_that_ends_gives_its_connection_back(store: SqlStore) -> None:
    def files() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    store.count_leases()
    before = files()
    for _ in range(30):
        thread = threading.Thread(target=lambda: (store.count_leases(), store.generation()))
        thread.start()
        thread.join()
    assert files() <= before + 6
