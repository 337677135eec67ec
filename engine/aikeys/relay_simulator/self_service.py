"""What a key may do with itself: be checked, be refreshed, be rotated."""

from __future__ import annotations

from typing import Any

from aikeys.relay_simulator.call import Answer
from aikeys.relay_simulator.dispatch import Request
from aikeys.relay_simulator.errors import RelayError
from aikeys.relay_simulator.key_writes import rotate_key
from aikeys.relay_simulator.keys import Key, whole

MANAGEMENT_GRACE_SECONDS = 300


def validate(request: Request) -> Answer:
    """``GET /keys/validate``: 200 for a data key that works, with what is left of its limits."""
    key, now = request.key, request.now
    requests, tokens = key.lineage.requests, key.lineage.tokens
    remaining_budget = None
    if key.budget is not None:
        remaining_budget = key.budget.render(key.lineage.spending, now)["remaining"]
    return Answer(
        200,
        {
            "valid": True,
            "id": key.id,
            "name": key.name,
            "status": key.status,
            "permissions": list(key.permissions),
            "allowed_models": list(key.allowed_models),
            "remaining_quota": max(0, key.tpm - tokens.used(now)),
            "remaining_budget": remaining_budget,
            "expires_at": key.expires_at,
            "rate_limit": {
                "limit": key.rpm,
                "remaining": max(0, key.rpm - requests.used(now)),
                "reset": requests.reset_seconds(now),
            },
        },
    )


def verify(request: Request) -> Answer:
    """``GET /auth/verify``: which kind of key this is and what it may do.

    A management key asks unsigned, too: this is where it learns the id that its signatures carry.
    """
    principal = request.principal
    if isinstance(principal, Key):
        body: dict[str, Any] = {
            "valid": True,
            "kind": "data",
            "id": principal.id,
            "name": principal.name,
            "scopes": list(principal.permissions),
            "team_id": principal.team_id,
            "name_prefix": None,
            "expires_at": principal.expires_at,
        }
    else:
        body = {
            "valid": True,
            "kind": "management",
            "id": principal.id,
            "name": None,
            "scopes": sorted(principal.scopes),
            "team_id": principal.team_id,
            "name_prefix": principal.name_prefix,
            "expires_at": whole(principal.expires_at),
        }
    return Answer(200, body)


def rotate_self(request: Request) -> Answer:
    """``POST /keys/rotate``."""
    return Answer(201, rotate_key(request, request.key))


def refresh(request: Request) -> Answer:
    """``POST /auth/refresh``: rotate oneself without grace, answered like a token endpoint."""
    key = request.key
    request.fields.finish()
    rotated = rotate_key(request, key, default_grace=0)
    expires_at = rotated["expires_at"]
    return Answer(
        200,
        {
            "access_token": rotated["key"],
            "token_type": "Bearer",
            "expires_in": None if expires_at is None else max(0, expires_at - int(request.now)),
            "id": rotated["id"],
            "previous_id": key.id,
        },
    )


def rotate_management(request: Request) -> Answer:
    """``POST /management/rotate``: a new management key with the same rights; the old one works 300 s more."""
    account, now = request.account, request.now
    old = request.manager
    request.fields.finish()
    if old.successor_id is not None:
        raise RelayError("already_rotated", extra={"successor_id": old.successor_id})
    secret = account.identifiers.management_key()
    new = account.add_management_key(
        secret,
        scopes=old.scopes,
        team_id=old.team_id,
        name_prefix=old.name_prefix,
        signing_secret=old.signing_secret,
        previous_id=old.id,
    )
    # One rate for the two of them, as for a lineage of data keys.
    new.bucket = old.bucket
    old.successor_id = new.id
    old.expires_at = now + MANAGEMENT_GRACE_SECONDS
    return Answer(
        201,
        {
            "key": secret,
            "id": new.id,
            "previous_id": old.id,
            "previous_expires_at": int(old.expires_at),
        },
    )
