"""The background of every process: ends leases whose time has come, settles open mint intents, and tries the keys of
leases that were revoked by force.

Work is claimed in the store, so any number of processes may run this: what one has claimed no other takes, and what a
dead one had claimed comes back when its claim lapses. Expiry, a revocation that a client did not wait for, and one
that failed before are the same work here.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

import structlog

from aikeys.errors import AikeysError, StorageError
from aikeys.framework.clock import Clock
from aikeys.framework.response import EngineError, RelayRateLimited, Unavailable
from aikeys.leases.gate import Gate
from aikeys.leases.lease import StillAccepted
from aikeys.leases.manager import LeaseManager
from aikeys.leases.pool import RevocationPool
from aikeys.leases.settings import LeaseSettings
from aikeys.storage.failpoints import reach
from aikeys.storage.interface import Store
from aikeys.storage.records import LeaseRecord

_log = structlog.get_logger(__name__)

# Leases claimed ahead of the threads, in rounds of all of them: claiming costs a write, so it is done in bulk.
_ROUNDS_AHEAD = 4
_LAPSED_AT_ONCE = 100
# A relay that limits without saying for how long is left alone for this many seconds.
_UNSAID_RETRY_AFTER = 5.0
_LEAST_PAUSE = 0.02


class Resolver(Protocol):
    """`aikeys.minting.resolver.IntentResolver`, as far as it is used here."""

    def run_once(self) -> int: ...


class Background:
    """Start it once in each process, after any fork."""

    def __init__(
        self,
        store: Store,
        manager: LeaseManager,
        resolver: Resolver,
        clock: Clock,
        settings: LeaseSettings | None = None,
        *,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._manager = manager
        self._resolver = resolver
        self._clock = clock
        self._settings = settings or manager.settings
        self._rng = rng
        self._gates: dict[str, Gate] = {}
        self._gates_lock = threading.Lock()
        self._ahead = _ROUNDS_AHEAD * self._settings.workers
        self._pool = RevocationPool(self._settings.workers, self._revoke, self._admits)
        self._stopping = threading.Event()
        self._wake_leases = threading.Event()
        self._wake_intents = threading.Event()
        self._threads: list[threading.Thread] = []
        self._extended = self._tidied = self._clock.monotonic()
        # Whether the last look took leases, and whether it left some because its room was full.
        self._took = self._left_some = False

    def start(self) -> None:
        self._manager.wake = self.wake
        for name, loop in (
            ("aikeys-expiry", self._lease_loop),
            ("aikeys-settle", self._intent_loop),
            ("aikeys-forced", self._forced_loop),
        ):
            thread = threading.Thread(target=loop, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self, timeout: float = 10.0) -> None:
        """Finish what is in flight within `timeout` seconds and give back the rest."""
        end = time.monotonic() + timeout
        self._stopping.set()
        self.wake()
        self.settle_soon()
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        left = self._pool.stop(max(0.0, end - time.monotonic()))
        if left:
            try:
                self._store.mark_revoking(left, self._clock.now())
            except StorageError as error:
                _log.warning("claimed leases could not be given back; their claims lapse", error=str(error))

    def wake(self) -> None:
        """There may be leases that are due now."""
        self._wake_leases.set()

    def settle_soon(self) -> None:
        """There may be an intent that is due now."""
        self._wake_intents.set()

    # leases

    def _lease_loop(self) -> None:
        self._try("failed revocations could not be taken up", self._resume)
        while not self._stopping.is_set():
            self._try("leases could not be looked at", self._dispatch)
            self._wake_leases.wait(self._pause())
            self._wake_leases.clear()

    def _resume(self) -> None:
        """What failed under an earlier process is tried again now (Vault: a restart begins all attempts anew)."""
        for mount in self._store.mounts():
            self._store.hasten(mount.uuid, self._clock.now())

    def _pause(self) -> float:
        """Seconds until the next lease is due, and never more than the poll interval."""
        try:
            due = self._store.next_due()
        except StorageError:
            return self._settings.poll
        if due is None:
            return self._settings.poll
        left = (due - self._clock.now()).total_seconds()
        if left > 0:
            return min(self._settings.poll, left)
        # What is due and was not taken, because its relay is away or all threads are busy, is no reason to spin.
        return _LEAST_PAUSE if self._took else self._settings.poll / 4

    def _dispatch(self) -> None:
        now = self._clock.now()
        if self._store.lapsed_wrapped(now, _LAPSED_AT_ONCE):
            reach("wrap.lapsed")
            _log.info("wrapped answers ended unread; their leases are revoked")
        self._probe_troubled()
        self._keep_claims()
        self._tidy_now_and_then()
        self._took = self._left_some = False
        until = now + timedelta(seconds=self._settings.claim)
        for mount_uuid in self._store.due_mounts(now):
            room = self._room(mount_uuid)
            if room is None:
                continue
            if room <= 0:
                self._left_some = True
                continue
            leases = self._store.claim_due_leases(now, until, room, mount_uuid)
            reach("expiry.claimed")
            self._took = self._took or bool(leases)
            self._left_some = self._left_some or len(leases) == room
            self._pool.add(mount_uuid, leases)
        self._pool.poke()

    def _room(self, mount_uuid: str) -> int | None:
        """How many more of a mount's leases to claim: some rounds ahead, in bulk. None while its relay is away,
        beyond the one that is tried."""
        waiting, in_flight = self._pool.load(mount_uuid)
        with self._gates_lock:
            gate = self._gate(mount_uuid)
            if not gate.admits(self._clock.monotonic(), in_flight):
                return None
            if gate.tripped:
                return None if waiting else 1
        return self._ahead - waiting if waiting <= self._ahead // 2 else 0

    def _probe_troubled(self) -> None:
        now = self._clock.monotonic()
        with self._gates_lock:
            wanted = [mount for mount, gate in self._gates.items() if gate.wants_probe(now)]
        for mount_uuid in wanted:
            if self._pool.load(mount_uuid) == (0, 0):
                self._store.hasten(mount_uuid, self._clock.now(), limit=1)

    def _keep_claims(self) -> None:
        now = self._clock.monotonic()
        if now - self._extended < self._settings.claim / 3:
            return
        self._extended = now
        if held := self._pool.held():
            self._store.extend_claims(held, self._clock.now() + timedelta(seconds=self._settings.claim))

    def _tidy_now_and_then(self) -> None:
        now = self._clock.monotonic()
        if now - self._tidied >= self._settings.tidy_every:
            self._tidied = now
            self._manager.tidy()

    def _admits(self, mount_uuid: str, in_flight: int) -> bool:
        with self._gates_lock:
            return self._gate(mount_uuid).admits(self._clock.monotonic(), in_flight)

    def _gate(self, mount_uuid: str) -> Gate:
        gate = self._gates.get(mount_uuid)
        if gate is None:
            gate = self._gates[mount_uuid] = Gate(self._settings, self._rng)
        return gate

    def _revoke(self, lease: LeaseRecord) -> None:
        """One attempt, and what it says about the mount's relay."""
        mount_uuid = lease.mount_uuid
        try:
            self._manager.revocation.attempt(lease, "expiry")
        except RelayRateLimited as error:
            with self._gates_lock:
                self._gate(mount_uuid).rate_limited(
                    self._clock.monotonic(), error.retry_after or _UNSAID_RETRY_AFTER
                )
        except EngineError as error:
            # A deleted key that is still accepted says nothing against the relay.
            if not isinstance(error, StillAccepted):
                with self._gates_lock:
                    self._gate(mount_uuid).failed(
                        self._clock.monotonic(), away=isinstance(error, Unavailable)
                    )
        except StorageError as error:
            _log.warning(
                "a revoked lease could not be deleted; it is tried again",
                lease_id=lease.lease_id,
                error=str(error),
            )
        else:
            self._succeeded(mount_uuid)
        if self._left_some and self._pool.load(mount_uuid)[0] <= self._ahead // 2:
            self.wake()

    def _succeeded(self, mount_uuid: str) -> None:
        with self._gates_lock:
            gate = self._gate(mount_uuid)
            was_away = gate.tripped
            others_follow = gate.succeeded(self._clock.monotonic())
        if others_follow:
            self._try(
                "failed revocations could not be hastened",
                lambda: self._store.hasten(mount_uuid, self._clock.now()),
            )
        if was_away or others_follow:
            self.wake()

    # intents

    def _intent_loop(self) -> None:
        while not self._stopping.is_set():
            worked = self._try("mint intents could not be looked at", self._resolver.run_once)
            if not worked:
                self._wake_intents.wait(self._settings.poll)
                self._wake_intents.clear()

    # what was forced

    def _forced_loop(self) -> None:
        while not self._stopping.is_set():
            if not self._try("keys given up by force could not be looked at", self._manager.forced.run_once):
                self._stopping.wait(self._settings.poll)

    def _try(self, what: str, work: Callable[[], object]) -> object:
        """The loops outlive everything: a full disk, a relay's nonsense, a mistake of ours."""
        try:
            return work()
        except AikeysError as error:
            _log.warning(what, error=str(error))
        except Exception:  # noqa: BLE001 - a loop that ends would end every revocation with it
            _log.exception(what)
        return None
