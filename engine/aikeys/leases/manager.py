"""The leases of every mount: issue, renew, look up, revoke (Vault: vault/expiration.go).

What is decided is on the disk before anything is done about it: a lease that is to end is REVOKING there first, and
only then is the relay asked. Texts and status codes of the errors are Vault's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog

from aikeys.errors import AikeysError, StorageError
from aikeys.framework.clock import Clock
from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Caller, Mount
from aikeys.framework.response import EngineError, InvalidRequest, Secret, Unavailable
from aikeys.leases.arithmetic import PastMaxTTL, calculate_ttl
from aikeys.leases.forced import ForcedKeys
from aikeys.leases.lease import (
    BATCH,
    LeaseCallbacks,
    LeaseObserver,
    LeaseView,
    Registered,
    Renewed,
    Revoked,
    batch_end,
    check_renewable,
    new_lease,
    renewal_failed,
    revocation_failed,
    revoking,
    secret_of,
    view,
)
from aikeys.leases.revocation import Revocation, as_engine_error
from aikeys.leases.settings import LeaseSettings
from aikeys.storage.failpoints import reach
from aikeys.storage.interface import Store
from aikeys.storage.records import IntentRecord, LeaseRecord, LeaseState

_log = structlog.get_logger(__name__)

T = TypeVar("T")
# Inside the class the name `list` is a method's.
_Names = list[str]

# So many refusals without one success between them: the relay is away, forced deletions need not wait for it.
_FORCE_TRIES = 3


class LeaseManager:
    """Safe for many threads and processes on one store."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        callbacks: LeaseCallbacks,
        mount_of: Callable[[str], Mount],
        settings: LeaseSettings | None = None,
        *,
        observer: LeaseObserver | None = None,
        rng: Callable[[], float] = random.random,
    ) -> None:
        """`mount_of` takes a mount's uuid and raises when there is none. `wake` is set by the background."""
        self._store = store
        self._clock = clock
        self._callbacks = callbacks
        self._mount_of = mount_of
        self.settings = settings or LeaseSettings()
        self.revocation = Revocation(
            store, clock, callbacks, mount_of, self.settings, observer=observer, rng=rng
        )
        self.forced = ForcedKeys(store, clock, callbacks, mount_of, self.settings, rng=rng)
        self.wake: Callable[[], None] = lambda: None

    # issue and renew

    def register(
        self, mount: Mount, request_path: str, secret: Secret, caller: Caller, namespace: str = ""
    ) -> Registered:
        """Store the lease of `secret` and thereby complete its mint intent; `request_path` includes the mount.

        The lease counts from `secret.issue_time` where the engine gives one: the moment from which it reckoned the
        key's end at the relay. When it cannot be stored the key is revoked, now or by the resolver, and `EngineError`
        says so.
        """
        now = secret.issue_time or self._clock.now()
        lease: LeaseRecord | None = None
        try:
            life = calculate_ttl(
                increment=0,
                role_ttl=secret.ttl,
                role_max=secret.max_ttl,
                mount_default=mount.default_lease_ttl,
                mount_max=mount.max_lease_ttl,
                issue_time=now,
                now=now,
                token_expire_time=caller.expire_time if caller.token_type == BATCH else None,
            )
            lease = new_lease(mount, request_path, secret, caller, namespace=namespace, now=now, life=life)
            reach("issue.before_lease")
            if secret.intent_id:
                self._store.complete_intent(secret.intent_id, lease)
            else:
                self._store.put_lease(lease)
            reach("issue.lease_stored")
        except (StorageError, PastMaxTTL) as error:
            self._undo(mount, secret, "" if lease is None else lease.lease_id, str(error), now)
            if isinstance(error, PastMaxTTL):
                raise InvalidRequest(
                    "the token ends now, so its lease would have no life; nothing was handed out"
                ) from error
            raise Unavailable(
                f"the lease could not be stored, so the key is not handed out and is revoked: {error}"
            ) from error
        return Registered(lease.lease_id, life.ttl, secret.renewable, life.warnings)

    def _undo(self, mount: Mount, secret: Secret, lease_id: str, reason: str, now: datetime) -> None:
        """The key exists and nobody gets it. On record first, then revoked; what fails is left to the resolver."""
        ref: dict[str, Any] | None = secret.internal_data.get("ref")
        recorded = False
        if secret.intent_id and ref is not None:
            end = secret.internal_data.get("upstream_expires_at")
            record = IntentRecord.of_abandoned_key(
                intent_id=secret.intent_id,
                mount_uuid=mount.uuid,
                role=secret.role,
                key_ref=ref,
                expires_at=datetime.fromisoformat(end) if end else None,
                now=now,
                reason=reason,
            )
            try:
                self._store.reopen_intent(record, lease_id)
                recorded = True
            except StorageError as error:
                _log.error(
                    "a key without a lease could not be noted", intent_id=secret.intent_id, error=str(error)
                )
        reach("issue.abandoned")
        try:
            self._callbacks.revoke(secret, mount)
            if recorded:
                self._store.delete_intent(secret.intent_id)
        except Exception as error:  # noqa: BLE001 - the caller is answered with the first failure, not with this one
            _log.warning(
                "a key without a lease is left to the resolver",
                intent_id=secret.intent_id,
                error=as_engine_error(error).message,
            )

    def renew(self, lease_id: str, increment: int = 0) -> Renewed:
        """Extend (or shorten) a lease to `increment` seconds from now, 0 = the role's default; at the relay first."""
        now = self._clock.now()
        lease = check_renewable(self._read(lease_id), now)
        try:
            mount = self._mount_of(lease.mount_uuid)
            renewed = self._callbacks.renew(secret_of(lease, increment), mount)
            reach("renew.relay_extended")
            now = self._clock.now()
            life = calculate_ttl(
                increment=increment,
                role_ttl=renewed.ttl,
                role_max=renewed.max_ttl,
                mount_default=mount.default_lease_ttl,
                mount_max=mount.max_lease_ttl,
                issue_time=lease.issue_time,
                now=now,
                token_expire_time=batch_end(lease),
            )
        except PastMaxTTL as error:
            raise renewal_failed(str(error)) from None
        except EngineError as error:
            raise renewal_failed(error.message) from error
        changed = replace(
            lease,
            expire_time=life.expire_time,
            last_renewal=now,
            ttl=renewed.ttl,
            max_ttl=renewed.max_ttl,
            internal=renewed.internal_data,
        )
        if not self._stored(lambda: self._store.update_lease(changed, expected=LeaseState.ACTIVE)):
            # Its end was decided while the relay was asked; the revocation is under way or done.
            check_renewable(self._read(lease_id), now)
            raise InvalidRequest("lease expired")
        reach("renew.stored")
        return Renewed(lease_id, life.ttl, renewed.renewable, life.warnings)

    # look up

    def lookup(self, lease_id: str) -> LeaseView | None:
        lease = self._read(lease_id)
        return None if lease is None else view(lease, self._clock.now())

    def list(self, prefix: str) -> _Names:
        """One level below `prefix`; directories end in "/"."""
        return self._stored(lambda: self._store.lease_names(_as_directory(prefix)))

    def failing(self, mount_uuid: str = "", limit: int = 10_000) -> Sequence[LeaseView]:
        """Leases whose revocation has failed and is tried again, by expiry, then id."""
        now = self._clock.now()
        leases = self._stored(lambda: self._store.failing_leases(mount_uuid, limit))
        return [view(lease, now) for lease in leases]

    def count(self, mount_uuid: str = "", role: str = "", *, failing: bool = False) -> int:
        return self._stored(lambda: self._store.count_leases(mount_uuid, role, failing=failing))

    # revoke

    def revoke(self, lease_id: str, *, sync: bool = True) -> Revoked:
        """End one lease. Unknown is fine. With `sync` InvalidRequest when the relay did not; it is retried."""
        lease = self._read(lease_id)
        if lease is None:
            return Revoked()
        self._mark([lease_id], claim=sync)
        if not sync:
            self.wake()
            return Revoked()
        try:
            report = self.revocation.attempt(revoking(lease, self._clock.now()), "revoke")
        except AikeysError as error:
            raise revocation_failed(as_engine_error(error).message) from error
        return Revoked.of(report, self._clock.now())

    def revoke_prefix(self, prefix: str, *, sync: bool = True, deadline: Deadline | None = None) -> Revoked:
        """End all leases below `prefix`, or the one of that id (Vault: revokePrefixCommon).

        All are REVOKING before the first is tried. With `sync` InvalidRequest names the first that failed; that one
        and those not tried yet are left to the background, as are those for which the time was too short.
        """
        ids, single = self._ids(prefix)
        if not ids:
            return Revoked()
        self._mark(ids, claim=False)
        if not sync:
            self.wake()
            return Revoked()
        end = (deadline or Deadline.default()).at_most(self.settings.prefix_wait)
        told, failed = self._revoke_in_order(ids, end)
        if failed is None:
            return told
        self.wake()
        index, reason = failed
        counted = "" if single else f" ({index + 1} / {len(ids)})"
        raise InvalidRequest(f'failed to revoke "{ids[index]}"{counted}: {reason}')

    def revoke_force(self, prefix: str) -> None:
        """End all leases below `prefix` even where the relay does not: an operator's decision, each risk on record."""
        ids, _ = self._ids(prefix)
        if not ids:
            return
        self._mark(ids, claim=False)
        refusals = 0

        def force(lease_id: str) -> None:
            nonlocal refusals
            lease = self._read(lease_id)
            if lease is not None:
                revoked = self.revocation.force(lease, ask_relay=refusals < _FORCE_TRIES)
                refusals = 0 if revoked else refusals + 1

        self._stored(lambda: self._each(ids, force))

    def revoke_of_tokens(self, accessors: Sequence[str]) -> int:
        """Tokens died: their leases end, and those of batch tokens below them; in the background. How many."""
        ids = self._stored(lambda: self._store.active_leases_of_tokens(accessors))
        if ids:
            self._mark(ids, claim=False)
            self.wake()
        return len(ids)

    def tidy(self) -> dict[str, int]:
        """Put right what no orderly run leaves behind; what was found, by name."""
        now = self._clock.now()
        longest = max(self.settings.backoff.longest, self.settings.claim) + 60
        released = self._stored(lambda: self._store.release_stale(now, now + timedelta(seconds=longest)))
        if released:
            _log.warning("work that waited for an impossible time was made due", count=released)
            self.wake()
        while self._stored(lambda: self._store.forget(now - timedelta(seconds=self.settings.remember))):
            pass
        return {
            "released": released,
            "leases": self.count(),
            "failing": self.count(failing=True),
            "intents": len(self._stored(self._store.intents)),
        }

    # helpers

    def _read(self, lease_id: str) -> LeaseRecord | None:
        return self._stored(lambda: self._store.lease(lease_id))

    def _ids(self, prefix: str) -> tuple[_Names, bool]:
        """The leases meant, and whether `prefix` was one lease's id."""
        if not prefix.endswith("/") and self._read(prefix) is not None:
            return [prefix], True
        return self._stored(lambda: self._store.lease_ids_with_prefix(_as_directory(prefix))), False

    def _mark(self, ids: Sequence[str], *, claim: bool) -> None:
        now = self._clock.now()
        until = now + timedelta(seconds=self.settings.claim) if claim else None
        self._stored(lambda: self._store.mark_revoking(ids, now, until))
        reach("revoke.marked")

    def _revoke_in_order(self, ids: Sequence[str], end: Deadline) -> tuple[Revoked, tuple[int, str] | None]:
        """Revoke a handful at a time; with the first that failed and why, None when all went."""
        size, told = self.settings.workers, Revoked()
        for start in range(0, len(ids), size):
            if end.passed:
                reason = f"not within {self.settings.prefix_wait:.0f} s; revocation goes on in the background"
                return told, (start, reason)
            some = ids[start : start + size]
            self._mark(some, claim=True)
            for index, outcome in enumerate(self._each(some, self._revoke_one)):
                if isinstance(outcome, str):
                    return told, (start + index, outcome)
                told = told.and_(outcome)
        return told, None

    def _revoke_one(self, lease_id: str) -> Revoked | str:
        """What the relay told, or why it failed."""
        try:
            lease = self._store.lease(lease_id)
            if lease is None:
                return Revoked()
            report = self.revocation.attempt(revoking(lease, self._clock.now()), "revoke-prefix")
        except AikeysError as error:
            return revocation_failed(as_engine_error(error).message).message
        return Revoked.of(report, self._clock.now())

    def _each(self, ids: Sequence[str], do: Callable[[str], T]) -> Sequence[T]:
        """`do` for each, several at once, results in order."""
        if len(ids) == 1:
            return [do(ids[0])]
        with ThreadPoolExecutor(
            min(self.settings.workers, len(ids)), thread_name_prefix="aikeys-revoke"
        ) as pool:
            return [*pool.map(do, ids)]

    def _stored(self, work: Callable[[], T]) -> T:
        """`work` on the store; a failing store is a 503 with its reason."""
        try:
            return work()
        except StorageError as error:
            raise Unavailable(str(error)) from error


def _as_directory(prefix: str) -> str:
    return prefix if not prefix or prefix.endswith("/") else prefix + "/"
