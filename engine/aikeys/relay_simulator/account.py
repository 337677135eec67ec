"""All of the relay's state, behind one lock."""

from __future__ import annotations

import hashlib
import threading

from aikeys.relay_simulator.clock import Clock
from aikeys.relay_simulator.idempotency import IdempotencyRecords
from aikeys.relay_simulator.identifiers import Identifiers
from aikeys.relay_simulator.keys import SCOPES, ManagementKey
from aikeys.relay_simulator.registry import KeyRegistry
from aikeys.relay_simulator.settings import AccountPolicy
from aikeys.relay_simulator.signing import NonceStore
from aikeys.relay_simulator.usage import UsageLedger


class Account:
    """One customer of the relay: its keys, its rules, what it used.

    Whoever reads or writes anything but `clock` holds `lock`, and holds it only while it computes.
    """

    def __init__(
        self,
        *,
        management_key: str,
        signing_secret: str | None = None,
        seed: int | None = None,
        policy: AccountPolicy | None = None,
    ) -> None:
        self.lock = threading.Lock()
        self.epoch = 0
        """Counts resets: a call that began before one must not touch what came after."""
        self.clock = Clock()
        self._management_key = management_key
        self._signing_secret = signing_secret
        self._seed = seed
        self._policy = policy or AccountPolicy()
        self.management_key_id: str | None = None
        """Id of the management key the process was started with."""
        self._start()

    def _start(self) -> None:
        self.policy = self._policy
        self.identifiers = Identifiers(self.clock, self._seed)
        self.keys = KeyRegistry()
        self.idempotency = IdempotencyRecords()
        self.nonces = NonceStore()
        self.usage = UsageLedger()
        self.management_keys: dict[str, ManagementKey] = {}
        self.management_keys_by_secret: dict[bytes, ManagementKey] = {}
        first = self.add_management_key(
            self._management_key, signing_secret=self._signing_secret, key_id=self.management_key_id
        )
        self.management_key_id = first.id

    def reset(self) -> None:
        """Forget everything; the management key the process was started with is valid again, under its id."""
        self.epoch += 1
        self.clock.reset()
        self._start()

    def settle(self) -> float:
        """End what is due; the moment it is now."""
        now = self.clock.now()
        self.keys.settle(now)
        return now

    def add_management_key(
        self,
        secret: str,
        *,
        scopes: frozenset[str] = frozenset(SCOPES),
        team_id: str | None = None,
        name_prefix: str | None = None,
        signing_secret: str | None = None,
        previous_id: str | None = None,
        key_id: str | None = None,
    ) -> ManagementKey:
        """Register `secret` as a management key."""
        fresh_id = self.identifiers.management_key_id()
        key = ManagementKey(
            id=key_id or fresh_id,
            secret_sha256=hashlib.sha256(secret.encode()).digest(),
            created_at=self.clock.now(),
            scopes=scopes,
            team_id=team_id,
            name_prefix=name_prefix,
            signing_secret=signing_secret,
            previous_id=previous_id,
        )
        self.management_keys[key.id] = key
        self.management_keys_by_secret[key.secret_sha256] = key
        return key
