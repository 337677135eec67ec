"""Each mount's parsed config, its driver and its parsed roles, kept until storage says that something changed.

One call of `generation()` decides whether what is cached still holds, so that a request for a key parses nothing.
The generation is read before the entries: what changes in between is noticed by the next call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aikeys.engine.entries import CONFIG, role_key
from aikeys.engine.references import ReadReference, references
from aikeys.engine.referring import ReferringDriver
from aikeys.engine.relay_config import DEFAULT_RELAY, canonical_url, referred_config, relay_config
from aikeys.engine.role import Role
from aikeys.framework.clock import Clock
from aikeys.framework.deadline import Deadline
from aikeys.framework.response import InvalidRequest
from aikeys.relays.interface import Capabilities, Driver, DriverError, KeyRef, RelayConfig
from aikeys.storage.interface import EntryStore

# A driver that a new config replaced may still be in a request's hands: no request outlives this many seconds.
RETIRED_DRIVER_SECONDS = 120.0
# How long a management key that was proven good counts as good (seconds).
CREDENTIAL_PROVEN_SECONDS = 60.0


@dataclass(slots=True)
class Connection:
    """One driver and the entry of the config that it was made from.

    `proven_at` is when the relay last accepted the management key: monotonic, None before the first check.
    """

    entry: dict[str, Any]
    driver: Driver
    proven_at: float | None = None

    @property
    def base_url(self) -> str:
        return canonical_url(self.entry["base_url"])

    def replaced(self, since: float) -> bool:
        """Whether the driver read another credential at `since` or later (monotonic)."""
        driver = self.driver
        return (
            isinstance(driver, ReferringDriver)
            and driver.replaced_at is not None
            and driver.replaced_at >= since
        )

    def minted(self, ref: KeyRef) -> bool:
        """Whether the key was minted where this connection leads."""
        return ref.relay == self.driver.name and canonical_url(ref.base_url) == self.base_url


@dataclass(slots=True)
class MountState:
    """What a mount's storage held at one generation."""

    generation: int
    entries: EntryStore
    connection: Connection | None
    _roles: dict[str, Role] = field(default_factory=dict)

    def role(self, name: str) -> Role | None:
        role = self._roles.get(name)
        if role is None:
            entry = self.entries.get(role_key(name))
            if entry is None:
                return None
            role = self._roles[name] = Role.from_entry(entry)
        return role

    def connected(self, mount_path: str = "") -> Connection:
        """The connection; InvalidRequest where no relay is configured."""
        if self.connection is None:
            where = f"{mount_path}config" if mount_path else "its config"
            raise InvalidRequest(f"this mount has no relay yet: write {where} first")
        return self.connection


class Connections:
    """Safe for many threads. Every driver it hands out stays its own: never close one."""

    def __init__(
        self,
        entries: Callable[[str], EntryStore],
        generation: Callable[[], int],
        make_driver: Callable[[RelayConfig], Driver],
        *,
        capabilities_of: Callable[[str], Capabilities],
        read_reference: ReadReference,
        clock: Clock,
    ) -> None:
        self._entries = entries
        self._generation = generation
        self._make_driver = make_driver
        self._capabilities_of = capabilities_of
        self._read_reference = read_reference
        self._clock = clock
        self._lock = threading.Lock()
        self._mounts: dict[str, MountState] = {}
        self._retired: list[tuple[float, Driver]] = []

    def state(self, mount_uuid: str) -> MountState:
        """What holds now, for the length of one request."""
        generation = self._generation()
        state = self._mounts.get(mount_uuid)
        if state is not None and state.generation == generation:
            return state
        with self._lock:
            return self._load(mount_uuid, generation)

    def driver(self, mount_uuid: str, mount_path: str = "") -> Driver:
        """The driver of the mount's relay; InvalidRequest where no relay is configured."""
        return self.connection(mount_uuid, mount_path).driver

    def connection(self, mount_uuid: str, mount_path: str = "") -> Connection:
        """The same with its config."""
        return self.state(mount_uuid).connected(mount_path)

    def role(self, mount_uuid: str, name: str) -> Role | None:
        return self.state(mount_uuid).role(name)

    def prove_credential(self, connection: Connection, deadline: Deadline) -> None:
        """Return when the relay accepted the management key within the last 60 seconds, asking it if need be.

        Raises `DriverError` when the relay does not confirm it.
        """
        now = self._clock.monotonic()
        proven_at = connection.proven_at
        if proven_at is None or now - proven_at > CREDENTIAL_PROVEN_SECONDS or connection.replaced(proven_at):
            connection.driver.check(deadline)
            connection.proven_at = now

    def make_driver(self, mount_uuid: str, entry: dict[str, Any]) -> Driver:
        """A driver of the caller's own for a config entry; close it. Raises `DriverError`.

        No IO: what the entry names instead of holding is read when it is first needed.
        """
        if not references(entry):
            return self._make_driver(relay_config(entry))
        relay = entry.get("relay") or DEFAULT_RELAY

        def read(deadline: Deadline) -> RelayConfig:
            return referred_config(entry, lambda ref: self._read_reference(mount_uuid, ref, deadline))

        return ReferringDriver(relay, self._capabilities_of(relay), read, self._make_driver, self._clock)

    def close(self) -> None:
        with self._lock:
            drivers = [driver for _since, driver in self._retired]
            drivers += [state.connection.driver for state in self._mounts.values() if state.connection]
            self._retired.clear()
            self._mounts.clear()
        for driver in drivers:
            driver.close()

    def _load(self, mount_uuid: str, generation: int) -> MountState:
        old = self._mounts.get(mount_uuid)
        if old is not None and old.generation == generation:
            return old
        entries = self._entries(mount_uuid)
        entry = entries.get(CONFIG)
        before = old.connection if old is not None else None
        if entry is None:
            connection = None
        elif before is not None and before.entry == entry:
            connection = before
        else:
            connection = self._connect(mount_uuid, entry)
        if before is not None and before is not connection:
            self._retired.append((self._clock.monotonic(), before.driver))
        self._close_retired()
        state = self._mounts[mount_uuid] = MountState(generation, entries, connection)
        return state

    def _connect(self, mount_uuid: str, entry: dict[str, Any]) -> Connection:
        try:
            return Connection(entry, self.make_driver(mount_uuid, entry))
        except DriverError as error:
            raise InvalidRequest(f"the stored config cannot be used: {error.safe_message}") from error

    def _close_retired(self) -> None:
        now = self._clock.monotonic()
        due = [driver for since, driver in self._retired if now - since > RETIRED_DRIVER_SECONDS]
        self._retired = [item for item in self._retired if now - item[0] <= RETIRED_DRIVER_SECONDS]
        for driver in due:
            driver.close()
