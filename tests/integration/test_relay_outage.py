"""The relay is away for an hour in which hundreds of leases end: all are revoked within a minute of its return.

A real store, the real background of two processes, and a relay that counts who asks it. The hour is the clock's, which
is moved on in steps; from the relay's return on it goes as it goes.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.crash.engine import Engine, Place

from aikeys.leases.settings import LeaseSettings
from aikeys.minting.bounds import MintBounds
from aikeys.relay_simulator.control import SimulatorControl
from aikeys.relay_simulator.process import RelaySimulatorProcess

HOUR = 3600.0
STEP = 12.0
BACK_WITHIN = 60.0
LEASES = 300
# As a deployment has them, but for the sleep between two looks, in which no clock can be moved.
SETTINGS = LeaseSettings(poll=0.1)


class MovedClock:
    """Real time and what was added to it."""

    def __init__(self) -> None:
        self.moved = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.moved)

    def monotonic(self) -> float:
        return time.monotonic() + self.moved


class Outage:
    def __init__(self, folder: Path, relay: RelaySimulatorProcess) -> None:
        self.relay = relay
        self.control = SimulatorControl(relay.address)
        self.clock = MovedClock()
        self.place = Place(folder, relay.base_url, relay.management_key, "outagetst")
        self.engines = [self.engine()]
        self.engines[0].set_up()

    def engine(self) -> Engine:
        return Engine(self.place, MintBounds(), SETTINGS, self.clock)

    def start(self) -> None:
        for engine in self.engines:
            engine.background.start()

    def close(self) -> None:
        for engine in self.engines:
            engine.close()
        self.control.close()

    def issue(self, count: int, role: str) -> None:
        """Leases that end one after another during the hour."""
        for number in range(count):
            ends_in = 300 + int((HOUR - 600) * number / count)
            self.engines[0].issue(role, ttl=ends_in)

    def left(self) -> int:
        return self.engines[0].leases.count()

    def turned_away(self) -> int:
        """Connections and calls that the relay has refused since the outage began."""
        answer = httpx.get(f"{self.relay.address}/_sim/outage", trust_env=False)
        dropped: int = answer.json()["dropped"]
        return dropped

    def deletions(self) -> list[dict[str, Any]]:
        return [call for call in self.control.calls("DELETE") if call["path"].startswith("/v1/keys/")]

    def pass_time(self, seconds: float) -> None:
        """In steps that leave the background the time to do what is due."""
        end = self.clock.moved + seconds
        while self.clock.moved < end:
            self.clock.moved += STEP
            time.sleep(0.05)


@pytest.fixture
def outage(tmp_path: Path) -> Iterator[Outage]:
    with RelaySimulatorProcess(max_live_keys=0) as relay:
        made = Outage(tmp_path / "data", relay)
        yield made
        made.close()


@pytest.mark.slow
def test_after_an_hour_without_the_relay_every_key_is_dead_within_a_minute(outage: Outage) -> None:
    verified = {"ttl": 3600, "max_ttl": 7200, "verify_revocation": True, "permissions": ["chat"]}
    outage.engines[0].write("roles/verified", **verified)
    outage.engines[0].write("roles/demo", ttl=3600, max_ttl=7200, permissions=["chat"])
    with ThreadPoolExecutor(2) as pool:
        for work in [pool.submit(outage.issue, LEASES // 2, role) for role in ("demo", "verified")]:
            work.result()
    outage.engines.append(outage.engine())
    outage.start()

    outage.control.outage()
    outage.pass_time(HOUR / 2)
    # One of the two processes is replaced meanwhile.
    outage.engines.pop().close()
    outage.engines.append(outage.engine())
    outage.engines[-1].background.start()
    outage.pass_time(HOUR / 2)

    over = outage.engines[0].store.count_leases(over=outage.clock.now())
    assert (outage.left(), over) == (LEASES, LEASES), "none is given up, and none without the relay's word"
    failing = outage.engines[0].leases.failing()
    assert failing
    longest = timedelta(seconds=SETTINGS.backoff.longest + STEP)
    assert all(view.next_attempt - outage.clock.now() <= longest for view in failing if view.next_attempt)
    asked = outage.turned_away()
    print(f"asked while it was away: {asked}")
    # What was in flight when it went, and one lease at a time since then, by each process.
    processes = 3
    assert asked <= processes * (SETTINGS.workers + HOUR / SETTINGS.probe * 2), "a herd at a closed door"

    outage.control.end_outage()
    back = outage.clock.monotonic()
    while outage.left() == LEASES:
        outage.clock.moved += 1.0
        time.sleep(0.1)
        assert outage.clock.monotonic() - back < BACK_WITHIN, "nobody has seen that the relay is back"
    found = outage.clock.monotonic() - back
    while outage.left():
        assert outage.clock.monotonic() - back < BACK_WITHIN, outage.left()
        time.sleep(0.05)
    took = outage.clock.monotonic() - back
    print(f"found after {found:.1f} s, all revoked after {took:.1f} s")

    keys = outage.control.keys("vlt-")
    assert [key["status"] for key in keys] == ["revoked"] * LEASES
    assert outage.engines[0].leases.count(failing=True) == 0
    deletions = outage.deletions()
    assert len({call["path"] for call in deletions}) == LEASES
    assert len(deletions) <= LEASES + 2 * SETTINGS.workers, "each is revoked once"
