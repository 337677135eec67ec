"""The mint intent: what is written down before the first byte goes to a relay. No IO."""

from __future__ import annotations

import base64
import secrets
from datetime import datetime
from decimal import Decimal
from typing import Any

from aikeys.relays.interface import Budget, MintIntent, Scopes

# 128 random bits in base32 without padding: 26 characters of which the name carries 16, 80 bits.
_INTENT_BYTES = 16
_NAME_PART = 16


def new_intent_id() -> str:
    return base64.b32encode(secrets.token_bytes(_INTENT_BYTES)).decode().rstrip("=").lower()


def key_name(instance: str, intent_id: str) -> str:
    """`vlt-{instance8}-{intent16}`: 29 characters that every relay takes. Two instances never share a name, so
    neither touches the other's keys."""
    return f"vlt-{instance}-{intent_id[:_NAME_PART]}"


def new_intent(instance: str, scopes: Scopes, expires_at: datetime, metadata: dict[str, str]) -> MintIntent:
    intent_id = new_intent_id()
    return MintIntent(
        intent_id=intent_id,
        name=key_name(instance, intent_id),
        idempotency_key=f"aikeys-{intent_id}",
        scopes=scopes,
        expires_at=expires_at,
        metadata=metadata,
    )


def intent_to_json(intent: MintIntent) -> dict[str, Any]:
    """Everything from which the same request can be made again; no secret is in it."""
    scopes, budget = intent.scopes, intent.scopes.budget
    return {
        "intent_id": intent.intent_id,
        "name": intent.name,
        "idempotency_key": intent.idempotency_key,
        "expires_at": intent.expires_at.isoformat(),
        "metadata": dict(intent.metadata),
        "scopes": {
            "permissions": list(scopes.permissions),
            "allowed_models": list(scopes.allowed_models),
            "rate_limit": scopes.rate_limit,
            "max_tpm": scopes.max_tpm,
            "team_id": scopes.team_id,
            "budget": None
            if budget is None
            else {"limit": str(budget.limit), "currency": budget.currency, "period": budget.period},
        },
    }


def intent_from_json(data: dict[str, Any]) -> MintIntent:
    scopes, budget = data["scopes"], data["scopes"]["budget"]
    return MintIntent(
        intent_id=data["intent_id"],
        name=data["name"],
        idempotency_key=data["idempotency_key"],
        expires_at=datetime.fromisoformat(data["expires_at"]),
        metadata=dict(data["metadata"]),
        scopes=Scopes(
            permissions=tuple(scopes["permissions"]),
            allowed_models=tuple(scopes["allowed_models"]),
            rate_limit=scopes["rate_limit"],
            max_tpm=scopes["max_tpm"],
            team_id=scopes["team_id"],
            budget=None
            if budget is None
            else Budget(limit=Decimal(budget["limit"]), currency=budget["currency"], period=budget["period"]),
        ),
    )
