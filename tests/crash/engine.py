"""The engine with every real part below it, as one process of a deployment runs it, but for the HTTP in front."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from aikeys.backoff import Backoff
from aikeys.engine.backend import build_backend
from aikeys.engine.services import Services
from aikeys.framework.clock import Clock, SystemClock
from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Caller, Mount, Operation, Request
from aikeys.leases.expiry import Background
from aikeys.leases.lease import Registered
from aikeys.leases.manager import LeaseManager
from aikeys.leases.settings import LeaseSettings
from aikeys.minting.bounds import MintBounds
from aikeys.minting.minter import Minter
from aikeys.minting.resolver import IntentResolver
from aikeys.relays import registry
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.sidecar.build import EngineCallbacks
from aikeys.storage import open_store
from aikeys.storage.records import MountRecord

# A process that dies leaves work that others take up after these; short, so that a test need not wait for them.
QUICK_MINT = MintBounds(attempt=1.0, total=1.5, slack=0.2, settle=3.0, claim=4.0)
QUICK_LEASES = LeaseSettings(claim=2.0, poll=0.1, backoff=Backoff(base=0.1, cap=2.0), probe=0.5, hasten=1.0)


@dataclass(frozen=True)
class Place:
    """Where an engine's data and its relay are. `instance` marks the keys of this engine at the relay."""

    folder: Path
    base_url: str
    management_key: str
    instance: str


class Engine:
    """One process's share. Several may run on one folder."""

    def __init__(
        self,
        place: Place,
        mint: MintBounds = QUICK_MINT,
        leases: LeaseSettings = QUICK_LEASES,
        clock: Clock | None = None,
    ) -> None:
        clock = clock or SystemClock()
        self.store = open_store(
            place.folder / "aikeys.db", KeyFileSeal(place.folder / "seal.key"), clock=clock
        )
        self.mount = Mount(
            uuid="mount-1",
            path="ai-keys/",
            accessor="ai-keys_1",
            instance=place.instance,
            default_lease_ttl=3600,
            max_lease_ttl=7200,
            marker_key="00" * 32,
        )
        self._place = place
        minter = Minter(self.store, clock, mint)
        self._services = Services.of_store(self.store, minter, registry, clock)
        self.backend = build_backend(self._services)
        self.leases = LeaseManager(
            self.store, clock, EngineCallbacks(self.backend), lambda _uuid: self.mount, leases
        )
        resolver = IntentResolver(self.store, clock, self._services.connections.driver, mint)
        self.background = Background(self.store, self.leases, resolver, clock)
        minter.unsettled = self.background.settle_soon

    def set_up(self) -> None:
        """The mount, its relay and two roles: `demo`, and `short` whose leases end after a second."""
        mount = self.mount
        self.store.put_mount(
            MountRecord(mount.uuid, mount.path, mount.accessor, mount.instance, 3600, 7200, mount.marker_key)
        )
        self.write(
            "config",
            relay="holysheep",
            base_url=self._place.base_url,
            management_key=self._place.management_key,
        )
        self.write("roles/demo", ttl=600, max_ttl=1200, permissions=["chat"])
        self.write("roles/short", ttl=1, max_ttl=60, permissions=["chat"])

    def write(self, path: str, **data: object) -> None:
        exists = self.backend.exists(Request(Operation.UPDATE, path, self.mount, data))
        operation = Operation.UPDATE if exists in (None, True) else Operation.CREATE
        self.backend.handle(Request(operation, path, self.mount, data))

    def issue(self, role: str, **data: object) -> tuple[Registered, str]:
        """A lease and the id of its key, as `creds/<role>` does it."""
        caller = Caller(accessor="accessor-1")
        response = self.backend.handle(
            Request(Operation.READ, f"creds/{role}", self.mount, data, caller=caller)
        )
        assert response is not None
        assert response.secret is not None
        registered = self.leases.register(self.mount, f"ai-keys/creds/{role}", response.secret, caller)
        return registered, str((response.data or {})["key_id"])

    def tidy(self) -> None:
        """End every key that no lease knows, however young it is."""
        sweep = self._services.sweep
        assert sweep is not None
        driver = self._services.connections.driver(self.mount.uuid)
        plan = sweep.plan(self.mount, driver, timedelta(0), Deadline.after(10))
        plan.raise_if_restored()
        sweep.end(self.mount, plan.orphans)

    def close(self) -> None:
        self.background.stop(10)
        self._services.connections.close()
        self.store.close()
