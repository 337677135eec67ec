"""Every refusal the relay knows: one table from code to HTTP status, type and text.

No message carries key material; the only answers that do are faults that were asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple


class Refusal(NamedTuple):
    """What a code means on the wire."""

    status: int
    type: str
    message: str


_INVALID = "invalid_request_error"
_AUTHENTICATION = "authentication_error"
_PERMISSION = "permission_error"
_CONFLICT = "conflict_error"
_SERVER = "server_error"

REFUSALS: Mapping[str, Refusal] = {
    "invalid_request": Refusal(400, _INVALID, "The request is invalid"),
    "unknown_field": Refusal(400, _INVALID, "The request has a field that is not known"),
    "invalid_permission": Refusal(400, _INVALID, "A permission is not known"),
    "invalid_model": Refusal(400, _INVALID, "A model is not known"),
    "invalid_expiry": Refusal(400, _INVALID, "The expiry is invalid"),
    "missing_api_key": Refusal(401, _AUTHENTICATION, "No API key provided"),
    # One text for unknown, expired, revoked and disabled keys: the answer is no oracle.
    "invalid_api_key": Refusal(401, _AUTHENTICATION, "The API key provided is invalid or has been revoked"),
    "signature_required": Refusal(401, _AUTHENTICATION, "This key's requests must be signed"),
    "invalid_signature": Refusal(401, _AUTHENTICATION, "The request signature is invalid"),
    "timestamp_out_of_range": Refusal(
        401, _AUTHENTICATION, "The request timestamp is too far from this server's clock"
    ),
    "nonce_reused": Refusal(401, _AUTHENTICATION, "The request nonce was used before"),
    "budget_exceeded": Refusal(402, "budget_error", "The key's budget is spent"),
    "insufficient_scope": Refusal(403, _PERMISSION, "The API key may not do this"),
    "model_not_allowed": Refusal(403, _PERMISSION, "The API key may not use this model"),
    "management_key_not_allowed": Refusal(403, _PERMISSION, "A management key may not call models"),
    "key_not_found": Refusal(404, "not_found_error", "No such key"),
    "not_found": Refusal(404, "not_found_error", "No such path"),
    "name_conflict": Refusal(409, _CONFLICT, "A live key has this name"),
    "already_rotated": Refusal(409, _CONFLICT, "The key was already rotated"),
    "key_revoked": Refusal(409, _CONFLICT, "The key has ended"),
    "idempotency_in_progress": Refusal(
        409, _CONFLICT, "A request with this idempotency key is still running"
    ),
    "etag_mismatch": Refusal(412, _CONFLICT, "The key changed since it was read"),
    "body_too_large": Refusal(413, _INVALID, "The request body is too large"),
    "unsupported_media_type": Refusal(415, _INVALID, "The request body must be application/json"),
    "idempotency_key_reused": Refusal(422, _INVALID, "The idempotency key was used with another body"),
    "account_key_limit": Refusal(422, "quota_error", "The account has as many live keys as it may"),
    "rate_limit_exceeded": Refusal(429, "rate_limit_error", "Too many requests"),
    "internal_error": Refusal(500, _SERVER, "Internal error"),
    "upstream_error": Refusal(502, _SERVER, "The upstream provider failed"),
    "unavailable": Refusal(503, _SERVER, "The service is unavailable"),
    "upstream_timeout": Refusal(504, _SERVER, "The upstream provider did not answer in time"),
}


class RelayError(Exception):
    """The call is refused with a code of the table.

    `param` names the offending field, `retry_after` is whole seconds, `extra` adds fields to the error object
    (such as ``existing_id``).
    """

    def __init__(
        self,
        code: str,
        message: str | None = None,
        *,
        param: str | None = None,
        retry_after: int | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        refusal = REFUSALS[code]
        super().__init__(message or refusal.message)
        self.code = code
        self.status = refusal.status
        self.type = refusal.type
        self.message = message or refusal.message
        self.param = param
        self.retry_after = retry_after
        self.extra = dict(extra or {})

    def body(self, request_id: str) -> dict[str, Any]:
        """The envelope."""
        return error_body(self.code, self.message, self.type, self.param, request_id, **self.extra)

    def headers(self) -> dict[str, str]:
        """Headers that belong to this refusal."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return headers


def error_body(
    code: str, message: str, type_: str, param: str | None, request_id: str, **extra: Any
) -> dict[str, Any]:
    """The error envelope with these fields."""
    return {
        "error": {
            "code": code,
            "message": message,
            "type": type_,
            "param": param,
            "request_id": request_id,
            **extra,
        }
    }
