"""One key, asked for once and never forgotten.

Intent durable, then the call to the relay, then either a key on its way into a lease, or a refusal with the intent
removed, or an unknown outcome with the intent left to the resolver. Invariant: from before the first byte until
the lease is stored there is an intent on the disk that names the key.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from aikeys.errors import StorageError
from aikeys.framework.clock import Clock
from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Mount
from aikeys.minting.bounds import MintBounds
from aikeys.minting.errors import MintNotRecorded, MintUnavailable, MintUnsettled, over_limit, refusal
from aikeys.minting.journal import intent_to_json, new_intent
from aikeys.minting.marks import marked
from aikeys.redaction import redactor
from aikeys.relays.interface import Driver, DriverError, Kind, Minted, MintIntent, Outcome, Scopes
from aikeys.storage.failpoints import reach
from aikeys.storage.interface import Store
from aikeys.storage.records import IntentRecord, IntentState, IssueLimits, LimitReached

_log = structlog.get_logger(__name__)

# A call that has less time than this is not begun: it could only end unknown.
_LEAST_TIME = 0.25
# A relay that asks for more patience than this within one request is not waited for.
_LONGEST_PAUSE = 2.0


@dataclass(frozen=True, slots=True)
class MintedKey:
    """A key that waits for its lease; `intent_id` goes into the secret, so that storing the lease completes it."""

    intent_id: str
    minted: Minted


@dataclass(slots=True)
class _Tries:
    """What one request may still do. Each kind of repetition is allowed once."""

    connect: int = 1
    repeat: int = 1
    unknown: bool = field(default=False)


class Minter:
    """Mints keys for leases. Safe for many threads."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        bounds: MintBounds | None = None,
        *,
        sleep: Callable[[float], None] = time.sleep,
        unsettled: Callable[[], None] = lambda: None,
    ) -> None:
        """`unsettled` is called when there is something for the resolver."""
        self._store = store
        self._clock = clock
        self._bounds = bounds or MintBounds()
        self._sleep = sleep
        self.unsettled = unsettled

    def mint(
        self,
        *,
        mount: Mount,
        role: str,
        driver: Driver,
        scopes: Scopes,
        expires_at: datetime,
        metadata: dict[str, str],
        deadline: Deadline,
        limits: IssueLimits | None = None,
    ) -> MintedKey:
        """A new key at the relay, that dies there at `expires_at` (UTC, whole seconds) whatever happens here.

        Raises `EngineError`s of `aikeys.minting.errors`; with each of them no key is left that is not on record.
        """
        total = deadline.at_most(self._bounds.total)
        if total.remaining() < _LEAST_TIME:
            raise MintUnavailable("the request's time was over before the relay was asked; no key was made")
        intent = new_intent(mount.instance, scopes, expires_at, metadata)
        record = self._record(mount, role, intent, total)
        reach("issue.before_intent")
        try:
            record = replace(record, serial=self._store.put_intent(record, limits))
        except LimitReached as error:
            raise over_limit(error, mount, role) from error
        except StorageError as error:
            raise MintNotRecorded(
                f"a key is only made when that can be put on record, and the storage failed: {error}"
            ) from error
        intent = marked(intent, record.serial, record.created_at)
        reach("issue.intent_stored")
        minted = self._ask(driver, intent, record, total)
        reach("issue.relay_answered")
        return MintedKey(intent.intent_id, minted)

    def abandon(
        self, intent_id: str, minted: Minted, driver: Driver, reason: str, *, mount_uuid: str = ""
    ) -> None:
        """The key cannot be handed out: revoke it now if that works, else the resolver does. Never raises."""
        recorded = self._record_abandoned(intent_id, minted, reason, mount_uuid)
        reach("issue.abandoned")
        try:
            driver.revoke(minted.ref, Deadline.after(self._bounds.revoke))
            if recorded:
                self._store.delete_intent(intent_id)
        except (DriverError, StorageError) as error:
            _log.warning("an abandoned key is left to the resolver", intent_id=intent_id, error=str(error))
            self.unsettled()

    def _record_abandoned(self, intent_id: str, minted: Minted, reason: str, mount_uuid: str) -> bool:
        try:
            if not mount_uuid:
                found = (record for record in self._store.intents() if record.intent_id == intent_id)
                mount_uuid = next(found).mount_uuid
            self._store.reopen_intent(
                IntentRecord.of_abandoned_key(
                    intent_id=intent_id,
                    mount_uuid=mount_uuid,
                    key_ref=minted.ref.to_json(),
                    expires_at=minted.upstream_expires_at,
                    now=self._clock.now(),
                    reason=reason,
                )
            )
        except (StorageError, StopIteration) as error:
            # The intent of the mint itself, which names the key, is still there or was settled.
            _log.error("a key's abandonment could not be recorded", intent_id=intent_id, error=str(error))
            return False
        return True

    def _record(self, mount: Mount, role: str, intent: MintIntent, total: Deadline) -> IntentRecord:
        now = self._clock.now()
        over = now + timedelta(seconds=total.remaining() + self._bounds.slack)
        return IntentRecord(
            intent_id=intent.intent_id,
            mount_uuid=mount.uuid,
            role=role,
            name=intent.name,
            order=intent_to_json(intent),
            state=IntentState.MINTING,
            created_at=now,
            deadline=over,
            due_at=over,
        )

    def _ask(self, driver: Driver, intent: MintIntent, record: IntentRecord, total: Deadline) -> Minted:
        tries = _Tries()
        while True:
            try:
                return driver.mint(intent, total.at_most(self._bounds.attempt))
            except DriverError as error:
                if not self._may_repeat(driver, error, tries, total):
                    raise self._give_up(record, error, tries) from error
            except Exception as error:
                # No driver should raise anything else; if one does, what the relay did is unknown.
                _log.exception(
                    "the driver failed unexpectedly", relay=driver.name, intent_id=intent.intent_id
                )
                self._leave_to_resolver(record, type(error).__name__)
                raise MintUnsettled("an internal error") from error

    def _may_repeat(self, driver: Driver, error: DriverError, tries: _Tries, total: Deadline) -> bool:
        """Whether the same intent is put to the relay again; if so, after the pause."""
        if error.outcome is Outcome.NOT_APPLIED:
            # Nothing arrived. Only a failed connection is worth another try within the same request.
            if error.kind is not Kind.UNAVAILABLE or tries.connect == 0:
                return False
            tries.connect -= 1
        else:
            tries.unknown = True
            # With an idempotency key the relay answers a repetition with the first call's result: asking again
            # resolves, it does not retry. Without one it could make a second key.
            if driver.capabilities().idempotency != "header" or tries.repeat == 0:
                return False
            tries.repeat -= 1
        pause = max(self._bounds.pause, error.retry_after or 0.0)
        if pause > _LONGEST_PAUSE or total.remaining() < pause + _LEAST_TIME:
            return False
        self._sleep(pause)
        return True

    def _give_up(self, record: IntentRecord, error: DriverError, tries: _Tries) -> Exception:
        if tries.unknown:
            self._leave_to_resolver(record, error.safe_message)
            return MintUnsettled(error.safe_message)
        try:
            self._store.delete_intent(record.intent_id)
        except StorageError as failure:
            # It stays and the resolver finds nothing: untidy, not wrong.
            _log.warning("a refused mint's intent stays", intent_id=record.intent_id, error=str(failure))
        reach("issue.refusal_noted")
        return refusal(error)

    def _leave_to_resolver(self, record: IntentRecord, reason: str) -> None:
        now = self._clock.now()
        try:
            self._store.update_intent(
                replace(
                    record, state=IntentState.SETTLING, due_at=now, last_error=redactor.redact(reason)[:400]
                )
            )
        except StorageError as failure:
            # It stays MINTING and comes due by its deadline.
            _log.warning(
                "an unknown outcome could not be noted", intent_id=record.intent_id, error=str(failure)
            )
        reach("issue.unknown_noted")
        self.unsettled()
