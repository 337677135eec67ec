"""Whatever happens in whatever order, every live key is known and every lease has its key.

A state machine drives the real store, minter, resolver and lease manager at a relay whose calls fail before or after
they took effect, with restarts in between and a clock that jumps ten minutes either way. After every step: no live key
without a lease or an intent, no active lease without a live key, and what was confirmed as revoked stays dead.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, multiple, rule
from tests.unit.minting.relay import LOST, MOUNT, UNREACHABLE, Fault, ScriptedRelay, TestClock, failure

from aikeys.errors import AikeysError
from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Caller, Mount
from aikeys.framework.response import EngineError, Secret, Unavailable
from aikeys.leases.manager import LeaseManager
from aikeys.minting.minter import Minter
from aikeys.minting.resolver import IntentResolver
from aikeys.relays.interface import DriverError, KeyRef, Kind, Outcome, Scopes
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.storage import open_store
from aikeys.storage.failpoints import arm
from aikeys.storage.records import LeaseState, MountRecord

FAULTS = st.sampled_from(
    [
        Fault(LOST, applied=True),
        Fault(LOST, applied=False),
        Fault(UNREACHABLE),
        Fault(failure(Kind.RATE_LIMITED, Outcome.NOT_APPLIED, 5.0)),
        Fault(failure(Kind.AUTH, Outcome.NOT_APPLIED)),
        Fault(failure(Kind.PROTOCOL, Outcome.UNKNOWN), applied=True),
    ]
)
CALLS = st.sampled_from(["mint", "find", "revoke"])
POINTS = st.sampled_from(
    [
        "store.before_commit=error:1",
        "store.after_commit=error:1",
        "issue.lease_stored=error:1",
        "revoke.relay_revoked=error:1",
    ]
)


class RelayCallbacks:
    """What the engine does for leases, at the scripted relay."""

    def __init__(self, relay: ScriptedRelay) -> None:
        self._relay = relay
        self.meanwhile: Callable[[], None] | None = None

    def renew(self, secret: Secret, mount: Mount) -> Secret:
        if self.meanwhile is not None:
            self.meanwhile()
        return replace(secret, ttl=60, max_ttl=1800)

    def revoke(self, secret: Secret, mount: Mount) -> dict[str, Any]:
        try:
            result = self._relay.revoke(KeyRef.from_json(secret.internal_data["ref"]), Deadline.after(5))
        except DriverError as error:
            raise Unavailable(error.safe_message) from error
        return {"effective_within": result.effective_within, "lag": None}


class Life(RuleBasedStateMachine):
    leases = Bundle("leases")

    @initialize(idempotency=st.sampled_from(["header", "none"]))
    def begin(self, idempotency: str) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="aikeys-life-")
        # Ours can be set wrong, the relay's cannot.
        self.clock, self.relay_clock = TestClock(), TestClock()
        self.relay = ScriptedRelay(self.relay_clock, idempotency=idempotency)
        self.confirmed: set[str] = set()
        self.decided: set[str] = set()
        self._open()
        self.store.put_mount(
            MountRecord(MOUNT.uuid, MOUNT.path, MOUNT.accessor, MOUNT.instance, 3600, 7200, MOUNT.marker_key)
        )

    def _open(self) -> None:
        folder = Path(self.folder.name)
        self.store = open_store(folder / "aikeys.db", KeyFileSeal(folder / "seal.key"), clock=self.clock)
        self.minter = Minter(self.store, self.clock, sleep=self.time_passes)
        self.resolver = IntentResolver(self.store, self.clock, lambda _uuid: self.relay, rng=lambda: 0.5)
        self.callbacks = RelayCallbacks(self.relay)
        self.manager = LeaseManager(
            self.store, self.clock, self.callbacks, lambda _uuid: MOUNT, rng=lambda: 0.5
        )

    def teardown(self) -> None:
        arm("")
        if hasattr(self, "store"):
            self._everything_ends()
            self.store.close()
            self.folder.cleanup()

    @rule(target=leases, waits=st.sampled_from([0, 0, 0, 25, 120]))
    def issue(self, waits: int) -> Any:
        """With a wait between the key and its lease the resolver may come first."""
        end = self.clock.now().replace(microsecond=0) + timedelta(seconds=3000)
        try:
            key = self.minter.mint(
                mount=MOUNT,
                role="demo",
                driver=self.relay,
                scopes=Scopes(),
                expires_at=end,
                metadata={},
                deadline=Deadline.after(30),
            )
        except EngineError:
            return multiple()
        if waits:
            self.time_passes(waits)
            self.background()
        secret = Secret(
            type="api_key",
            internal_data={"ref": key.minted.ref.to_json(), "upstream_expires_at": end.isoformat()},
            ttl=60,
            max_ttl=1800,
            intent_id=key.intent_id,
            role="demo",
        )
        try:
            return self.manager.register(MOUNT, "ai-keys/creds/demo", secret, Caller(accessor="a")).lease_id
        except EngineError:
            return multiple()

    @rule(lease_id=leases, increment=st.integers(0, 4000))
    def renew(self, lease_id: str, increment: int) -> None:
        before = self.store.lease(lease_id)
        try:
            self.manager.renew(lease_id, increment)
        except EngineError:
            return
        assert before is not None
        assert before.state is LeaseState.ACTIVE, "an end that was decided is not taken back"

    @rule(lease_id=consumes(leases))
    def revoke_during_a_renewal(self, lease_id: str) -> None:
        self.callbacks.meanwhile = lambda: self.revoke(lease_id, wait=False)
        try:
            self.manager.renew(lease_id)
        except EngineError:
            pass
        else:
            # The revocation itself was refused, by the disk.
            lease = self.store.lease(lease_id)
            assert lease is not None
            assert lease.state is LeaseState.ACTIVE
        finally:
            self.callbacks.meanwhile = None
        lease = self.store.lease(lease_id)
        assert lease is None or lease_id not in self.decided or lease.state is LeaseState.REVOKING

    @rule(lease_id=consumes(leases), wait=st.booleans())
    def revoke(self, lease_id: str, wait: bool) -> None:
        lease = self.store.lease(lease_id)
        try:
            self.manager.revoke(lease_id, sync=wait)
        except EngineError:
            return
        self.decided.add(lease_id)
        if wait and lease is not None:
            self.confirmed.add(lease.internal["ref"]["key_id"])

    @rule()
    def background(self) -> None:
        """What the expiry and the resolver do, once."""
        now = self.clock.now()
        try:
            self.resolver.run_once()
            for lease in self.store.claim_due_leases(now, now + timedelta(seconds=20), 10):
                try:
                    self.manager.revocation.attempt(lease, "expiry")
                except AikeysError:
                    continue
                self.confirmed.add(lease.internal["ref"]["key_id"])
        except AikeysError:
            return

    @rule(seconds=st.integers(1, 90))
    def time_passes(self, seconds: float) -> None:
        self.clock.moved += seconds
        self.relay_clock.moved += seconds

    @rule(minutes=st.sampled_from([-10, 0, 10]))
    def the_clock_is_set(self, minutes: int) -> None:
        self.clock.moved = self.relay_clock.moved + 60 * minutes

    @rule(error=st.sampled_from([LOST, UNREACHABLE]))
    def the_next_mints_answer_is_lost(self, error: DriverError) -> None:
        self.relay.faults["mint"] = [Fault(LOST, applied=True), Fault(error), Fault(error)]

    @rule(call=CALLS, fault=FAULTS, times=st.integers(1, 4))
    def trouble_at_the_relay(self, call: str, fault: Fault, times: int) -> None:
        self.relay.faults.setdefault(call, []).extend([fault] * times)

    @rule()
    def the_relay_recovers(self) -> None:
        self.relay.faults.clear()

    @rule(point=POINTS)
    def trouble_on_the_disk(self, point: str) -> None:
        arm(point)

    @rule()
    def restart(self) -> None:
        arm("")
        self.store.close()
        self._open()

    @invariant()
    def every_live_key_is_known_and_every_lease_has_its_key(self) -> None:
        if not hasattr(self, "store"):
            return
        leases = self.store.leases_with_prefix("")
        intents = self.store.intents()
        known = {lease.internal["ref"]["key_id"] for lease in leases}
        named = {intent.name for intent in intents}
        for key in self.relay.live:
            assert key.key_id in known or key.name in named, "a key that nobody knows"
        live = {key.key_id for key in self.relay.live}
        for lease in leases:
            if lease.state is LeaseState.ACTIVE and lease.expire_time > self.clock.now():
                assert lease.internal["ref"]["key_id"] in live, "a lease without a key"
        assert self.confirmed & live == set(), "a revocation that was confirmed and is not true"

    def _everything_ends(self) -> None:
        """With relay and disk in order, all of it comes to its end."""
        arm("")
        self.relay.faults.clear()
        self.manager.revoke_prefix("ai-keys/", sync=False)
        for _ in range(60):
            self.manager.tidy()
            self.background()
            self.time_passes(60)
        assert self.manager.count() == 0
        assert self.store.intents() == []
        assert self.relay.live == []


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
