"""What must hold after a crash and a restart, judged by the relay's own books."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.crash.engine import Engine

from aikeys.relay_simulator.control import SimulatorControl
from aikeys.storage.interface import Store
from aikeys.storage.records import LeaseState


@dataclass
class Promises:
    """What the killed process had told its clients."""

    keys: dict[str, str] = field(default_factory=dict)
    ending: set[str] = field(default_factory=set)
    ended: set[str] = field(default_factory=set)
    refused: list[str] = field(default_factory=list)
    done: bool = False

    @classmethod
    def parse(cls, said: str) -> Promises:
        promises = cls()
        for line in said.splitlines():
            word, _, rest = line.partition(" ")
            if word == "issued":
                lease_id, key_id = rest.split()
                promises.keys[lease_id] = key_id
                if "/short/" in lease_id:
                    promises.ended.add(lease_id)
            elif word == "ending":
                promises.ending.add(rest)
            elif word in ("revoked", "marked"):
                promises.ended.add(rest)
            elif word == "refused":
                promises.refused.append(rest)
            promises.done = promises.done or word == "done"
        return promises


def settled(store: Store) -> bool:
    """Whether nothing is left to do: no open intent, no lease whose end is decided or a second away."""
    soon = datetime.now(UTC) + timedelta(seconds=2)
    leases = store.leases_with_prefix("", limit=100_000)
    waiting = [lease for lease in leases if lease.state is LeaseState.REVOKING or lease.expire_time <= soon]
    return not waiting and not store.intents()


def recover(engine: Engine, within: float) -> float:
    """Run a process until everything is settled; the seconds it took."""
    begin = time.monotonic()
    engine.background.start()
    while not settled(engine.store):
        took = time.monotonic() - begin
        assert took < within, (
            f"not clean within {within} s: {engine.store.intents()}, {engine.leases.failing()}"
        )
        time.sleep(0.05)
    return time.monotonic() - begin


def check(store: Store, control: SimulatorControl, instances: Collection[str], promises: Promises) -> None:
    """0 keys without a lease, 0 leases without a key, 0 lost leases, 0 lost revocations."""
    leases = {lease.lease_id: lease for lease in store.leases_with_prefix("", limit=100_000)}
    known = {str(lease.internal["ref"]["key_id"]) for lease in leases.values()}
    live: set[str] = set()
    for instance in instances:
        prefix = f"vlt-{instance}-"
        assert control.orphans(known, prefix) == [], "keys at the relay that no lease knows"
        live |= {str(key["id"]) for key in control.keys(prefix) if key["status"] == "active"}
    assert known - live == set(), "leases without a key"
    for lease_id, key_id in promises.keys.items():
        if lease_id in promises.ended:
            assert lease_id not in leases, "a revocation that was confirmed or due is lost"
            assert key_id not in live
        elif lease_id not in promises.ending:
            assert lease_id in leases, "a lease that was handed out is lost"
            assert leases[lease_id].internal["ref"]["key_id"] == key_id
