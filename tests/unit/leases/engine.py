"""The engine's side of leases, as the manager sees it: keys that are refused or not, and failures on order."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tests.unit.minting.relay import MOUNT, TestClock

from aikeys.framework.request import Caller, Mount
from aikeys.framework.response import Secret
from aikeys.leases.lease import Registered
from aikeys.leases.manager import LeaseManager
from aikeys.leases.settings import LeaseSettings
from aikeys.storage import SqlStore
from aikeys.storage.records import IntentRecord, IntentState, LeaseRecord, LeaseState

OTHER = replace(MOUNT, uuid="mount-2", path="other/", accessor="ai-keys_2", instance="zzzzzzzz")


@dataclass
class Keys:
    """`failures` are raised up front to back by the next revocations; `down` by every one while it is set."""

    role_ttl: int = 60
    role_max: int = 180
    live: set[str] = field(default_factory=set)
    revoked: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    extended: list[datetime] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    down: Exception | None = None
    down_mounts: dict[str, Exception] = field(default_factory=dict)
    seconds: float = 0.0
    renew_failure: Exception | None = None
    during: Any = None
    most_at_once: int = 0
    _at_once: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def renew(self, secret: Secret, mount: Mount) -> Secret:
        if self.during is not None:
            self.during()
        if self.renew_failure is not None:
            raise self.renew_failure
        assert secret.issue_time is not None
        self.extended.append(secret.issue_time)
        return replace(
            secret,
            ttl=self.role_ttl,
            max_ttl=self.role_max,
            internal_data=secret.internal_data | {"renewed": True},
        )

    def revoke(self, secret: Secret, mount: Mount) -> dict[str, Any]:
        key_id = secret.internal_data["ref"]["key_id"]
        with self._lock:
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            self.asked.append(key_id)
            failure = self.failures.pop(0) if self.failures else self.down or self.down_mounts.get(mount.uuid)
        try:
            if self.seconds:
                time.sleep(self.seconds)
            if failure is not None:
                raise failure
        finally:
            with self._lock:
                self._at_once -= 1
        with self._lock:
            self.live.discard(key_id)
            self.revoked.append(key_id)
        return {"effective_within": 0.5, "lag": None}


@dataclass
class World:
    """A lease manager on a real store."""

    clock: Any
    store: SqlStore
    keys: Keys
    manager: LeaseManager
    mounts: dict[str, Mount]
    _number: int = 0

    @classmethod
    def make(cls, store: SqlStore, clock: Any, settings: LeaseSettings | None = None) -> World:
        keys = Keys()
        mounts = {MOUNT.uuid: MOUNT, OTHER.uuid: OTHER}
        manager = LeaseManager(store, clock, keys, lambda uuid: mounts[uuid], settings, rng=lambda: 0.5)
        return cls(clock, store, keys, manager, mounts)

    def secret(self, ttl: int = 60, max_ttl: int = 180, **changes: Any) -> Secret:
        """A key at the relay with its mint intent on record."""
        self._number += 1
        number = self._number
        now = self.clock.now()
        ref = {
            "relay": "holysheep",
            "base_url": "https://relay.example/v1",
            "key_id": f"key_{number}",
            "name": f"vlt-abcdefgh-{number:016d}",
            "parent_ids": {},
        }
        self.store.put_intent(
            IntentRecord(
                f"intent-{number}",
                changes.get("mount_uuid", MOUNT.uuid),
                "demo",
                str(ref["name"]),
                {},
                IntentState.MINTING,
                now,
                now + timedelta(seconds=20),
                now + timedelta(seconds=20),
            )
        )
        self.keys.live.add(f"key_{number}")
        return Secret(
            type="api_key",
            internal_data={"ref": ref, "upstream_expires_at": (now + timedelta(hours=1)).isoformat()},
            ttl=ttl,
            max_ttl=max_ttl,
            renewable=changes.get("renewable", True),
            intent_id=f"intent-{number}",
            role="demo",
        )

    def issue(self, ttl: int = 60, max_ttl: int = 180, *, mount: Mount = MOUNT, **changes: Any) -> Registered:
        caller = changes.pop("caller", Caller(accessor="accessor-1"))
        path = changes.pop("path", "creds/demo")
        secret = self.secret(ttl, max_ttl, mount_uuid=mount.uuid, **changes)
        return self.manager.register(mount, mount.path + path, secret, caller, mount.namespace)

    def record(self, lease_id: str) -> LeaseRecord:
        record = self.store.lease(lease_id)
        assert record is not None
        return record

    def state(self, lease_id: str) -> LeaseState | None:
        record = self.store.lease(lease_id)
        return None if record is None else record.state


__all__ = ["MOUNT", "OTHER", "Keys", "TestClock", "World"]
