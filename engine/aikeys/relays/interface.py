"""What the engine asks of a relay, and what every driver answers.

A driver is a small, stateless translator between the engine's vocabulary and one relay's HTTP API. It never
stores, never logs, never repeats a mint by itself and decides no policy: what must survive a crash belongs to
the engine. Every call takes a `Deadline` and raises only `DriverError`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Protocol

from aikeys.framework.deadline import Deadline
from aikeys.redaction import SecretString


class Kind(enum.StrEnum):
    """What went wrong, seen from the caller's chair."""

    CONFIG = "config"
    AUTH = "auth"
    FORBIDDEN = "forbidden"
    INVALID_REQUEST = "invalid_request"
    SCOPE_UNSUPPORTED = "scope_unsupported"
    CONFLICT = "conflict"
    NOT_FOUND = "not_found"
    QUOTA = "quota"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"
    CANCELLED = "cancelled"


class Outcome(enum.StrEnum):
    """What a mutating call may have done at the relay. Only NOT_APPLIED permits a fresh attempt."""

    NOT_APPLIED = "not_applied"
    APPLIED = "applied"
    UNKNOWN = "unknown"


class DriverError(Exception):
    """A relay call that did not succeed, on two independent axes.

    `safe_message` is redacted and at most 400 characters. `retry_after` is in seconds. `key_id` names the key that
    the call did make or that stands in its way, where the relay told it: whoever cannot use the key can revoke it.
    """

    def __init__(
        self,
        kind: Kind,
        outcome: Outcome,
        safe_message: str,
        *,
        retry_after: float | None = None,
        http_status: int | None = None,
        upstream_code: str = "",
        request_id: str = "",
        key_id: str = "",
    ) -> None:
        super().__init__(safe_message)
        self.kind = kind
        self.outcome = outcome
        self.safe_message = safe_message
        self.retry_after = retry_after
        self.http_status = http_status
        self.upstream_code = upstream_code
        self.request_id = request_id
        self.key_id = key_id


@dataclass(frozen=True, slots=True)
class Budget:
    """Money a key may burn. `period` is "total", "day" or "month"."""

    limit: Decimal
    currency: str = "USD"
    period: str = "total"


@dataclass(frozen=True, slots=True)
class Scopes:
    """What a key may do. Empty or None means "not limited by the role"; every set field is required."""

    permissions: tuple[str, ...] = ()
    allowed_models: tuple[str, ...] = ()
    rate_limit: int | None = None
    max_tpm: int | None = None
    budget: Budget | None = None
    team_id: str = ""


@dataclass(frozen=True, slots=True)
class KeyRef:
    """Enough to revoke a key without its plaintext. `base_url` is where it was minted."""

    relay: str
    base_url: str
    key_id: str
    name: str
    parent_ids: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {
            "relay": self.relay,
            "base_url": self.base_url,
            "key_id": self.key_id,
            "name": self.name,
            "parent_ids": dict(self.parent_ids),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> KeyRef:
        return cls(
            relay=data["relay"],
            base_url=data["base_url"],
            key_id=data["key_id"],
            name=data["name"],
            parent_ids=dict(data.get("parent_ids", {})),
        )


@dataclass(frozen=True, slots=True)
class MintIntent:
    """One key to be made, written down before the first byte leaves.

    `name` is `vlt-{instance8}-{intent16}`. `expires_at` (UTC, whole seconds) is the hard end at the relay.
    The same intent always yields the same request bytes, so that its idempotency key stays valid.
    """

    intent_id: str
    name: str
    idempotency_key: str
    scopes: Scopes
    expires_at: datetime
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Minted:
    """A key the relay made. `secret` is the only copy of its plaintext."""

    ref: KeyRef
    secret: SecretString
    upstream_expires_at: datetime | None
    base_url: str


class KeyStatus(enum.StrEnum):
    ACTIVE = "active"
    DISABLED = "disabled"
    RETIRING = "retiring"
    EXPIRED = "expired"
    REVOKED = "revoked"

    @property
    def live(self) -> bool:
        """Whether the relay may still accept the key, now or after re-enabling."""
        return self in (KeyStatus.ACTIVE, KeyStatus.DISABLED, KeyStatus.RETIRING)


@dataclass(frozen=True, slots=True)
class KeyInfo:
    """What the relay's books say about one key."""

    ref: KeyRef
    status: KeyStatus
    created_at: datetime | None = None
    expires_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RevokeResult:
    """`already_gone`: the relay had no live key. Refused everywhere `effective_within` seconds after the call."""

    already_gone: bool
    effective_within: float


class Probe(enum.StrEnum):
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What a relay can do; a role that needs more is refused when it is written.

    `upstream_expiry` holds the least and greatest life of a key in seconds. `revocation_lag` is the bound in
    seconds after which a revoked key is refused on every node. `list_lag`: a new key may be missing that long.
    """

    scopes: frozenset[str]
    permissions: frozenset[str]
    idempotency: str
    upstream_expiry: tuple[int, int]
    expiry_mutable: bool
    find_by_name: bool
    revocation_lag: float
    list_lag: float
    name_max: int
    rate_limit_range: tuple[int, int]
    max_tpm_range: tuple[int, int]
    request_signing: bool


@dataclass(frozen=True, slots=True)
class RelayConfig:
    """A mount's `config`, as a driver needs it. Timeouts in seconds. `ca_cert` is PEM, "" for the system's.

    With a `signing_secret` requests are signed, as `signature_version` says ("v2" or "v1"), in the name of
    `signing_key_id`; when that is "" the driver asks the relay for it.
    """

    relay: str
    base_url: str
    management_key: SecretString
    signing_secret: SecretString | None = None
    signing_key_id: str = ""
    signature_version: str = "v2"
    connect_timeout: float = 5.0
    request_timeout: float = 30.0
    ca_cert: str = ""


class Driver(Protocol):
    """One relay, one management credential. Safe for many threads."""

    name: str

    def capabilities(self) -> Capabilities: ...

    def validate_role(self, scopes: Scopes, ttl: int, max_ttl: int) -> list[str]:
        """What of this role the relay cannot honour, as sentences; empty when all of it can. No IO."""
        ...

    def check(self, deadline: Deadline) -> None:
        """Prove the management credential valid and sufficient, read-only; raise `DriverError` otherwise."""
        ...

    def mint(self, intent: MintIntent, deadline: Deadline) -> Minted:
        """One attempt. Called again with the same intent it yields the same key where the relay can do so."""
        ...

    def find(self, intent: MintIntent, deadline: Deadline) -> list[KeyInfo]:
        """Every key this intent made, dead ones included."""
        ...

    def revoke(self, ref: KeyRef, deadline: Deadline) -> RevokeResult:
        """Make the relay refuse the key. Repeatable.

        Not found at the relay is raised as `Kind.NOT_FOUND`, never as success: the caller decides, after
        `check`, whether the credential that says so can be believed.
        """
        ...

    def extend(self, ref: KeyRef, expires_at: datetime, deadline: Deadline) -> None:
        """Move the key's end at the relay."""
        ...

    def probe(self, secret: SecretString, deadline: Deadline) -> Probe:
        """Does the relay accept this key now? The cheapest authenticated call, over a connection of its own, so that
        the next one may reach another node; never raises."""
        ...

    def list(
        self, name_prefix: str, deadline: Deadline, *, created_after: datetime | None = None
    ) -> Iterator[KeyInfo]:
        """Every live key whose name starts so, all pages; at least those made later than a moment by the relay's clock.

        Ends with `DriverError` where it cannot be read whole.
        """
        ...

    def close(self) -> None: ...
