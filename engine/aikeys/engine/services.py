"""What the engine is given by whoever runs it: storage, a relay for every config, a minter, and two counts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from aikeys.engine.connections import Connections
from aikeys.engine.references import ReadReference, no_references
from aikeys.framework.clock import Clock
from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Mount
from aikeys.leases.books import LeaseBooks
from aikeys.leases.bulk import BulkRevocation
from aikeys.minting.sweep import Sweep
from aikeys.relays.interface import Capabilities, Driver, Minted, RelayConfig, Scopes
from aikeys.storage.interface import EntryStore, Store
from aikeys.storage.records import IssueLimits


class Drivers(Protocol):
    """The relays there are; the module `aikeys.relays.registry` is one."""

    def make_driver(self, config: RelayConfig) -> Driver: ...

    def relay_names(self) -> Sequence[str]: ...

    def capabilities_of(self, name: str) -> Capabilities: ...


class MintedKey(Protocol):
    """A key on record: what the relay made, and the intent that storing the lease completes."""

    @property
    def intent_id(self) -> str: ...

    @property
    def minted(self) -> Minted: ...


class Mints(Protocol):
    """`aikeys.minting.minter.Minter`, as far as `creds` uses it."""

    def mint(
        self,
        *,
        mount: Mount,
        role: str,
        driver: Driver,
        scopes: Scopes,
        expires_at: datetime,
        metadata: dict[str, str],
        deadline: Deadline,
        limits: IssueLimits | None = None,
    ) -> MintedKey: ...


def _none(_mount_uuid: str) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class Services:
    """`live_leases(mount uuid, role)` counts leases ("" for the role: all of the mount), `open_intents(mount uuid)`
    mints whose outcome is not settled. `keyed_hash` is what a secret is found by without being kept.
    `read_reference` reads what a config names instead of holding. `sleep` waits between two probes of a revoked key.
    Where leases are ours, `sweep` finds keys without one, `books` tells of them, and `bulk` ends many together; it is
    asked for once leases are there.
    """

    entries: Callable[[str], EntryStore]
    generation: Callable[[], int]
    minter: Mints
    drivers: Drivers
    clock: Clock
    live_leases: Callable[[str, str], int]
    keyed_hash: Callable[[str], str]
    open_intents: Callable[[str], int] = _none
    read_reference: ReadReference = no_references
    sleep: Callable[[float], None] = time.sleep
    sweep: Sweep | None = None
    books: LeaseBooks | None = None
    bulk: Callable[[], BulkRevocation] | None = None
    connections: Connections = field(init=False)

    def __post_init__(self) -> None:
        connections = Connections(
            self.entries,
            self.generation,
            self.drivers.make_driver,
            capabilities_of=self.drivers.capabilities_of,
            read_reference=self.read_reference,
            clock=self.clock,
        )
        object.__setattr__(self, "connections", connections)

    @classmethod
    def of_store(
        cls,
        store: Store,
        minter: Mints,
        drivers: Drivers,
        clock: Clock,
        read_reference: ReadReference = no_references,
        *,
        bulk: Callable[[], BulkRevocation] | None = None,
    ) -> Services:
        """The usual case: everything that is kept is in one store."""
        return cls(
            entries=store.entries,
            generation=store.generation,
            minter=minter,
            drivers=drivers,
            clock=clock,
            live_leases=store.count_leases,
            keyed_hash=store.keyed_hash,
            open_intents=lambda mount_uuid: len(store.intents(mount_uuid)),
            read_reference=read_reference,
            sweep=Sweep(store, clock),
            books=LeaseBooks(store, clock),
            bulk=bulk,
        )
