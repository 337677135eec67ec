"""The engine with a real store and a real minter, at a relay whose books lie open.

`Books` is a driver without a network: what the engine decides is tested here, that it works against a relay's API in
`tests/integration`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aikeys.engine.backend import build_backend
from aikeys.engine.references import Reference, ReferenceUnreadable
from aikeys.engine.services import Services
from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Caller, Mount, Operation, Request
from aikeys.framework.response import Response, Secret
from aikeys.leases.bulk import BulkRevocation
from aikeys.leases.lease import Registered
from aikeys.leases.manager import LeaseManager
from aikeys.minting.minter import Minter
from aikeys.redaction import SecretString
from aikeys.relays.interface import (
    Capabilities,
    DriverError,
    KeyInfo,
    KeyRef,
    KeyStatus,
    Kind,
    Minted,
    MintIntent,
    Outcome,
    Probe,
    RelayConfig,
    RevokeResult,
    Scopes,
)
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.sidecar.build import EngineCallbacks
from aikeys.storage import SqlStore, open_store
from aikeys.storage.records import LeaseRecord, MountRecord

START = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
MANAGEMENT_KEY = "sk-holysheep-admin-" + "A" * 32
BASE_URL = "https://relay.example/v1"
CAPABILITIES = Capabilities(
    scopes=frozenset({"permissions", "allowed_models", "rate_limit", "max_tpm", "budget", "team_id"}),
    permissions=frozenset({"chat", "embeddings"}),
    idempotency="header",
    upstream_expiry=(60, 31_536_000),
    expiry_mutable=True,
    find_by_name=True,
    revocation_lag=0.5,
    list_lag=0.0,
    name_max=128,
    rate_limit_range=(1, 1000),
    max_tpm_range=(1, 10_000_000),
    request_signing=True,
)


class TestClock:
    """Stands still until it is moved; `sleep` moves it."""

    __test__ = False

    def __init__(self) -> None:
        self.moved = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.moved)

    def monotonic(self) -> float:
        return 1000.0 + self.moved

    def sleep(self, seconds: float) -> None:
        self.moved += seconds


@dataclass
class Key:
    ref: KeyRef
    intent: MintIntent
    secret: str
    expires_at: datetime
    revoked_at: float | None = None


@dataclass
class Books:
    """The relay itself: what it holds, what it was asked, and what goes wrong."""

    clock: TestClock
    capabilities: Capabilities = CAPABILITIES
    keys: dict[str, Key] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    # Raised by the named call: "check", "mint", "revoke", "extend", "list".
    faults: dict[str, DriverError] = field(default_factory=dict)
    # What a probe says, in turn; empty: what the books say.
    probes: list[Probe] = field(default_factory=list)
    slow_probes: float = 0.0
    slow_mints: float = 0.0
    accepted_keys: set[str] = field(default_factory=lambda: {MANAGEMENT_KEY})
    # Whether a key that is not accepted is refused by every call, not only by "check".
    judges_every_call: bool = False
    configs: list[RelayConfig] = field(default_factory=list)
    open_drivers: int = 0
    ids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def make_driver(self, config: RelayConfig) -> BooksDriver:
        self.configs.append(config)
        self.open_drivers += 1
        return BooksDriver(self, config)

    def relay_names(self) -> Sequence[str]:
        return ["holysheep", "plain"]

    def capabilities_of(self, name: str) -> Capabilities:
        return replace(self.capabilities, request_signing=name == "holysheep")

    def count(self, call: str) -> int:
        return sum(1 for name, _key in self.calls if name == call)


def refused(kind: Kind, text: str, *, retry_after: float | None = None) -> DriverError:
    return DriverError(kind, Outcome.NOT_APPLIED, text, retry_after=retry_after)


class BooksDriver:
    def __init__(self, books: Books, config: RelayConfig) -> None:
        self.books = books
        self.config = config
        self.name = config.relay

    def _asked(self, call: str, key: str = "") -> None:
        self.books.calls.append((call, key))
        if call in self.books.faults:
            raise self.books.faults[call]
        judged = call == "check" or self.books.judges_every_call
        if judged and self.config.management_key.reveal() not in self.books.accepted_keys:
            raise refused(Kind.AUTH, "The API key provided is invalid or has been revoked")

    def capabilities(self) -> Capabilities:
        return self.books.capabilities

    def validate_role(self, scopes: Scopes, ttl: int, max_ttl: int) -> list[str]:
        self.books.calls.append(("validate_role", f"{ttl}/{max_ttl}"))
        unknown = set(scopes.permissions) - self.books.capabilities.permissions
        return [f"permission {name} is unknown" for name in sorted(unknown)]

    def check(self, deadline: Deadline) -> None:
        self._asked("check")

    def mint(self, intent: MintIntent, deadline: Deadline) -> Minted:
        self._asked("mint", intent.name)
        self.books.clock.moved += self.books.slow_mints
        key_id = f"key_{next(self.books.ids)}"
        ref = KeyRef(self.name, self.config.base_url, key_id, intent.name)
        secret = f"sk-holysheep-{key_id:x>32}"
        self.books.keys[key_id] = Key(ref, intent, secret, intent.expires_at)
        return Minted(ref, SecretString(secret), intent.expires_at, self.config.base_url)

    def find(self, intent: MintIntent, deadline: Deadline) -> list[KeyInfo]:
        return [
            KeyInfo(key.ref, KeyStatus.ACTIVE)
            for key in self.books.keys.values()
            if key.ref.name == intent.name
        ]

    def revoke(self, ref: KeyRef, deadline: Deadline) -> RevokeResult:
        self._asked("revoke", ref.key_id)
        key = self.books.keys.get(ref.key_id)
        if key is None:
            raise refused(Kind.NOT_FOUND, "No such key")
        gone = key.revoked_at is not None
        key.revoked_at = self.books.clock.monotonic()
        return RevokeResult(already_gone=gone, effective_within=self.books.capabilities.revocation_lag)

    def extend(self, ref: KeyRef, expires_at: datetime, deadline: Deadline) -> None:
        self._asked("extend", ref.key_id)
        self.books.keys[ref.key_id].expires_at = expires_at

    def probe(self, secret: SecretString, deadline: Deadline) -> Probe:
        self.books.calls.append(("probe", secret.reveal()))
        self.books.clock.moved += self.books.slow_probes
        if self.books.probes:
            return self.books.probes.pop(0)
        live = any(
            key.secret == secret.reveal() and key.revoked_at is None for key in self.books.keys.values()
        )
        return Probe.ACCEPTED if live else Probe.REJECTED

    def list(
        self, name_prefix: str, deadline: Deadline, *, created_after: datetime | None = None
    ) -> Iterator[KeyInfo]:
        """A careless relay's list: more than was asked for."""
        self._asked("list", name_prefix)
        for key in self.books.keys.values():
            status = KeyStatus.ACTIVE if key.revoked_at is None else KeyStatus.REVOKED
            yield KeyInfo(
                key.ref, status, created_at=START, expires_at=key.expires_at, metadata=key.intent.metadata
            )

    def close(self) -> None:
        self.books.open_drivers -= 1


MOUNT = Mount(
    uuid="0000-mount",
    path="ai-keys/",
    accessor="ai-keys_1234",
    instance="abcdefgh",
    default_lease_ttl=2_764_800,
    max_lease_ttl=2_764_800,
)
CALLER = Caller(accessor="acc-1", entity_id="entity-1", display_name="app")


class World:
    """One mount of the engine. `read`, `write` and so on are what a client does; they return the response."""

    def __init__(self, folder: Path) -> None:
        self.clock = TestClock()
        self.books = Books(self.clock)
        self.store: SqlStore = open_store(
            folder / "aikeys.db", KeyFileSeal(folder / "seal"), clock=self.clock
        )
        self.store.put_mount(
            MountRecord(
                uuid=MOUNT.uuid,
                path=MOUNT.path,
                accessor=MOUNT.accessor,
                instance=MOUNT.instance,
                default_lease_ttl=MOUNT.default_lease_ttl,
                max_lease_ttl=MOUNT.max_lease_ttl,
                marker_key="00" * 32,
            )
        )
        self.mount = MOUNT
        self.generations = 0
        # The KV engine beside the engine: what stands where, what the caller may read of it, what was read.
        self.kv: dict[str, str | ReferenceUnreadable] = {}
        self.readable: set[str] = set()
        self.reads: list[str] = []
        self.services = self._services()
        self.backend = build_backend(self.services)
        self.leases = LeaseManager(
            self.store, self.clock, EngineCallbacks(self.backend), lambda _uuid: self.mount
        )
        self.bulk = BulkRevocation(self.store, self.clock, self.leases)

    def _services(self) -> Services:
        minter = Minter(self.store, self.clock, sleep=self.clock.sleep)
        usual = Services.of_store(self.store, minter, self.books, self.clock, bulk=lambda: self.bulk)
        return replace(
            usual, generation=self._generation, sleep=self.clock.sleep, read_reference=self._read_reference
        )

    def _read_reference(self, mount_uuid: str, reference: Reference, _deadline: Deadline) -> str:
        assert mount_uuid == self.mount.uuid
        self.reads.append(str(reference))
        found = self.kv.get(str(reference))
        if found is None:
            raise ReferenceUnreadable(f"{reference} names nothing", passing=False)
        if isinstance(found, ReferenceUnreadable):
            raise found
        return found

    def _generation(self) -> int:
        self.generations += 1
        return self.store.generation()

    def close(self) -> None:
        self.services.connections.close()
        self.store.close()

    def do(
        self,
        operation: Operation,
        path: str,
        data: dict[str, Any] | None = None,
        *,
        caller: Caller | None = CALLER,
    ) -> Response | None:
        can_read = self.readable.__contains__
        request = Request(operation, path, self.mount, data=data or {}, caller=caller, can_read=can_read)
        return self.backend.handle(request)

    def relay_config(self) -> RelayConfig:
        """What the driver in use was made from."""
        driver = self.services.connections.driver(self.mount.uuid)
        assert isinstance(driver, BooksDriver)
        return driver.config

    def read(self, path: str, data: dict[str, Any] | None = None) -> dict[str, Any] | None:
        answer = self.do(Operation.READ, path, data)
        return None if answer is None else answer.data

    def write(self, path: str, **data: Any) -> Response | None:
        return self.do(Operation.UPDATE, path, data)

    def patch(self, path: str, **data: Any) -> Response | None:
        return self.do(Operation.PATCH, path, data)

    def delete(self, path: str) -> Response | None:
        return self.do(Operation.DELETE, path)

    def configure(self, **data: Any) -> Response | None:
        return self.write("config", **{"base_url": BASE_URL, "management_key": MANAGEMENT_KEY, **data})

    def issue(self, role: str, *, caller: Caller | None = CALLER, **data: Any) -> Response:
        answer = self.do(Operation.READ, f"creds/{role}", data, caller=caller)
        assert answer is not None
        assert answer.secret is not None
        return answer

    def lease(self, answer: Response) -> Secret:
        """The secret of `answer` as the lease manager hands it back, with its lease stored."""
        assert answer.secret is not None
        now = self.clock.now()
        record = LeaseRecord(
            lease_id=f"ai-keys/creds/{answer.secret.role}/{next(self.books.ids)}",
            mount_uuid=self.mount.uuid,
            path=f"ai-keys/creds/{answer.secret.role}",
            secret_type=answer.secret.type,
            internal=answer.secret.internal_data,
            role=answer.secret.role,
            issue_time=now,
            expire_time=now + timedelta(seconds=answer.secret.ttl),
            due_at=now + timedelta(seconds=answer.secret.ttl),
        )
        self.store.complete_intent(answer.secret.intent_id, record)
        return replace(answer.secret, lease_id=record.lease_id, issue_time=now)

    def register(self, answer: Response, caller: Caller = CALLER) -> Registered:
        """Its lease, stored as the sidecar stores it."""
        assert answer.secret is not None
        path = f"{self.mount.path}creds/{answer.secret.role}"
        return self.leases.register(self.mount, path, answer.secret, caller)

    def renew(self, secret: Secret) -> Secret:
        answer = self.backend.handle(Request(Operation.RENEW, "", self.mount, secret=secret))
        assert answer is not None
        assert answer.secret is not None
        return answer.secret

    def revoke(self, secret: Secret) -> dict[str, Any]:
        answer = self.backend.handle(Request(Operation.REVOKE, "", self.mount, secret=secret))
        assert answer is not None
        assert answer.data is not None
        return answer.data


Make = Callable[[], World]
