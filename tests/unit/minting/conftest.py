from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from tests.unit.minting.relay import MOUNT, ScriptedRelay, TestClock

from aikeys.framework.deadline import Deadline
from aikeys.minting.bounds import MintBounds
from aikeys.minting.minter import MintedKey, Minter
from aikeys.minting.resolver import IntentResolver
from aikeys.relays.interface import Scopes
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.storage import SqlStore, open_store
from aikeys.storage.records import IntentRecord, LeaseRecord, MountRecord


@dataclass
class Mint:
    """A minter and a resolver on a real store, at a scripted relay."""

    clock: TestClock
    store: SqlStore
    relay: ScriptedRelay
    minter: Minter
    resolver: IntentResolver

    def ask(self, seconds: float = 60.0, expires_in: float = 7200) -> MintedKey:
        return self.minter.mint(
            mount=MOUNT,
            role="demo",
            driver=self.relay,
            scopes=Scopes(permissions=("chat",), rate_limit=60),
            expires_at=self.expiry(expires_in),
            metadata={"role": "demo"},
            deadline=Deadline.after(seconds),
        )

    def expiry(self, seconds: float) -> datetime:
        return (self.clock.now() + timedelta(seconds=seconds)).replace(microsecond=0)

    @property
    def open_intents(self) -> list[IntentRecord]:
        return self.store.intents()

    def settle(self, seconds: float, step: float = 5.0) -> None:
        """Run the resolver while the time passes."""
        end = self.clock.moved + seconds
        while self.clock.moved < end:
            while self.resolver.run_once():
                pass
            self.clock.moved += step

    def lease(self, key: MintedKey) -> LeaseRecord:
        now = self.clock.now()
        return LeaseRecord(
            lease_id="ai-keys/creds/demo/" + key.intent_id,
            mount_uuid=MOUNT.uuid,
            path="ai-keys/creds/demo",
            secret_type="api_key",
            internal={"ref": key.minted.ref.to_json()},
            issue_time=now,
            expire_time=now + timedelta(hours=1),
            due_at=now,
        )


@pytest.fixture
def mint(tmp_path: Path) -> Iterator[Mint]:
    clock = TestClock()
    store = open_store(tmp_path / "aikeys.db", KeyFileSeal(tmp_path / "seal.key"), clock=clock)
    store.put_mount(
        MountRecord(MOUNT.uuid, MOUNT.path, MOUNT.accessor, MOUNT.instance, 3600, 7200, MOUNT.marker_key)
    )
    relay = ScriptedRelay(clock)
    bounds = MintBounds()
    yield Mint(
        clock,
        store,
        relay,
        Minter(store, clock, bounds, sleep=clock.sleep),
        IntentResolver(store, clock, lambda _uuid: relay, bounds, rng=lambda: 0.5),
    )
    store.close()
