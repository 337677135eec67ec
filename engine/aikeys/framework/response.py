"""What the engine hands back: Vault's `logical.Response` and `logical.Secret`, and its errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aikeys.errors import AikeysError


@dataclass(frozen=True, slots=True)
class Secret:
    """The leased part of a response (Vault: sdk/logical/secret.go).

    `ttl` and `max_ttl` are whole seconds as the role wants them, 0 meaning "the mount decides"; the door
    computes the effective ones. `internal_data` is what renew and revoke need, never the plaintext key; it is
    JSON and stored encrypted. `intent_id` names the mint intent that storing the lease completes. `key_hash` and
    `prefix_hash` are what the lease is found by when somebody has found the key. `deleted_at` is
    set for a revocation when an earlier attempt made the relay delete the key.
    """

    type: str
    internal_data: dict[str, Any]
    ttl: int = 0
    max_ttl: int = 0
    renewable: bool = True
    intent_id: str = ""
    role: str = ""
    lease_id: str = ""
    increment: int = 0
    issue_time: datetime | None = None
    key_hash: str = ""
    prefix_hash: str = ""
    deleted_at: datetime | None = None


@dataclass(slots=True)
class Response:
    """`data` None with no secret and no warnings is answered 204 by a write and 404 by a read."""

    data: dict[str, Any] | None = None
    secret: Secret | None = None
    warnings: list[str] = field(default_factory=list)


class EngineError(AikeysError):
    """An answer that is an error. `status` is the HTTP status of Vault's mapping (RespondErrorCommon)."""

    status = 500

    def __init__(self, message: str, *, data: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data

    def texts(self) -> list[str]:
        """The `errors` list of the body. A bare Go error is printed by go-multierror."""
        return [f"1 error occurred:\n\t* {self.message}\n\n"]


class InvalidRequest(EngineError):
    """The request cannot be done as it stands; the message says what is allowed (400, plain text)."""

    status = 400

    def texts(self) -> list[str]:
        return [self.message]


class UnsupportedPath(EngineError):
    """No path of the engine has this form."""

    status = 404

    def __init__(self) -> None:
        super().__init__("unsupported path")


class UnsupportedOperation(EngineError):
    """The path exists, the operation does not."""

    status = 405

    def __init__(self) -> None:
        super().__init__("unsupported operation")


class PermissionDenied(EngineError):
    status = 403

    def __init__(self) -> None:
        super().__init__("permission denied")


class RelayRateLimited(EngineError):
    """The relay refuses for now; nothing was minted (Vault: ErrUpstreamRateLimited, 502).

    `retry_after` is in whole seconds, None when the relay did not say.
    """

    status = 502

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class QuotaExceeded(EngineError):
    """More than is allowed for now; nothing was minted (Vault: ErrLeaseCountQuotaExceeded, ErrRateLimitQuotaExceeded).

    `retry_after` is in whole seconds, None when nobody knows.
    """

    status = 429

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    def texts(self) -> list[str]:
        return [self.message]


class Unavailable(EngineError):
    """Something behind us does not answer; nothing was minted that is not on record. Try again."""

    status = 503

    def texts(self) -> list[str]:
        return [self.message]
