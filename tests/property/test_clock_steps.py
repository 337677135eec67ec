"""The wall clock is set back and forth by ten minutes under a running background.

What is stored and shown is wall time, so a step moves the ends of leases by as much, and by nothing more: a lease ends
once the clock has shown its end, never before, and soon after. The relay holds an end of its own, by its own clock:
it lies behind every end that a lease can be renewed to. And a step back puts off nothing that is decided already.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.sidecar_stack import eventually
from tests.unit.leases.engine import MOUNT, Keys, World
from tests.unit.leases.test_expiry import AWAY, FAST, NoIntents

from aikeys.backoff import Backoff
from aikeys.framework.request import Mount
from aikeys.framework.response import EngineError, Secret
from aikeys.leases.expiry import Background
from aikeys.leases.manager import LeaseManager
from aikeys.leases.settings import LeaseSettings
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.storage import open_store
from aikeys.storage.records import MountRecord

MAX_TTL = 1500
WRONG = st.sampled_from([-600, 0, 600])
PAUSES = st.sampled_from([0.0, 0.05, 0.3])


class SettableClock:
    """Goes as real clocks do, but for being wrong by some seconds; remembers when by how much."""

    def __init__(self) -> None:
        self.settings = [(time.monotonic(), 0)]

    def now(self) -> datetime:
        return datetime.now(UTC) + timedelta(seconds=self.settings[-1][1])

    def monotonic(self) -> float:
        return time.monotonic()

    def set_wrong_by(self, seconds: int) -> None:
        self.settings.append((time.monotonic(), seconds))

    def latest_shown(self, since: float, until: float) -> datetime:
        """The latest time that it showed between two moments (monotonic), give or take a millisecond."""
        shown = []
        ends = [moment for moment, _ in self.settings[1:]] + [float("inf")]
        for (begin, wrong_by), end in zip(self.settings, ends, strict=True):
            if begin <= until and end >= since:
                moment = min(end, until)
                real = datetime.now(UTC) - timedelta(seconds=time.monotonic() - moment)
                shown.append(real + timedelta(seconds=wrong_by, milliseconds=1))
        return max(shown)


@dataclass
class TimedKeys(Keys):
    """Notes when each key ended (monotonic)."""

    ended: dict[str, float] = field(default_factory=dict)

    def revoke(self, secret: Secret, mount: Mount) -> dict[str, Any]:
        done = super().revoke(secret, mount)
        self.ended.setdefault(secret.internal_data["ref"]["key_id"], time.monotonic())
        return done


@dataclass
class Issued:
    lease_id: str
    key_id: str
    at: float
    ends: datetime
    end_at_relay: datetime


class Scene:
    """A world with a background that runs, and the leases that were issued in it."""

    def __init__(self, folder: Path, lease_settings: LeaseSettings) -> None:
        self.clock = SettableClock()
        self.keys = TimedKeys()
        store = open_store(folder / "aikeys.db", KeyFileSeal(folder / "seal.key"), clock=self.clock)
        store.put_mount(
            MountRecord(MOUNT.uuid, MOUNT.path, MOUNT.accessor, MOUNT.instance, 3600, 7200, MOUNT.marker_key)
        )
        manager = LeaseManager(store, self.clock, self.keys, lambda _uuid: MOUNT, lease_settings)
        self.world = World(self.clock, store, self.keys, manager, {MOUNT.uuid: MOUNT})
        self.background = Background(store, manager, NoIntents(), self.clock)
        self.leases: list[Issued] = []

    def issue(self, ttl: int) -> None:
        at = time.monotonic()
        lease_id = self.world.issue(ttl, MAX_TTL).lease_id
        record = self.world.record(lease_id)
        end = record.issue_time + timedelta(seconds=MAX_TTL + 1)
        self.leases.append(Issued(lease_id, record.internal["ref"]["key_id"], at, record.expire_time, end))

    def renew(self, number: int, increment: int) -> None:
        lease = self.leases[number % len(self.leases)]
        try:
            self.world.manager.renew(lease.lease_id, increment)
        except EngineError:
            return
        lease.ends = self.world.record(lease.lease_id).expire_time

    def living(self, lease: Issued) -> bool:
        return lease.key_id in self.keys.live


@contextmanager
def scene(lease_settings: LeaseSettings = FAST) -> Iterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="aikeys-clock-") as folder:
        made = Scene(Path(folder), lease_settings)
        made.background.start()
        try:
            yield made
        finally:
            made.background.stop(5)
            made.world.store.close()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            WRONG,
            st.lists(st.sampled_from([1, 300, 590, 610, 1300]), min_size=1, max_size=4),
            st.integers(0, 50),
            st.integers(1, 2000),
            PAUSES,
        ),
        min_size=2,
        max_size=6,
    )
)
def test_a_step_moves_ends_by_as_much_as_the_clock_and_by_no_more(
    steps: list[tuple[int, list[int], int, int, float]],
) -> None:
    with scene() as at:
        for wrong_by, ttls, renewed, increment, pause in steps:
            at.clock.set_wrong_by(wrong_by)
            for ttl in ttls:
                at.issue(ttl)
            at.renew(renewed, increment)
            time.sleep(pause)

        def due() -> list[Issued]:
            return [lease for lease in at.leases if lease.ends <= at.clock.now() and at.living(lease)]

        eventually(lambda: not due(), seconds=15, what="the end of every lease that is due")
        for lease in at.leases:
            ended = at.keys.ended.get(lease.key_id)
            if ended is not None:
                assert at.clock.latest_shown(lease.at, ended) >= lease.ends, (
                    "ended before the clock showed its end"
                )
            else:
                assert at.world.state(lease.lease_id) is not None
            assert lease.ends <= lease.end_at_relay, "may be renewed beyond the key's end"


def test_a_step_forward_is_seen_without_any_other_event() -> None:
    """Nothing is issued or revoked that would wake the background: it looks at the clock itself."""
    with scene() as at:
        at.issue(590)
        time.sleep(0.3)
        assert at.living(at.leases[0])
        at.clock.set_wrong_by(600)
        eventually(lambda: not at.living(at.leases[0]), seconds=15, what="the end of the lease")


def test_a_step_back_puts_off_no_revocation_that_waits_for_its_next_attempt() -> None:
    patient = replace(FAST, backoff=Backoff(base=1.0, cap=2.0))
    with scene(patient) as at:
        for _ in range(5):
            at.issue(1300)
        at.keys.down = AWAY
        for lease in at.leases:
            at.world.manager.revoke(lease.lease_id, sync=False)
        eventually(lambda: at.keys.asked, what="a first attempt")
        at.clock.set_wrong_by(-600)
        at.keys.down = None
        eventually(lambda: not at.keys.live, seconds=30, what="the end of every key")


def test_a_step_back_leaves_nothing_to_a_process_that_has_gone() -> None:
    """What it had taken comes back when its claim is over, and the claim is not ten minutes longer for the step."""
    with scene() as at:
        at.issue(1300)
        at.background.stop(5)
        at.world.manager.revoke(at.leases[0].lease_id, sync=False)
        now = at.clock.now()
        assert at.world.store.claim_due_leases(now, now + timedelta(seconds=FAST.claim), 1)
        at.clock.set_wrong_by(-600)
        at.background = Background(at.world.store, at.world.manager, NoIntents(), at.clock)
        at.background.start()
        eventually(lambda: not at.keys.live, seconds=30, what="the end of the key")
