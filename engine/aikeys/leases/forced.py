"""Keys whose leases were revoked by force, without the relay's word: the risk that was taken, until it is closed.

For every client such a lease is gone, and it holds up nothing, not even the end of its mount. Its key may be accepted
all the same, so it stays on record and is tried at the relay until that refuses it, or has ended it by itself.
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
from aikeys.framework.request import Mount
from aikeys.framework.response import Secret
from aikeys.leases.lease import ERROR_LENGTH, LeaseCallbacks, StillAccepted
from aikeys.leases.settings import LeaseSettings
from aikeys.redaction import redactor
from aikeys.storage.interface import Store
from aikeys.storage.records import ForcedKey, LeaseRecord

_log = structlog.get_logger(__name__)

# So many are tried at once: they are few, and nobody waits for them.
_AT_ONCE = 4
# A claim outlives the longest revocation (`Deadline.default`).
_CLAIM = timedelta(seconds=120)
# How far our clock may be ahead of the relay's when that has ended a key by itself (`MintBounds.expiry_margin`).
_CLOCK_MARGIN = timedelta(seconds=900)


def forced_key(lease: LeaseRecord, reason: str, now: datetime, due_at: datetime) -> ForcedKey:
    """What is kept of a lease that is revoked by force because of `reason`."""
    ends = lease.internal.get("upstream_expires_at")
    return ForcedKey(
        lease_id=lease.lease_id,
        mount_uuid=lease.mount_uuid,
        secret_type=lease.secret_type,
        internal=lease.internal,
        role=lease.role,
        forced_at=now,
        key_ends=datetime.fromisoformat(ends) if ends else None,
        due_at=due_at,
        last_error=reason[:ERROR_LENGTH],
        deleted_at=lease.deleted_at,
    )


def told(key: ForcedKey) -> dict[str, str]:
    """What the log says of one."""
    return {
        "lease_id": key.lease_id,
        "role": key.role,
        "key_id": key.key_id,
        "key_ends": "" if key.key_ends is None else key.key_ends.isoformat(),
        "error": key.last_error,
    }


class ForcedKeys:
    """Safe to run in many processes: each key is claimed by one at a time."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        callbacks: LeaseCallbacks,
        mount_of: Callable[[str], Mount],
        settings: LeaseSettings,
        *,
        rng: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._clock = clock
        self._callbacks = callbacks
        self._mount_of = mount_of
        self._settings = settings
        self._rng = rng

    def run_once(self) -> int:
        """Try those that are due, a few at a time; how many there were."""
        now = self._clock.now()
        keys = self._store.claim_forced(now, now + _CLAIM, _AT_ONCE)
        if keys:
            with ThreadPoolExecutor(len(keys), thread_name_prefix="aikeys-forced") as pool:
                for work in [pool.submit(self._try, key) for key in keys]:
                    work.result()
        return len(keys)

    def _try(self, key: ForcedKey) -> None:
        secret = Secret(
            type=key.secret_type,
            internal_data=key.internal,
            role=key.role,
            lease_id=key.lease_id,
            deleted_at=key.deleted_at,
        )
        try:
            self._callbacks.revoke(secret, self._mount_of(key.mount_uuid))
            self._store.delete_forced(key.lease_id)
        except Exception as error:  # noqa: BLE001 - whatever it is, the key must not be lost for it
            if not isinstance(error, AikeysError):
                _log.exception("trying a key that was given up by force failed unexpectedly")
            self._postpone(key, error)
            return
        _log.info("a key that was given up by force is revoked", **told(key))
        # The relay answers again: the others need not wait for their time.
        self._store.hasten_forced(key.mount_uuid, self._clock.now())

    def _postpone(self, key: ForcedKey, error: Exception) -> None:
        now = self._clock.now()
        text = str(error) if isinstance(error, AikeysError) else type(error).__name__
        changed = replace(
            key,
            attempts=key.attempts + 1,
            last_error=redactor.redact(text)[:ERROR_LENGTH],
            due_at=now + timedelta(seconds=self._settings.backoff.wait(key.attempts + 1, self._rng)),
        )
        if isinstance(error, StillAccepted):
            changed = replace(changed, deleted_at=error.deleted_at)
        try:
            if key.key_ends is not None and now > key.key_ends + _CLOCK_MARGIN:
                _log.warning(
                    "a key that was given up by force has ended at the relay by itself", **told(changed)
                )
                self._store.delete_forced(key.lease_id)
            else:
                self._store.update_forced(changed)
        except StorageError as failure:
            # The claim lapses, and then it is tried again.
            _log.warning("a try could not be noted", lease_id=key.lease_id, error=str(failure))
