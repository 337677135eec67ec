"""The records: data keys, management keys, and the lineage that rotations of one key share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from aikeys.relay_simulator.budgets import Budget, Spending
from aikeys.relay_simulator.limits import SlidingWindow, TokenBucket

CALL_PERMISSIONS = ("chat", "completions", "embeddings", "images", "models")
PERMISSIONS = (*CALL_PERMISSIONS, "keys:rotate_self")
# What a key without `permissions` may do: everything that calls a model and has an endpoint here. Rotating
# itself is off unless asked for.
DEFAULT_PERMISSIONS = ("chat", "completions", "embeddings", "models")
SCOPES = ("keys:read", "keys:write", "usage:read", "mgmt:rotate")
STATES = ("active", "disabled", "retiring", "expired", "revoked")
TERMINAL_STATES = ("expired", "revoked")
DEFAULT_RATE_LIMIT = 1000
DEFAULT_MAX_TPM = 10_000_000


@dataclass(slots=True)
class Lineage:
    """What a key and its successors share, so that a rotation doubles neither rates nor money."""

    id: str
    requests: SlidingWindow = field(default_factory=SlidingWindow)
    tokens: SlidingWindow = field(default_factory=SlidingWindow)
    spending: Spending = field(default_factory=Spending)


@dataclass(slots=True, eq=False)
class Key:
    """A data key. Its secret is not here: only the SHA-256 and a hint of it."""

    id: str
    name: str
    secret_sha256: bytes
    hint: str
    permissions: tuple[str, ...]
    lineage: Lineage
    created_at: float
    created_by: str
    team_id: str | None = None
    allowed_models: tuple[str, ...] = ()
    rate_limit: int | None = None
    max_tpm: int | None = None
    budget: Budget | None = None
    expires_at: int | None = None
    auto_rotate: bool = False
    rotation_interval: int | None = None
    signing_secret: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    previous_id: str | None = None
    successor_id: str | None = None
    disabled: bool = False
    version: int = 1
    last_used_at: float | None = None
    retires_at: float | None = None
    retires_into: str = "expired"
    """`expired` when superseded by a rotation, `revoked` when deleted with a grace period."""
    revoked_at: float | None = None
    ended_at: float | None = None
    ended_as: str | None = None
    refused_since: float | None = None
    """When a decision (not the expiry) ended or disabled it: nodes may lag behind this."""
    visible_from: float = 0.0
    """Before this it is in no list and has no name: the list lags."""
    node_lag: tuple[float, float] | None = None
    """Seconds each node lags for this key, where a fault says so."""
    data_plane_uses: int = 0
    uses_after_end: int = 0

    @property
    def status(self) -> str:
        """One of `STATES`; right only once the registry has settled what is due."""
        if self.ended_as is not None:
            return self.ended_as
        if self.retires_at is not None:
            return "retiring"
        return "disabled" if self.disabled else "active"

    @property
    def ends_at(self) -> float | None:
        """When it ends if nobody does anything."""
        if self.retires_at is None:
            return self.expires_at
        return self.retires_at if self.expires_at is None else min(self.retires_at, self.expires_at)

    @property
    def etag(self) -> str:
        """Changes with every write to the key, not with its use."""
        return f"{self.id[-8:].lower()}-{self.version}"

    @property
    def rpm(self) -> int:
        """Requests a minute that are enforced."""
        return self.rate_limit if self.rate_limit is not None else DEFAULT_RATE_LIMIT

    @property
    def tpm(self) -> int:
        """Tokens a minute that are enforced."""
        return self.max_tpm if self.max_tpm is not None else DEFAULT_MAX_TPM

    def allows_model(self, model: str) -> bool:
        """Whether `allowed_models` (exact, or a trailing ``*``; none is all) has `model`."""
        return not self.allowed_models or any(
            model.startswith(pattern[:-1]) if pattern.endswith("*") else model == pattern
            for pattern in self.allowed_models
        )

    def render(self, now: float) -> dict[str, Any]:
        """The key object."""
        return {
            "id": self.id,
            "object": "api_key",
            "name": self.name,
            "hint": self.hint,
            "team_id": self.team_id,
            "permissions": list(self.permissions),
            "allowed_models": list(self.allowed_models),
            "rate_limit": self.rate_limit,
            "max_tpm": self.max_tpm,
            "budget": None if self.budget is None else self.budget.render(self.lineage.spending, now),
            "status": self.status,
            "disabled": self.disabled,
            "created_at": int(self.created_at),
            "expires_at": self.expires_at,
            "last_used_at": whole(self.last_used_at),
            "retires_at": whole(self.retires_at),
            "revoked_at": whole(self.revoked_at),
            "lineage_id": self.lineage.id,
            "previous_id": self.previous_id,
            "auto_rotate": self.auto_rotate,
            "rotation_interval": self.rotation_interval,
            "metadata": self.metadata,
            "etag": self.etag,
        }


@dataclass(slots=True, eq=False)
class ManagementKey:
    """A key for the management plane; it calls no models."""

    id: str
    secret_sha256: bytes
    created_at: float
    scopes: frozenset[str] = frozenset(SCOPES)
    team_id: str | None = None
    name_prefix: str | None = None
    signing_secret: str | None = None
    expires_at: float | None = None
    previous_id: str | None = None
    successor_id: str | None = None
    bucket: TokenBucket = field(default_factory=TokenBucket)

    def sees(self, key: Key) -> bool:
        """Whether `key` exists for this management key: another team's or prefix's does not."""
        return (self.team_id is None or key.team_id == self.team_id) and (
            self.name_prefix is None or key.name.startswith(self.name_prefix)
        )


def whole(moment: float | None) -> int | None:
    """A moment as the API writes it: whole Unix seconds."""
    return None if moment is None else int(moment)
