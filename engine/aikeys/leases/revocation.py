"""One attempt to end one lease, whoever asks for it: a client, the expiry, a token's death.

The lease is REVOKING on the disk before this begins. It is deleted only after the relay has said yes; any other
outcome leaves it REVOKING with a time for the next attempt. Nothing here gives up.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import structlog

from aikeys.errors import AikeysError, StorageError
from aikeys.framework.clock import Clock
from aikeys.framework.request import Mount
from aikeys.framework.response import EngineError, RelayRateLimited
from aikeys.leases.forced import forced_key, told
from aikeys.leases.lease import (
    ERROR_LENGTH,
    LeaseCallbacks,
    LeaseObserver,
    StillAccepted,
    ended_lease,
    secret_of,
)
from aikeys.leases.settings import LeaseSettings
from aikeys.redaction import redactor
from aikeys.storage.failpoints import reach
from aikeys.storage.interface import Store
from aikeys.storage.records import LeaseRecord, LeaseState

_log = structlog.get_logger(__name__)


class NoObserver:
    def revoked(self, lease: LeaseRecord, report: dict[str, Any], cause: str) -> None:
        """Nobody wants to know."""

    def revocation_failed(self, lease: LeaseRecord, error: str, cause: str) -> None:
        """Nobody wants to know."""


class Revocation:
    """Safe for many threads; two attempts on one lease at once are harmless, since a relay's revocation is repeatable."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        callbacks: LeaseCallbacks,
        mount_of: Callable[[str], Mount],
        settings: LeaseSettings,
        *,
        observer: LeaseObserver | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._clock = clock
        self._callbacks = callbacks
        self._mount_of = mount_of
        self._settings = settings
        self._observer = observer or NoObserver()
        self._rng = rng

    def attempt(self, lease: LeaseRecord, cause: str) -> dict[str, Any]:
        """The engine's report, once the lease is gone. EngineError when the relay did not revoke, StorageError when
        it did and the lease could not be deleted: both come round again."""
        try:
            report = self._callbacks.revoke(secret_of(lease), self._mount_of(lease.mount_uuid))
        except Exception as error:
            failure = as_engine_error(error)
            self._note_failure(lease, failure, cause)
            raise failure from error
        reach("revoke.relay_revoked")
        ended = ended_lease(lease, self._clock.now(), cause, report)
        self._store.delete_lease(lease.lease_id, ended)
        reach("revoke.lease_deleted")
        self._observer.revoked(lease, report, cause)
        return report

    def force(self, lease: LeaseRecord, *, ask_relay: bool) -> bool:
        """Delete the lease whatever the relay says, and put the risk on record, where it stays until it is closed
        (`ForcedKeys`). Whether the relay revoked the key."""
        reason = "the relay was not asked, it does not answer"
        if ask_relay:
            try:
                self.attempt(lease, "force")
                return True
            except AikeysError as error:
                reason = redactor.redact(str(error))
        now = self._clock.now()
        # What an attempt has put on record meanwhile.
        lease = self._store.lease(lease.lease_id) or lease
        pause = self._settings.backoff.wait(1, self._rng)
        key = forced_key(lease, reason, now, now + timedelta(seconds=pause))
        _log.warning(
            "a lease is deleted by force; its key may still be accepted until its end at the relay",
            **told(key),
        )
        self._store.force_lease(key, ended_lease(lease, now, "force"))
        return False

    def _note_failure(self, lease: LeaseRecord, error: EngineError, cause: str) -> None:
        text = redactor.redact(error.message)[:ERROR_LENGTH]
        failures = lease.attempts
        if isinstance(error, RelayRateLimited):
            # The relay's load, not this lease's trouble: it keeps its place.
            wait = (error.retry_after or self._settings.poll) * (1 + self._rng())
        elif isinstance(error, StillAccepted) and error.retry_in is not None:
            # Deleted at the relay and still accepted for a while: look again when its caches should know.
            wait = error.retry_in
        else:
            failures += 1
            wait = self._settings.backoff.wait(failures, self._rng)
        # Whoever waits longer than the longest pause would be taken for lost (`LeaseManager.tidy`).
        wait = min(wait, self._settings.backoff.longest)
        changed = replace(
            lease,
            state=LeaseState.REVOKING,
            attempts=failures,
            last_error=text,
            due_at=self._clock.now() + timedelta(seconds=wait),
        )
        if isinstance(error, StillAccepted):
            changed = replace(changed, deleted_at=error.deleted_at, effective_by=error.effective_by)
        _log.warning(
            "a revocation failed",
            lease_id=lease.lease_id,
            failures=failures,
            next_in=round(wait, 1),
            error=text,
        )
        try:
            self._store.update_lease(changed, expected=LeaseState.REVOKING)
        except StorageError as failure:
            # The claim lapses, and then it is tried again.
            _log.warning(
                "a failed revocation could not be noted", lease_id=lease.lease_id, error=str(failure)
            )
        reach("revoke.failure_noted")
        self._observer.revocation_failed(changed, text, cause)


def as_engine_error(error: Exception) -> EngineError:
    """Whatever went wrong, as something with a text for the client."""
    if isinstance(error, EngineError):
        return error
    if isinstance(error, AikeysError):
        return EngineError(redactor.redact(str(error)))
    _log.exception("the engine failed unexpectedly")
    return EngineError(f"internal error ({type(error).__name__})")
