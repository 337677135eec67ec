"""What a lease is and may do next: shapes and decisions, no IO. Texts are Vault's (vault/expiration.go)."""

from __future__ import annotations

import secrets
import string
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol

from aikeys.framework.request import Caller, Mount
from aikeys.framework.response import EngineError, InvalidRequest, Secret
from aikeys.leases.arithmetic import TTLResult, remaining_ttl
from aikeys.redaction import redactor
from aikeys.storage.records import EndedLease, LeaseRecord, LeaseState

_BASE62 = string.digits + string.ascii_uppercase + string.ascii_lowercase
# Vault: TokenLength in vault/token_store.go.
_ID_LENGTH = 24
BATCH = "batch"
# Vault calls a lease irrevocable after this many failures (maxRevokeAttempts). Here it is only a word: we go on.
IRREVOCABLE_AFTER = 6
# Vault keeps this much of a revocation's error (maxIrrevocableErrorLength).
ERROR_LENGTH = 240
_NO_RESPONSE = "resp: (*logical.Response)(nil) err: "


@dataclass(frozen=True, slots=True)
class Registered:
    """A lease that now exists. `ttl` in seconds is the answer's `lease_duration`."""

    lease_id: str
    ttl: int
    renewable: bool
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Renewed:
    lease_id: str
    ttl: int
    renewable: bool
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Revoked:
    """What the relay told of the revocations that a client waited for.

    `effective_by` is the latest moment at which it refuses one of the keys on every node, None when it was not asked.
    `lag` is the longest time in seconds from a deletion to the refusal that was seen, None when nobody looked.
    """

    effective_by: datetime | None = None
    lag: float | None = None

    @classmethod
    def of(cls, report: dict[str, Any], now: datetime) -> Revoked:
        """From what `LeaseCallbacks.revoke` has just answered."""
        within = report.get("effective_within")
        return cls(None if within is None else now + timedelta(seconds=within), report.get("lag"))

    def and_(self, other: Revoked) -> Revoked:
        """Of both."""
        return Revoked(
            max(filter(None, (self.effective_by, other.effective_by)), default=None),
            max((lag for lag in (self.lag, other.lag) if lag is not None), default=None),
        )


@dataclass(frozen=True, slots=True)
class LeaseView:
    """What `sys/leases/lookup` tells. `ttl` is negative once the lease should have ended.

    `revoke_error` is "" until a revocation has failed. `failures` counts them, `next_attempt` is set while REVOKING.
    """

    id: str
    path: str
    issue_time: datetime
    expire_time: datetime
    last_renewal: datetime | None
    ttl: int
    renewable: bool
    namespace: str
    revoke_error: str
    failures: int
    state: LeaseState
    next_attempt: datetime | None
    mount_uuid: str
    role: str
    token_accessor: str
    entity_id: str


class StillAccepted(EngineError):
    """The relay deleted the key at `deleted_at`, and it was accepted after that or could not be tried.

    Every node should refuse it by `effective_by`. `retry_in` is in seconds; None when that time is over already: then
    it is a failure like any other, which waits longer each time.
    """

    def __init__(
        self, message: str, retry_in: float | None, *, deleted_at: datetime, effective_by: datetime
    ) -> None:
        super().__init__(message)
        self.retry_in = retry_in
        self.deleted_at = deleted_at
        self.effective_by = effective_by


class LeaseCallbacks(Protocol):
    """The engine's side of a lease. Both raise `EngineError` when it could not be done."""

    def renew(self, secret: Secret, mount: Mount) -> Secret:
        """The secret with the role's present `ttl` and `max_ttl`, after the key's end at the relay was moved."""
        ...

    def revoke(self, secret: Secret, mount: Mount) -> dict[str, Any]:
        """The relay refuses the key, or will within `effective_within` seconds of now. `lag` as in `Revoked`.

        Raises `StillAccepted` when the relay deleted the key and that is not all that was asked for.
        """
        ...


class LeaseObserver(Protocol):
    """Is told what happens to leases, for metrics and audit. Must not raise."""

    def revoked(self, lease: LeaseRecord, report: dict[str, Any], cause: str) -> None: ...

    def revocation_failed(self, lease: LeaseRecord, error: str, cause: str) -> None: ...


def new_lease_id(path: str) -> str:
    """`<path>/<24 base62 characters>`, unguessable: who knows it may renew the lease."""
    return path + "/" + "".join(secrets.choice(_BASE62) for _ in range(_ID_LENGTH))


def new_lease(
    mount: Mount, path: str, secret: Secret, caller: Caller, *, namespace: str, now: datetime, life: TTLResult
) -> LeaseRecord:
    return LeaseRecord(
        lease_id=new_lease_id(path),
        mount_uuid=mount.uuid,
        path=path,
        secret_type=secret.type,
        internal=secret.internal_data,
        role=secret.role,
        issue_time=now,
        expire_time=life.expire_time,
        due_at=life.expire_time,
        ttl=secret.ttl,
        max_ttl=secret.max_ttl,
        renewable=secret.renewable,
        namespace=namespace,
        token_accessor=caller.accessor,
        token_type=caller.token_type,
        token_orphan=caller.orphan,
        token_expire_time=caller.expire_time,
        parent_accessor=caller.parent_accessor,
        entity_id=caller.entity_id,
        login_path=caller.token_path,
        login_role=caller.login_role,
        key_hash=secret.key_hash,
        prefix_hash=secret.prefix_hash,
    )


def revoking(lease: LeaseRecord, now: datetime) -> LeaseRecord:
    """The record as `mark_revoking` leaves it."""
    return replace(lease, state=LeaseState.REVOKING, expire_time=min(lease.expire_time, now))


def ended_lease(
    lease: LeaseRecord, now: datetime, cause: str, report: dict[str, Any] | None = None
) -> EndedLease:
    """What is remembered of a lease that ends now. `report` is what `LeaseCallbacks.revoke` has just answered, None when
    it ends without the relay's word."""
    told = Revoked() if report is None else Revoked.of(report, now)
    ends = lease.internal.get("upstream_expires_at")
    return EndedLease(
        lease_id=lease.lease_id,
        mount_uuid=lease.mount_uuid,
        key_hash=lease.key_hash,
        prefix_hash=lease.prefix_hash,
        ended_at=now,
        role=lease.role,
        issue_time=lease.issue_time,
        expire_time=lease.expire_time,
        token_accessor=lease.token_accessor,
        entity_id=lease.entity_id,
        login_path=lease.login_path,
        login_role=lease.login_role,
        key_ref=lease.internal.get("ref", {}),
        cause=cause,
        forced=report is None,
        key_ends=datetime.fromisoformat(ends) if ends else None,
        lag=told.lag,
        effective_by=told.effective_by,
    )


def secret_of(lease: LeaseRecord, increment: int = 0) -> Secret:
    """What the engine gets to renew or revoke it."""
    return Secret(
        type=lease.secret_type,
        internal_data=lease.internal,
        ttl=lease.ttl,
        max_ttl=lease.max_ttl,
        renewable=lease.renewable,
        role=lease.role,
        lease_id=lease.lease_id,
        increment=increment,
        issue_time=lease.issue_time,
        deleted_at=lease.deleted_at,
    )


def batch_end(lease: LeaseRecord) -> datetime | None:
    """A batch token's end caps its leases; a service token's does not, since its leases die with it anyway."""
    return lease.token_expire_time if lease.token_type == BATCH else None


def check_renewable(lease: LeaseRecord | None, now: datetime) -> LeaseRecord:
    """The lease, or `InvalidRequest` with the reason why it cannot be renewed (leaseEntry.renewable)."""
    if lease is None:
        raise InvalidRequest("lease not found")
    if lease.state is LeaseState.REVOKING and lease.attempts >= IRREVOCABLE_AFTER:
        raise InvalidRequest("lease is expired and has failed previous revocation attempts")
    if lease.state is LeaseState.REVOKING or lease.expire_time <= now:
        raise InvalidRequest("lease expired")
    if not lease.renewable:
        # For a batch token Vault looks no further and asks the engine, which has no renewal for such a secret.
        raise (
            renewal_failed("unsupported operation")
            if lease.token_type == BATCH
            else InvalidRequest("lease is not renewable")
        )
    return lease


def renewal_failed(reason: str) -> InvalidRequest:
    return InvalidRequest(f"failed to renew entry: {_NO_RESPONSE}{redactor.redact(reason)}")


def revocation_failed(reason: str) -> InvalidRequest:
    return InvalidRequest(f"failed to revoke entry: {_NO_RESPONSE}{redactor.redact(reason)}")


def view(lease: LeaseRecord, now: datetime) -> LeaseView:
    revoking = lease.state is LeaseState.REVOKING
    return LeaseView(
        id=lease.lease_id,
        path=lease.path,
        issue_time=lease.issue_time,
        expire_time=lease.expire_time,
        last_renewal=lease.last_renewal,
        ttl=remaining_ttl(lease.expire_time, now),
        renewable=lease.renewable and not revoking and lease.expire_time > now,
        namespace=lease.namespace,
        revoke_error=lease.last_error if revoking else "",
        failures=lease.attempts,
        state=lease.state,
        next_attempt=lease.due_at if revoking else None,
        mount_uuid=lease.mount_uuid,
        role=lease.role,
        token_accessor=lease.token_accessor,
        entity_id=lease.entity_id,
    )
