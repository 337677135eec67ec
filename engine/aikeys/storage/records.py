"""What the engine keeps: mounts, mint intents, leases and what is left of them, tokens, wrapped answers.

Columns named `sealed_*` hold AES-256-GCM boxes: no secret stands in the database in clear. Times are UTC datetimes.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aikeys.errors import AikeysError
from aikeys.redaction import redactor


@dataclass(frozen=True, slots=True)
class MountRecord:
    """A mount as stored. `default_lease_ttl` and `max_lease_ttl` are the upstream's effective seconds.

    `type_name` is what `sys/mounts` shows; `options` is what the user gave, read back unchanged.
    """

    uuid: str
    path: str
    accessor: str
    instance: str
    default_lease_ttl: int
    max_lease_ttl: int
    marker_key: str = field(repr=False)
    namespace: str = ""
    description: str = ""
    options: dict[str, str] | None = None
    tainted: bool = False


@dataclass(frozen=True, slots=True)
class Enabling:
    """A mount that the upstream may have made for us, or moved, and that is not on record at `path` yet.

    `mark` stands in the options of a new mount and in no other's; for a move it begins with the mount's uuid and a
    slash. `path` is the one asked for, without its slash.
    """

    mark: str
    path: str
    asked_at: datetime


class IntentState(enum.StrEnum):
    """MINTING: an attempt may be under way. SETTLING: its outcome is unknown, the resolver looks into it."""

    MINTING = "minting"
    SETTLING = "settling"


@dataclass(frozen=True, slots=True)
class IntentRecord:
    """A key that may exist at the relay without a lease.

    `order` is the JSON of the `MintIntent` (no secret). `deadline` is when the last attempt is surely over.
    `key_id` is filled when the relay's answer is known but the lease could not be stored: then the key is to be
    revoked. `looks` counts the listings that did not show it, `first_look` when the first of them was. `serial` is
    given by the store that puts it on record; "" where no mint was asked for.
    """

    intent_id: str
    mount_uuid: str
    role: str
    name: str
    order: dict[str, Any]
    state: IntentState
    created_at: datetime
    deadline: datetime
    due_at: datetime
    attempts: int = 0
    looks: int = 0
    first_look: datetime | None = None
    key_ref: dict[str, Any] | None = None
    last_error: str = ""
    serial: str = ""

    @classmethod
    def of_abandoned_key(
        cls,
        *,
        intent_id: str,
        mount_uuid: str,
        key_ref: dict[str, Any],
        expires_at: datetime | None,
        now: datetime,
        reason: str,
        role: str = "",
    ) -> IntentRecord:
        """What says: this key exists, has no lease and is to be revoked at once."""
        return cls(
            intent_id=intent_id,
            mount_uuid=mount_uuid,
            role=role,
            name=key_ref["name"],
            order={"expires_at": None if expires_at is None else expires_at.isoformat()},
            state=IntentState.SETTLING,
            created_at=now,
            deadline=now,
            due_at=now,
            key_ref=key_ref,
            last_error=redactor.redact(reason)[:400],
        )


@dataclass(frozen=True, slots=True)
class IssueLimits:
    """What a role allows: `leases` that exist at once, mints under way among them, and `issues` within any `period`
    seconds. 0: no limit."""

    leases: int = 0
    issues: int = 0
    period: int = 0


class LimitReached(AikeysError):
    """A role allows no further issue for now; nothing was changed.

    `retry_after` is in seconds, None when it is not known: then too many leases exist, else too many were issued.
    """

    def __init__(self, limits: IssueLimits, retry_after: float | None = None) -> None:
        super().__init__("the role allows no further issue for now")
        self.limits = limits
        self.retry_after = retry_after


class LeaseState(enum.StrEnum):
    """ACTIVE until it ends; REVOKING from the moment its end is decided until the relay refuses the key."""

    ACTIVE = "active"
    REVOKING = "revoking"


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """One lease (Vault: `leaseEntry` in expiration.go).

    `ttl` and `max_ttl` are the role's wish at issue (0 = mount's). `internal` is the secret's internal data and
    `key_ref` among it; it is stored sealed. `due_at` is when the background has something to do: the expiry
    while ACTIVE, the next attempt while REVOKING. `deleted_at` is when the relay first said that the key is deleted,
    `effective_by` when it promised to refuse it everywhere; both None while it has not.
    """

    lease_id: str
    mount_uuid: str
    path: str
    secret_type: str
    internal: dict[str, Any]
    issue_time: datetime
    expire_time: datetime
    due_at: datetime
    role: str = ""
    last_renewal: datetime | None = None
    ttl: int = 0
    max_ttl: int = 0
    renewable: bool = True
    namespace: str = ""
    token_accessor: str = ""
    token_type: str = "service"
    token_orphan: bool = True
    token_expire_time: datetime | None = None
    parent_accessor: str = ""
    entity_id: str = ""
    state: LeaseState = LeaseState.ACTIVE
    attempts: int = 0
    last_error: str = ""
    deleted_at: datetime | None = None
    effective_by: datetime | None = None
    login_path: str = ""
    login_role: str = ""
    key_hash: str = ""
    prefix_hash: str = ""


@dataclass(frozen=True, slots=True)
class EndedLease:
    """What is remembered of a lease when it is gone, so that a key that turns up later can be told from a stranger's.

    `cause` says who ended it ("expiry", "revoke", ...). `forced`: without the relay's word, so that the key may have
    lived until `key_ends`. `lag` is how many seconds after its deletion the key was seen refused, None when nobody
    looked; `effective_by` is when the relay promised to refuse it everywhere. `key_ref` is its `KeyRef`.
    """

    lease_id: str
    mount_uuid: str
    key_hash: str
    prefix_hash: str
    ended_at: datetime
    role: str
    issue_time: datetime
    expire_time: datetime
    token_accessor: str
    entity_id: str
    login_path: str
    login_role: str
    key_ref: dict[str, Any]
    cause: str
    forced: bool = False
    key_ends: datetime | None = None
    lag: float | None = None
    effective_by: datetime | None = None


@dataclass(frozen=True, slots=True)
class ForcedKey:
    """A key whose lease was revoked by force while the relay did not: it may be accepted until `key_ends`.

    `internal` is the lease's, stored sealed. `due_at` is when it is tried again, `last_error` why it was not revoked.
    `deleted_at` as in `LeaseRecord`.
    """

    lease_id: str
    mount_uuid: str
    secret_type: str
    internal: dict[str, Any]
    role: str
    forced_at: datetime
    key_ends: datetime | None
    due_at: datetime
    attempts: int = 0
    last_error: str = ""
    deleted_at: datetime | None = None

    @property
    def key_id(self) -> str:
        """At the relay."""
        return str(self.internal.get("ref", {}).get("key_id", ""))


@dataclass(frozen=True, slots=True)
class Holder:
    """Whose leases are meant; what is "" is not looked at, and something has to be looked at.

    `token_accessor` includes the batch tokens whose parent that token is. `login_role` goes with `auth_mount`, the
    auth method's path without "auth/" and without slashes at its ends.
    """

    role: str = ""
    entity_id: str = ""
    token_accessor: str = ""
    login_role: str = ""
    auth_mount: str = ""


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """The names of keys that a lease has, and of those that an open intent has."""

    leased: frozenset[str]
    open: frozenset[str]


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A token of the upstream that holds leases, and when it is to be looked up there again.

    `seen_at` is when it was last known to live. `orphan` as at its first lease: only what was no orphan then can die
    with a parent.
    """

    accessor: str
    orphan: bool
    seen_at: datetime
    due_at: datetime


@dataclass(frozen=True, slots=True)
class WitnessRecord:
    """The number that the upstream was last given to keep, in the mounts with these uuids.

    `restored_at` is when it was last seen to have lost one.
    """

    number: int
    mounts: frozenset[str]
    restored_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class WrappedRecord:
    """An answer that waits behind one of the upstream's wrapping tokens. Found by a keyed hash of the token.

    `envelope` is the whole JSON answer, stored sealed. `lease_id` is revoked when it lapses unread.
    """

    token_hash: str
    accessor_hash: str
    envelope: dict[str, Any]
    lease_id: str
    expires_at: datetime
