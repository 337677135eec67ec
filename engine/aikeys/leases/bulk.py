"""Ending all leases that a found key or one holder has: an emergency's work.

All of them are REVOKING on the disk before the first is tried, so whatever happens to this process, each ends. A
failure holds up no other, and what the time did not suffice for goes on in the background.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TypeVar

import structlog

from aikeys.errors import StorageError
from aikeys.framework.clock import Clock
from aikeys.framework.deadline import Deadline
from aikeys.framework.response import RelayRateLimited, Unavailable
from aikeys.leases.lease import revoking
from aikeys.leases.manager import LeaseManager
from aikeys.leases.revocation import as_engine_error
from aikeys.redaction import redactor
from aikeys.storage.failpoints import reach
from aikeys.storage.interface import Store
from aikeys.storage.records import EndedLease, Holder, LeaseRecord

_log = structlog.get_logger(__name__)

T = TypeVar("T")
# Leases that are claimed together, in rounds of all threads.
_ROUNDS_AHEAD = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """`revoked` counts leases whose keys the relay has revoked, `failures` says of each other one that was tried why
    not; `pending` counts those whose turn has not come. The last two go on in the background."""

    revoked: int = 0
    failures: dict[str, str] = field(default_factory=dict)
    pending: int = 0

    def __add__(self, other: Outcome) -> Outcome:
        return Outcome(
            self.revoked + other.revoked, self.failures | other.failures, self.pending + other.pending
        )


class BulkRevocation:
    """Safe for many threads and processes on one store."""

    def __init__(self, store: Store, clock: Clock, manager: LeaseManager) -> None:
        self._store = store
        self._clock = clock
        self._manager = manager

    # whose leases

    def of_key(self, mount_uuid: str, key_hash: str = "", prefix_hash: str = "") -> list[LeaseRecord]:
        return _stored(lambda: self._store.leases_of_key(mount_uuid, key_hash, prefix_hash))

    def ended_of_key(self, mount_uuid: str, key_hash: str = "", prefix_hash: str = "") -> list[EndedLease]:
        return _stored(lambda: self._store.ended_of_key(mount_uuid, key_hash, prefix_hash))

    def of_holder(self, mount_uuid: str, holder: Holder) -> list[str]:
        """Lease ids, sorted."""
        return _stored(lambda: self._store.lease_ids_of(mount_uuid, holder))

    def remembered_since(self, mount_uuid: str) -> datetime | None:
        return _stored(lambda: self._store.remembered_since(mount_uuid))

    def given_up(self, mount_uuid: str) -> set[str]:
        """Ids of leases that were revoked by force and whose keys the relay has not confirmed to be revoked."""
        return {key.lease_id for key in _stored(lambda: self._store.forced_keys(mount_uuid))}

    def hasten_given_up(self, mount_uuid: str) -> None:
        """Have their keys tried again now."""
        _stored(lambda: self._store.hasten_forced(mount_uuid, self._clock.now()))

    # their end

    def end(self, ids: Sequence[str], cause: str, deadline: Deadline) -> Outcome:
        """Revoke them all, waiting for the relay for `bulk_wait` seconds at most."""
        if not ids:
            return Outcome()
        settings = self._manager.settings
        bound = deadline.at_most(settings.bulk_wait)
        self._mark(ids)
        _log.warning("leases are revoked together", count=len(ids), cause=cause)
        size = _ROUNDS_AHEAD * settings.workers
        if len(ids) > size:
            # The background of every process takes part.
            self._manager.wake()
        run = _Run(settings.trip)
        outcome = Outcome()
        for start in range(0, len(ids), size):
            some = ids[start : start + size]
            over = bound.passed or run.stopped
            outcome += Outcome(pending=len(some)) if over else self._try_all(some, cause, run, bound)
        if outcome.failures or outcome.pending:
            self._manager.wake()
        return outcome

    def _try_all(self, ids: Sequence[str], cause: str, run: _Run, bound: Deadline) -> Outcome:
        """As many as one claim is for: should this process die, none waits longer than for that to lapse."""
        settings = self._manager.settings
        self._mark(ids, self._clock.now() + timedelta(seconds=settings.claim))
        pool = ThreadPoolExecutor(min(settings.workers, len(ids)), thread_name_prefix="aikeys-bulk")
        tries = {lease_id: pool.submit(self._try, run, lease_id, cause) for lease_id in ids}
        wait(tries.values(), timeout=bound.remaining())
        run.stopped = run.stopped or bound.passed
        # Those in flight go on by themselves, up to their own deadlines; nobody waits for them.
        pool.shutdown(wait=False, cancel_futures=True)
        outcome, not_begun = _outcome(tries)
        if not_begun:
            self._mark(not_begun)
        return outcome

    def _mark(self, ids: Sequence[str], until: datetime | None = None) -> None:
        _stored(lambda: self._store.mark_revoking(ids, self._clock.now(), until))
        reach("revoke.marked")

    def _try(self, run: _Run, lease_id: str, cause: str) -> str | None:
        """None when the lease is gone, else why not. `_NotBegun` when it is left to the background."""
        if run.stopped:
            raise _NotBegun
        try:
            lease = self._store.lease(lease_id)
            if lease is not None:
                self._manager.revocation.attempt(revoking(lease, self._clock.now()), cause)
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are revoked all the same
            run.failed(away=isinstance(error, Unavailable | RelayRateLimited))
            return redactor.redact(as_engine_error(error).message)
        run.succeeded()
        return None


class _NotBegun(Exception):
    """The relay does not answer, or the time was over before this lease's turn."""


class _Run:
    """What the threads of one call tell each other: after so many failures in a row the relay is away, and trying all
    the others would only make each of them wait longer for its next attempt."""

    def __init__(self, trip: int) -> None:
        self._trip = trip
        self._lock = threading.Lock()
        self._in_a_row = 0
        self.stopped = False

    def succeeded(self) -> None:
        with self._lock:
            self._in_a_row = 0

    def failed(self, *, away: bool) -> None:
        if away:
            with self._lock:
                self._in_a_row += 1
                self.stopped = self.stopped or self._in_a_row >= self._trip


def _outcome(tries: dict[str, Future[str | None]]) -> tuple[Outcome, list[str]]:
    """With the ids of those that nobody has begun to try."""
    revoked, pending = 0, 0
    failures: dict[str, str] = {}
    not_begun: list[str] = []
    for lease_id, future in tries.items():
        if future.cancelled() or (future.done() and isinstance(future.exception(), _NotBegun)):
            not_begun.append(lease_id)
        elif not future.done():
            pending += 1
        elif (reason := future.result()) is None:
            revoked += 1
        else:
            failures[lease_id] = reason
    return Outcome(revoked, failures, pending + len(not_begun)), not_begun


def _stored(work: Callable[[], T]) -> T:
    """`work` on the store; a failing store is a 503 with its reason."""
    try:
        return work()
    except StorageError as error:
        raise Unavailable(str(error)) from error
