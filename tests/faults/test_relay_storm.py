"""Many clients at once, and one fault after another on whatever they ask: `make faults N=200` for many rounds.

What one fault does to one call is the other modules' matter; here they meet: a lost mint whose settlement fails while
a renewal breaks off and a revocation is limited.
"""

from __future__ import annotations

import collections
import os
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import httpx
import pytest
from tests.faults.bench import Bench, told_by
from tests.faults.relay_table import CALLS, FAULTS, Answer

ROUNDS = int(os.environ.get("AIKEYS_FAULT_ROUNDS", "4"))
CLIENTS = 8
REQUESTS = 5
ROLES = ("plain", "checked")


@dataclass
class Client:
    """One of many: what it was told, and the leases it holds (with the ids of their keys)."""

    bench: Bench
    random: random.Random
    leases: dict[str, str] = field(default_factory=dict)
    ended: dict[str, str] = field(default_factory=dict)
    asked: int = 0
    told: collections.Counter[Answer] = field(default_factory=collections.Counter)

    def run(self) -> None:
        for _ in range(REQUESTS):
            answer = self.random.choice([self.issue, self.issue, self.renew, self.revoke])()
            if answer is not None:
                self.told[told_by(answer)] += 1

    def issue(self) -> httpx.Response:
        self.asked += 1
        answer = self.bench.ask("GET", f"creds/{self.random.choice(ROLES)}")
        if answer.status_code == 200:
            secret = answer.json()
            self.leases[secret["lease_id"]] = secret["data"]["key_id"]
        return answer

    def renew(self) -> httpx.Response | None:
        if not self.leases:
            return None
        return self.bench.renew(self.random.choice([*self.leases]), 900)

    def revoke(self) -> httpx.Response | None:
        if not self.leases:
            return None
        lease_id = self.random.choice([*self.leases])
        answer = self.bench.revoke(lease_id)
        # It ends whatever was answered; answered or not, it is this client's no more.
        self.ended[lease_id] = self.leases.pop(lease_id)
        if answer.status_code == 204:
            assert self.ended[lease_id] not in self.bench.stack.live_keys(), "said to be revoked"
        return answer


def arm(bench: Bench, chance: random.Random) -> None:
    """Some faults on some calls, whoever makes them."""
    for _ in range(chance.randint(3, 8)):
        fault = FAULTS[chance.choice([*FAULTS])]
        asked = CALLS[chance.choice([*CALLS])]
        path = asked.path.replace("{id}", "key_*").replace("{name}", "vlt-*")
        bench.control.fault(
            fault.kind,
            method=asked.method,
            path=path,
            nth=chance.randint(1, 6),
            count=chance.randint(1, 4),
            **fault.parameters,
        )


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_nothing_is_lost_when_everything_fails_at_once(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)
    # The ends of keys lie so that a renewal has to move them.
    bench.ok("POST", "roles/plain", {"ttl": 300, "max_ttl": 600})
    clients = [Client(bench, random.Random(f"{seed} {number}")) for number in range(CLIENTS)]
    for client in clients:
        client.issue()
    bench.ok("POST", "roles/plain", {"ttl": 300, "max_ttl": 1200 + seed})
    names = {key["name"] for key in bench.control.keys("vlt-")}
    bench.orders_since_last()
    arm(bench, chance)
    with ThreadPoolExecutor(CLIENTS) as pool:
        for work in [pool.submit(client.run) for client in clients]:
            work.result()
    bench.control.clear_faults()
    bench.recovered()

    orders = bench.orders_since_last()
    # Without the first one of each, and with the one that `recovered` asks for.
    assert len(orders) == sum(client.asked - 1 for client in clients) + 1, "each request is one order"
    made = collections.Counter(key["name"] for key in bench.control.keys("vlt-") if key["name"] not in names)
    assert set(made.values()) <= {1}, "made twice"
    live = bench.stack.live_keys()
    for client in clients:
        assert not [key for key in client.ended.values() if key in live]
        assert all(bench.known(lease) and key in live for lease, key in client.leases.items())
        for lease_id in client.leases:
            assert bench.revoke(lease_id).status_code == 204
