"""Records as the rest of the engine would write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from aikeys.storage.records import IntentRecord, IntentState, LeaseRecord, MountRecord

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
MOUNT = "0f6a2f0e-0000-4000-8000-000000000001"


def mount(uuid: str = MOUNT, path: str = "ai-keys/", **changes: Any) -> MountRecord:
    fields: dict[str, Any] = {
        "uuid": uuid,
        "path": path,
        "accessor": "ai-keys_0a1b2c3d",
        "instance": "abcdefgh",
        "default_lease_ttl": 3600,
        "max_lease_ttl": 7200,
        "marker_key": "ab" * 32,
    }
    return MountRecord(**(fields | changes))


def intent(number: int = 1, **changes: Any) -> IntentRecord:
    fields: dict[str, Any] = {
        "intent_id": f"intent{number:020d}",
        "mount_uuid": MOUNT,
        "role": "demo",
        "name": f"vlt-abcdefgh-intent{number:010d}",
        "order": {"name": "vlt", "scopes": {"rate_limit": 5}},
        "state": IntentState.MINTING,
        "created_at": NOW,
        "deadline": NOW + timedelta(seconds=22),
        "due_at": NOW + timedelta(seconds=22),
    }
    return IntentRecord(**(fields | changes))


def lease(number: int = 1, **changes: Any) -> LeaseRecord:
    fields: dict[str, Any] = {
        "lease_id": f"ai-keys/creds/demo/{number:024d}",
        "mount_uuid": MOUNT,
        "path": "ai-keys/creds/demo",
        "secret_type": "api_key",
        "internal": {
            "ref": {"key_id": f"key_{number}"},
            "probe_key": "sk-holysheep-aaaaaaaaaaaaaaaaaaaaaaaa",
        },
        "role": "demo",
        "issue_time": NOW,
        "expire_time": NOW + timedelta(hours=1),
        "due_at": NOW + timedelta(hours=1),
        "token_accessor": "accessor-1",
    }
    return LeaseRecord(**(fields | changes))
