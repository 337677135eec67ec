"""The holysheep key API's shapes: what a role may ask, a mint as bytes, a key object read with suspicion. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from aikeys.redaction import SecretString
from aikeys.relays.classify import key_id_of
from aikeys.relays.interface import (
    Budget,
    Capabilities,
    KeyInfo,
    KeyRef,
    KeyStatus,
    MintIntent,
    Scopes,
)

RELAY = "holysheep"

CAPABILITIES = Capabilities(
    scopes=frozenset({"permissions", "allowed_models", "rate_limit", "max_tpm", "budget", "team_id"}),
    # "keys:rotate_self" exists too, but such a key makes successors of itself that no lease knows.
    permissions=frozenset({"chat", "completions", "embeddings", "images", "models"}),
    idempotency="header",
    upstream_expiry=(60, 31_536_000),
    expiry_mutable=True,
    find_by_name=True,
    revocation_lag=0.5,
    list_lag=0.0,
    name_max=128,
    rate_limit_range=(1, 1000),
    max_tpm_range=(1, 10_000_000),
    request_signing=True,
)
MANAGEMENT_SCOPES = frozenset({"keys:read", "keys:write"})

_PERIODS = ("total", "day", "month")
_CURRENCY = "USD"
# Beyond any real budget, and within what decimal digits on both sides can say exactly.
_BUDGET_BELOW = Decimal(10) ** 12
_BUDGET_PLACES = 12
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_MODEL = re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}\*?")
_TEAM = re.compile(r"[!-~]{1,128}")
# A header has to carry it.
_SECRET = re.compile(r"[!-~]{16,512}")
_LAST_SECOND = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)


class Unusable(ValueError):
    """What the relay sent is not a key object, or not the key that was asked for. Its text names no content."""


def scope_problems(scopes: Scopes) -> list[str]:
    """What of these scopes the relay cannot enforce, as sentences."""
    problems = []
    if unknown := sorted(set(scopes.permissions) - CAPABILITIES.permissions):
        allowed = ", ".join(sorted(CAPABILITIES.permissions))
        problems.append(f"permissions {_listed(unknown)} cannot be granted: allowed are {allowed}")
    if wrong := [model for model in scopes.allowed_models if not _MODEL.fullmatch(model)]:
        problems.append(
            f"allowed_models {_listed(wrong)} cannot be enforced: a name is exact, or ends with one *"
        )
    for name, value, bounds in (
        ("rate_limit", scopes.rate_limit, CAPABILITIES.rate_limit_range),
        ("max_tpm", scopes.max_tpm, CAPABILITIES.max_tpm_range),
    ):
        if value is not None and not bounds[0] <= value <= bounds[1]:
            problems.append(
                f"{name} of {value} cannot be enforced: it must be from {bounds[0]} to {bounds[1]}"
            )
    if scopes.budget is not None:
        problems += _budget_problems(scopes.budget)
    if scopes.team_id and not _TEAM.fullmatch(scopes.team_id):
        problems.append("team_id must be 1 to 128 printable characters without spaces")
    return problems


def role_problems(scopes: Scopes, max_ttl: int) -> list[str]:
    """The same for a role whose keys live `max_ttl` seconds at most."""
    problems = scope_problems(scopes)
    greatest = CAPABILITIES.upstream_expiry[1]
    if max_ttl > greatest:
        problems.append(f"max_ttl of {max_ttl} s cannot be enforced: the relay ends a key after {greatest} s")
    return problems


def mint_body(intent: MintIntent) -> bytes:
    """`POST /keys`. The same intent always gives the same bytes: the relay compares them to replay."""
    scopes = intent.scopes
    body: dict[str, Any] = {
        "name": intent.name,
        "expires_at": int(intent.expires_at.timestamp()),
        # Two rotators of one key would fight, and the lease would lose.
        "auto_rotate": False,
    }
    if intent.metadata:
        body["metadata"] = dict(intent.metadata)
    if scopes.permissions:
        body["permissions"] = list(scopes.permissions)
    if scopes.allowed_models:
        body["allowed_models"] = list(scopes.allowed_models)
    if scopes.rate_limit is not None:
        body["rate_limit"] = scopes.rate_limit
    if scopes.max_tpm is not None:
        body["max_tpm"] = scopes.max_tpm
    if scopes.budget is not None:
        body["budget"] = {
            "limit": decimal_text(scopes.budget.limit),
            "currency": scopes.budget.currency,
            "period": scopes.budget.period,
        }
    if scopes.team_id:
        body["team_id"] = scopes.team_id
    return _ENCODER.encode(body).encode("ascii")


def extend_body(expires_at: datetime) -> bytes:
    """`PATCH /keys/{id}`: only the end moves."""
    return _ENCODER.encode({"expires_at": int(expires_at.timestamp())}).encode("ascii")


def decimal_text(amount: Decimal) -> str:
    """Plain digits, never an exponent: "12.50"."""
    return format(amount, "f")


def secret_of(answer: Mapping[str, Any]) -> SecretString | None:
    """The key itself, None where the relay has it no more. `Unusable` when it can be no key."""
    value = answer.get("key")
    if value is None:
        return None
    if not isinstance(value, str) or not _SECRET.fullmatch(value):
        raise Unusable("its key cannot be used")
    return SecretString(value)


def check_minted(answer: Mapping[str, Any], intent: MintIntent) -> None:
    """`Unusable` when the key object shows a key that may do, cost or live more than was asked.

    A field that is not shown says nothing; the relay refuses fields that it does not know.
    """
    if answer.get("name") != intent.name:
        raise Unusable("it is about a key of another name")
    asked_end = int(intent.expires_at.timestamp())
    if "expires_at" in answer and not _at_most(answer["expires_at"], asked_end):
        raise Unusable("its key ends later than was asked")
    scopes = intent.scopes
    for name, limit in (("rate_limit", scopes.rate_limit), ("max_tpm", scopes.max_tpm)):
        if limit is not None and name in answer and not _at_most(answer[name], limit):
            raise Unusable(f"its key has another {name} than was asked")
    for name, allowed in (("permissions", scopes.permissions), ("allowed_models", scopes.allowed_models)):
        if allowed and name in answer and not _within(answer[name], allowed):
            raise Unusable(f"its key has other {name} than were asked")
    if scopes.budget is not None and "budget" in answer and not _budget_is(answer["budget"], scopes.budget):
        raise Unusable("its key has another budget than was asked")
    if scopes.team_id and answer.get("team_id", scopes.team_id) != scopes.team_id:
        raise Unusable("its key belongs to another team than was asked")


def moment(value: Any) -> datetime | None:
    """A time in whole Unix seconds as UTC, None for null. `Unusable` otherwise."""
    if value is None:
        return None
    if not _is_whole(value) or not 0 <= value <= _LAST_SECOND:
        raise Unusable("it holds a time that is none")
    return datetime.fromtimestamp(value, UTC)


def key_info(data: Any, base_url: str) -> KeyInfo:
    """A key object of a list or a look-up. `Unusable` when it is none."""
    if not isinstance(data, dict):
        raise Unusable("it holds something that is no key")
    key_id, name = key_id_of(data.get("id")), data.get("name")
    try:
        status = KeyStatus(str(data.get("status")))
    except ValueError:
        raise Unusable("it holds a key in a state that is unknown") from None
    if not key_id or not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Unusable("it holds a key without a usable id or name")
    metadata = data.get("metadata")
    return KeyInfo(
        ref=KeyRef(RELAY, base_url, key_id, name),
        status=status,
        created_at=moment(data.get("created_at")),
        expires_at=moment(data.get("expires_at")),
        metadata={
            key: value
            for key, value in (metadata.items() if isinstance(metadata, dict) else ())
            if isinstance(value, str)
        },
    )


def effective_within(answer: Mapping[str, Any]) -> float:
    """Seconds after which a deleted key is refused everywhere; what the contract promises where none is given."""
    value = answer.get("effective_within_ms")
    if value is None:
        return CAPABILITIES.revocation_lag
    if not _is_whole(value) or not 0 <= value <= 86_400_000:
        raise Unusable("it holds a time that is none")
    return float(value) / 1000


def _budget_problems(budget: Budget) -> list[str]:
    problems = []
    if budget.currency != _CURRENCY:
        problems.append(f"a budget in {budget.currency} cannot be enforced: the currency is {_CURRENCY}")
    if budget.period not in _PERIODS:
        allowed = ", ".join(_PERIODS)
        problems.append(f"a budget per {budget.period} cannot be enforced: allowed are {allowed}")
    limit = budget.limit
    if not limit.is_finite() or not 0 < limit < _BUDGET_BELOW:
        problems.append("a budget must be greater than 0 and have at most 12 digits before the point")
    elif -int(limit.as_tuple().exponent) > _BUDGET_PLACES:
        problems.append("a budget may have at most 12 digits behind the point")
    return problems


def _listed(items: Iterable[str]) -> str:
    return ", ".join(repr(item[:64]) for item in items)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _at_most(value: Any, limit: int) -> bool:
    return _is_whole(value) and value <= limit


def _within(value: Any, allowed: Iterable[str]) -> bool:
    # An empty list means "everything" to the relay.
    return isinstance(value, list) and bool(value) and all(item in tuple(allowed) for item in value)


def _budget_is(value: Any, asked: Budget) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("limit"), str):
        return False
    try:
        limit = Decimal(value["limit"])
    except InvalidOperation:
        return False
    return (
        limit.is_finite()
        and limit <= asked.limit
        and value.get("currency") == asked.currency
        and value.get("period") == asked.period
    )
