"""Settles the intents that did not become leases: finds out what the relay did, and revokes whatever it made.

Order of the questions, each of which can end the matter:
1. The key's id is known (its lease could not be stored): revoke it.
2. The relay lists a key of the intent's name: revoke it and see it dead.
3. It lists only dead ones: nothing is left to do.
4. It lists none, and honours idempotency keys: put the same order once more. If the first call arrived, its key
   comes back; if it is still on its way, it will be answered with this one. Either way there is now exactly one key,
   its id is known, and it is revoked. Nothing can follow later.
5. It lists none and cannot repeat: the list may lag and the call may still be on its way, so only several looks over
   a window count.
Whatever fails is tried again, without end; what outlived its own end at the relay needs no more.
Questions 2 to 5 are only asked about an intent of this very database, not of an older copy of it (`Past`).
Never touched: a key whose name is not the intent's own.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta

import structlog

from aikeys.errors import AikeysError, StorageError
from aikeys.framework.clock import Clock
from aikeys.framework.deadline import Deadline
from aikeys.minting.bounds import MintBounds
from aikeys.minting.journal import intent_from_json
from aikeys.minting.marks import marked
from aikeys.minting.past import Past
from aikeys.redaction import redactor
from aikeys.relays.interface import Driver, DriverError, KeyInfo, KeyRef, Kind, MintIntent, Outcome
from aikeys.storage.failpoints import reach
from aikeys.storage.interface import Store
from aikeys.storage.records import IntentRecord

_log = structlog.get_logger(__name__)


class _NotYet(Exception):
    """The matter is open: look again in `wait` seconds. `looks`: this was a look that did not show the key."""

    def __init__(self, reason: str, wait: float | None = None, *, looked: bool = False) -> None:
        super().__init__(reason)
        self.wait = wait
        self.looked = looked


class IntentResolver:
    """Safe to run in many processes: each intent is claimed by one at a time."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        driver_of: Callable[[str], Driver],
        bounds: MintBounds | None = None,
        *,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """`driver_of` takes a mount's uuid and raises an `AikeysError` when that mount has no relay."""
        self._store = store
        self._clock = clock
        self._driver_of = driver_of
        self._bounds = bounds or MintBounds()
        self._past = Past(store, clock, self._bounds)
        self._rng = rng

    def run_once(self) -> int:
        """Work on the intents that are due, a few at a time; how many there were."""
        now = self._clock.now()
        until = now + timedelta(seconds=self._bounds.claim)
        records = self._store.claim_intents(now, until, self._bounds.settlers)
        if not records:
            return 0
        reach("resolve.claimed")
        if len(records) == 1:
            self._work_on(records[0])
        else:
            with ThreadPoolExecutor(len(records), thread_name_prefix="aikeys-settle") as pool:
                for work in [pool.submit(self._work_on, record) for record in records]:
                    work.result()
        return len(records)

    def settle_mount(self, mount_uuid: str, deadline: Deadline) -> int:
        """Before a mount goes: settle all its intents now; how many are left when that or the time is over."""
        self._store.hasten_intents(mount_uuid, self._clock.now())
        while not deadline.passed and self.run_once():
            pass
        return len(self._store.intents(mount_uuid))

    def forget_mount(self, mount_uuid: str) -> int:
        """Drop a mount's intents unsettled, because an operator forces it. Each risk is logged."""
        records = self._store.intents(mount_uuid)
        for record in records:
            _log.warning(
                "a mint intent is dropped by force; a key of this name may live on at the relay",
                key_name=record.name,
                key_id=(record.key_ref or {}).get("key_id", ""),
                role=record.role,
                last_error=record.last_error,
            )
            self._store.delete_intent(record.intent_id)
        return len(records)

    def _work_on(self, record: IntentRecord) -> None:
        try:
            self._settle(record, Deadline.after(self._bounds.settle))
            reach("resolve.settled")
            self._store.delete_intent(record.intent_id)
        except _NotYet as open_matter:
            self._postpone(record, str(open_matter), open_matter.wait, looked=open_matter.looked)
        except DriverError as error:
            self._postpone(record, error.safe_message, error.retry_after)
        except AikeysError as error:
            self._postpone(record, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the intent must not be lost for it
            _log.exception("settling an intent failed unexpectedly", intent_id=record.intent_id)
            self._postpone(record, type(error).__name__)

    def _settle(self, record: IntentRecord, deadline: Deadline) -> None:
        """Return when no live key of this intent exists or can come to exist; raise otherwise."""
        try:
            driver = self._driver_of(record.mount_uuid)
            if record.key_ref is not None:
                self._revoke(driver, KeyRef.from_json(record.key_ref), deadline)
                return
            self._past.check(record, driver, deadline)
            intent = marked(intent_from_json(record.order), record.serial, record.created_at)
            found = self._find(driver, intent, deadline)
            reach("resolve.found")
            if found:
                self._end(driver, intent, found, deadline)
            else:
                self._settle_unlisted(driver, intent, record, deadline)
        except (DriverError, AikeysError, _NotYet):
            if not self._ended_by_itself(record):
                raise
            _log.warning(
                "a mint intent could not be settled in time; its key has ended at the relay by itself",
                key_name=record.name,
                last_error=record.last_error,
            )

    def _find(self, driver: Driver, intent: MintIntent, deadline: Deadline) -> list[KeyInfo]:
        return [info for info in driver.find(intent, deadline) if info.ref.name == intent.name]

    def _end(self, driver: Driver, intent: MintIntent, found: list[KeyInfo], deadline: Deadline) -> None:
        live = [info for info in found if info.status.live]
        for info in live:
            self._revoke(driver, info.ref, deadline)
        if live and any(info.status.live for info in self._find(driver, intent, deadline)):
            raise _NotYet("the relay still lists the key as live after its revocation")

    def _settle_unlisted(
        self, driver: Driver, intent: MintIntent, record: IntentRecord, deadline: Deadline
    ) -> None:
        now = self._clock.now()
        capabilities = driver.capabilities()
        young = now - record.created_at < timedelta(seconds=self._bounds.replay_life)
        if capabilities.idempotency == "header" and young:
            ref = self._repeat(driver, intent, deadline)
            if ref is not None:
                reach("resolve.replayed")
                self._revoke(driver, ref, deadline)
                return
        first = record.first_look or now
        window = max(self._bounds.settle_window, capabilities.list_lag)
        if record.looks + 1 >= self._bounds.looks and now - first >= timedelta(seconds=window):
            return
        raise _NotYet(
            "the relay does not list the key; its list may lag",
            window / (self._bounds.looks - 1),
            looked=True,
        )

    def _repeat(self, driver: Driver, intent: MintIntent, deadline: Deadline) -> KeyRef | None:
        """The key that this order has made, by now or just now; None when the relay refuses the order itself."""
        try:
            return driver.mint(intent, deadline).ref
        except DriverError as error:
            if error.key_id:
                # Made by the first call and no longer shown, or unusable: its id is all that is needed.
                return KeyRef(driver.name, "", error.key_id, intent.name)
            # Refused for what it asks, e.g. because its end is too near by now: then looks must do.
            if error.outcome is Outcome.NOT_APPLIED and error.kind is Kind.INVALID_REQUEST:
                return None
            raise

    def _revoke(self, driver: Driver, ref: KeyRef, deadline: Deadline) -> None:
        try:
            driver.revoke(ref, deadline)
        except DriverError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise
            # "Not found" counts only from a relay that knows us: else a wrong address would end every key.
            driver.check(deadline)
        reach("resolve.revoked")

    def _ended_by_itself(self, record: IntentRecord) -> bool:
        end = self._surely_over(record)
        return end is not None and self._clock.now() > end

    def _surely_over(self, record: IntentRecord) -> datetime | None:
        """When the relay has ended the key whatever happened, its clock's error included; None when unknown."""
        text = record.order.get("expires_at")
        if not text:
            return None
        return datetime.fromisoformat(text) + timedelta(seconds=self._bounds.expiry_margin)

    def _postpone(
        self, record: IntentRecord, reason: str, wait: float | None = None, *, looked: bool = False
    ) -> None:
        now = self._clock.now()
        pause = self._bounds.backoff.wait(record.attempts + 1, self._rng)
        due_at = now + timedelta(seconds=max(wait or 0.0, pause))
        over = self._surely_over(record)
        if over is not None and now < over < due_at:
            due_at = over + timedelta(seconds=1)
        changed = replace(
            record,
            attempts=record.attempts + 1,
            due_at=due_at,
            last_error=redactor.redact(reason)[:400],
        )
        if looked:
            changed = replace(changed, looks=record.looks + 1, first_look=record.first_look or now)
        _log.info(
            "a mint intent stays open",
            key_name=record.name,
            attempts=changed.attempts,
            reason=changed.last_error,
        )
        try:
            self._store.update_intent(changed)
        except StorageError as error:
            # The claim lapses, and then it is looked into again.
            _log.warning("an open intent could not be noted", intent_id=record.intent_id, error=str(error))
