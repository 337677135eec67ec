"""Writing keys: create, patch, rotate, delete."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Any

from aikeys.relay_simulator.call import Answer
from aikeys.relay_simulator.dispatch import Request
from aikeys.relay_simulator.errors import RelayError
from aikeys.relay_simulator.fields import MAX_EXPIRES_IN, MIN_EXPIRES_IN, Fields
from aikeys.relay_simulator.identifiers import DATA_KEY_PREFIX
from aikeys.relay_simulator.key_reads import find
from aikeys.relay_simulator.keys import DEFAULT_PERMISSIONS, Key, Lineage, ManagementKey, whole

MAX_GRACE_SECONDS = 86_400
DEFAULT_GRACE_SECONDS = 300
MIN_ROTATION_INTERVAL = 300
_ROTATION_POLICY = re.compile(r"([1-9][0-9]{0,3})d")
_GRACE = re.compile(r"[0-9]{1,6}")


def create(request: Request) -> Answer:
    """``POST /keys``."""
    account, fields, now = request.account, request.fields, request.now
    caller = request.manager
    name = fields.name(required=True) or ""
    team_id = fields.string("team_id")
    permissions = fields.permissions() or DEFAULT_PERMISSIONS
    allowed_models = fields.models()
    rate_limit = fields.integer("rate_limit", 1, 1000)
    max_tpm = fields.integer("max_tpm", 1, 10_000_000)
    budget = fields.budget()
    expires_at = fields.expiry(now)
    auto_rotate, interval = _auto_rotation(fields)
    signing = fields.boolean("signing")
    metadata = fields.metadata()
    fields.finish()
    if expires_at is None and account.policy.require_expiry:
        raise RelayError("invalid_expiry", "This account's keys must have an expiry", param="expires_in")
    if caller.team_id is not None:
        team_id = team_id or caller.team_id
        if team_id != caller.team_id:
            raise RelayError(
                "insufficient_scope", "The management key is bound to another team", param="team_id"
            )
    _check_name(request, caller, name)
    if account.policy.max_live_keys and account.keys.live_count >= account.policy.max_live_keys:
        raise RelayError("account_key_limit")
    secret = account.identifiers.data_key()
    key = Key(
        id=account.identifiers.key_id(),
        name=name,
        secret_sha256=hashlib.sha256(secret.encode()).digest(),
        hint=_hint(secret),
        permissions=permissions,
        lineage=Lineage(account.identifiers.lineage_id()),
        created_at=now,
        created_by=caller.id,
        team_id=team_id,
        allowed_models=allowed_models,
        rate_limit=rate_limit,
        max_tpm=max_tpm,
        budget=budget,
        expires_at=expires_at,
        auto_rotate=auto_rotate,
        rotation_interval=interval,
        signing_secret=account.identifiers.signing_secret() if signing else None,
        metadata=metadata,
        visible_from=_visible_from(request),
    )
    account.keys.add(key)
    return Answer(201, with_secret(key, secret, now))


def patch(request: Request) -> Answer:
    """``PATCH /keys/{id}``: limits, expiry, disabled, metadata. A null clears."""
    account, fields, now = request.account, request.fields, request.now
    key = find(request, request.arguments["key"])
    expected = request.call.header("If-Match")
    if expected is not None and expected.strip().strip('"') not in (key.etag, "*"):
        raise RelayError("etag_mismatch", param="If-Match")
    if key.ended_as is not None:
        raise RelayError("key_revoked")
    changes: dict[str, Any] = {}
    if fields.has("rate_limit"):
        changes["rate_limit"] = fields.integer("rate_limit", 1, 1000)
    if fields.has("max_tpm"):
        changes["max_tpm"] = fields.integer("max_tpm", 1, 10_000_000)
    if fields.has("budget"):
        changes["budget"] = fields.budget()
    if fields.has("expires_at") or fields.has("expires_in"):
        changes["expires_at"] = fields.expiry(now)
        if changes["expires_at"] is None and account.policy.require_expiry:
            raise RelayError("invalid_expiry", "This account's keys must have an expiry", param="expires_at")
    if fields.has("disabled"):
        changes["disabled"] = fields.boolean("disabled")
    if fields.has("metadata"):
        changes["metadata"] = fields.metadata()
    fields.finish()
    for attribute, value in changes.items():
        setattr(key, attribute, value)
    if "disabled" in changes:
        key.refused_since = now if key.disabled else None
        key.node_lag = request.call.effects.revoke_lag
    if changes:
        key.version += 1
    account.keys.reschedule(key)
    return Answer(200, key.render(now), [("ETag", f'"{key.etag}"')])


def rotate(request: Request) -> Answer:
    """``POST /keys/{id}/rotate``."""
    return Answer(201, rotate_key(request, find(request, request.arguments["key"])))


def rotate_key(request: Request, old: Key, *, default_grace: int = DEFAULT_GRACE_SECONDS) -> dict[str, Any]:
    """Replace `old` by a successor in its lineage; `old` works until the grace ends, or its own expiry."""
    account, fields, now = request.account, request.fields, request.now
    if old.successor_id is not None:
        raise RelayError("already_rotated", extra={"successor_id": old.successor_id})
    if old.ended_as is not None:
        raise RelayError("key_revoked")
    if old.retires_at is not None:
        raise RelayError("key_revoked", "The key is being revoked")
    grace = fields.integer("grace_period_seconds", 0, MAX_GRACE_SECONDS)
    grace = default_grace if grace is None else grace
    name = fields.name(required=False) or old.name
    expires_in = fields.integer("expires_in", MIN_EXPIRES_IN, MAX_EXPIRES_IN, code="invalid_expiry")
    fields.finish()
    if name != old.name:
        _check_name(
            request, request.principal if isinstance(request.principal, ManagementKey) else None, name
        )
    secret = account.identifiers.data_key()
    new = replace(
        old,
        id=account.identifiers.key_id(),
        name=name,
        secret_sha256=hashlib.sha256(secret.encode()).digest(),
        hint=_hint(secret),
        created_at=now,
        expires_at=old.expires_at if expires_in is None else int(now) + expires_in,
        signing_secret=account.identifiers.signing_secret() if old.signing_secret else None,
        metadata=dict(old.metadata),
        previous_id=old.id,
        version=1,
        last_used_at=None,
        visible_from=_visible_from(request),
        data_plane_uses=0,
        uses_after_end=0,
    )
    account.keys.add(new)
    old.successor_id = new.id
    old.version += 1
    if grace == 0:
        revoke(request, old)
    else:
        old.retires_at = now + grace
        account.keys.reschedule(old)
    ends_at = old.ended_at if old.ended_at is not None else old.ends_at
    return {
        **with_secret(new, secret, now),
        "new_api_key": secret,
        "previous_id": old.id,
        "previous_expires_at": whole(ends_at),
    }


def delete(request: Request) -> Answer:
    """``DELETE /keys/{id}``: repeatable; with a grace period the key retires first."""
    account, now = request.account, request.now
    key = find(request, request.arguments["key"])
    grace = _grace(request)
    already = key.ended_as is not None
    if not already and grace:
        key.retires_at = now + grace if key.retires_at is None else min(key.retires_at, now + grace)
        key.retires_into = "revoked"
        key.version += 1
        account.keys.reschedule(key)
    elif not already:
        revoke(request, key)
    ends_at = key.ended_at if key.ended_at is not None else key.ends_at
    return Answer(
        200,
        {
            "id": key.id,
            "object": "api_key.deleted",
            "deleted": True,
            "revoked_at": whole(ends_at),
            "already_revoked": already,
            "effective_within_ms": account.policy.promised_within_ms,
        },
    )


def revoke(request: Request, key: Key) -> None:
    """End `key` now; nodes may lag."""
    if key.refused_since is None:
        key.refused_since = request.now
        key.node_lag = request.call.effects.revoke_lag
    request.account.keys.end(key, "revoked", request.now)


def with_secret(key: Key, secret: str, now: float) -> dict[str, Any]:
    """The key object with the plaintext, this once; `api_key` is what older clients read."""
    body = {**key.render(now), "key": secret, "api_key": secret}
    if key.signing_secret is not None:
        body["signing_secret"] = key.signing_secret
    return body


def _check_name(request: Request, caller: ManagementKey | None, name: str) -> None:
    if caller is not None and caller.name_prefix is not None and not name.startswith(caller.name_prefix):
        raise RelayError("insufficient_scope", "The management key is bound to a name prefix", param="name")
    holder = request.account.keys.name_holder(name)
    if holder is not None:
        # Another team's key is not named: only that the name is taken.
        extra = {"existing_id": holder.id} if caller is not None and caller.sees(holder) else {}
        raise RelayError("name_conflict", param="name", extra=extra)


def _auto_rotation(fields: Fields) -> tuple[bool, int | None]:
    """Kept and shown; the simulator has nobody to hand a rotated secret to, so it never rotates by itself."""
    auto_rotate = fields.boolean("auto_rotate")
    interval = fields.integer("rotation_interval", MIN_ROTATION_INTERVAL, MAX_EXPIRES_IN)
    policy = fields.string("rotation_policy")
    if policy is not None:
        matched = _ROTATION_POLICY.fullmatch(policy)
        if matched is None or interval is not None:
            raise RelayError(
                "invalid_request",
                'rotation_policy is days such as "30d", and excludes rotation_interval',
                param="rotation_policy",
            )
        interval = int(matched[1]) * 86_400
    if auto_rotate and interval is None:
        raise RelayError(
            "invalid_request",
            "auto_rotate needs rotation_interval or rotation_policy",
            param="rotation_interval",
        )
    return auto_rotate, interval


def _grace(request: Request) -> int:
    values = request.parameters("grace_period_seconds")
    value = values.get("grace_period_seconds", ["0"])[-1]
    if not _GRACE.fullmatch(value) or int(value) > MAX_GRACE_SECONDS:
        raise RelayError(
            "invalid_request",
            f"grace_period_seconds must be a whole number from 0 to {MAX_GRACE_SECONDS}",
            param="grace_period_seconds",
        )
    return int(value)


def _hint(secret: str) -> str:
    return f"{secret[: len(DATA_KEY_PREFIX) + 4]}...{secret[-4:]}"


def _visible_from(request: Request) -> float:
    lag = request.call.effects.list_lag
    return request.now + (request.account.policy.list_lag_ms / 1000 if lag is None else lag)
