"""A relay without a network whose calls can be made to fail before or after they took effect.

What the protocol decides is tested here, for every order of failures; that it holds at a relay's real API, with a
process that is killed, is tested in `tests/crash`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Mount
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
    RevokeResult,
    Scopes,
)

START = datetime(2026, 1, 2, 3, 4, 5, 600_000, tzinfo=UTC)
MOUNT = Mount(
    uuid="mount-1",
    path="ai-keys/",
    accessor="ai-keys_1",
    instance="abcdefgh",
    default_lease_ttl=3600,
    max_lease_ttl=7200,
    marker_key="ab" * 32,
)
BASE_URL = "https://relay.example/v1"
CAPABILITIES = Capabilities(
    scopes=frozenset(),
    permissions=frozenset(),
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
    """Stands still until it is moved."""

    __test__ = False

    def __init__(self) -> None:
        self.moved = 0.0

    def now(self) -> datetime:
        return START + timedelta(seconds=self.moved)

    def monotonic(self) -> float:
        return 1000.0 + self.moved

    def sleep(self, seconds: float) -> None:
        self.moved += seconds


def failure(kind: Kind, outcome: Outcome, retry_after: float | None = None) -> DriverError:
    return DriverError(kind, outcome, f"the relay said {kind.value}", retry_after=retry_after)


LOST = failure(Kind.TIMEOUT, Outcome.UNKNOWN)
UNREACHABLE = failure(Kind.UNAVAILABLE, Outcome.NOT_APPLIED)


@dataclass(frozen=True)
class Fault:
    """The next call fails with `error`, before it took effect or (`applied`) after."""

    error: Exception
    applied: bool = False


@dataclass
class Key:
    key_id: str
    name: str
    expires_at: datetime
    secret: str
    live: bool = True
    metadata: Mapping[str, str] = field(default_factory=dict)


# Inside the class the name `list` is a method's.
Keys = list[Key]
Calls = list[str]
Faults = list[Fault]
Infos = list[KeyInfo]


@dataclass
class ScriptedRelay:
    """`faults[call]` is used up front to back; an empty list means the call works."""

    clock: TestClock
    idempotency: str = "header"
    list_lag: float = 0.0
    name: str = "scripted"
    keys: Keys = field(default_factory=list)
    calls: Calls = field(default_factory=list)
    faults: dict[str, Faults] = field(default_factory=dict)
    unlisted: bool = False
    wrong_address: bool = False
    _replies: dict[str, Key] = field(default_factory=dict)
    _numbers: itertools.count[int] = field(default_factory=itertools.count)

    @property
    def live(self) -> Keys:
        return [key for key in self.keys if key.live and key.expires_at > self.clock.now()]

    def capabilities(self) -> Capabilities:
        return replace(CAPABILITIES, idempotency=self.idempotency, list_lag=self.list_lag)

    def validate_role(self, scopes: Scopes, ttl: int, max_ttl: int) -> Calls:
        return []

    def check(self, deadline: Deadline) -> None:
        self._call("check")

    def mint(self, intent: MintIntent, deadline: Deadline) -> Minted:
        fault = self._begin("mint")
        if fault is not None and not fault.applied:
            raise fault.error
        key = self._replies.get(intent.idempotency_key) if self.idempotency == "header" else None
        if key is None:
            if intent.expires_at <= self.clock.now():
                raise failure(Kind.INVALID_REQUEST, Outcome.NOT_APPLIED)
            number = next(self._numbers)
            key = Key(f"key_{number}", intent.name, intent.expires_at, f"sk-holysheep-{number:032d}")
            key.metadata = intent.metadata
            self.keys.append(key)
            self._replies[intent.idempotency_key] = key
        if fault is not None:
            raise fault.error
        return Minted(self._ref(key), SecretString(key.secret), key.expires_at, BASE_URL)

    def find(self, intent: MintIntent, deadline: Deadline) -> Infos:
        self._call("find")
        if self.unlisted or self.wrong_address:
            return []
        # A careless relay's search: more than was asked for.
        return [
            KeyInfo(self._ref(key), KeyStatus.ACTIVE if key in self.live else KeyStatus.REVOKED)
            for key in self.keys
        ]

    def revoke(self, ref: KeyRef, deadline: Deadline) -> RevokeResult:
        fault = self._begin("revoke")
        if fault is not None and not fault.applied:
            raise fault.error
        found = [key for key in self.keys if key.key_id == ref.key_id and not self.wrong_address]
        if not found:
            raise failure(Kind.NOT_FOUND, Outcome.NOT_APPLIED)
        gone = not found[0].live
        found[0].live = False
        if fault is not None:
            raise fault.error
        return RevokeResult(already_gone=gone, effective_within=0.5)

    def extend(self, ref: KeyRef, expires_at: datetime, deadline: Deadline) -> None:
        self._call("extend")

    def probe(self, secret: SecretString, deadline: Deadline) -> Probe:
        self._call("probe")
        return Probe.REJECTED

    def list(
        self, name_prefix: str, deadline: Deadline, *, created_after: datetime | None = None
    ) -> Iterator[KeyInfo]:
        self._call("list")
        for key in self.live:
            if key.name.startswith(name_prefix):
                yield KeyInfo(self._ref(key), KeyStatus.ACTIVE, metadata=key.metadata)

    def close(self) -> None:
        self.calls.append("close")

    def _ref(self, key: Key) -> KeyRef:
        return KeyRef(self.name, BASE_URL, key.key_id, key.name)

    def _begin(self, call: str) -> Fault | None:
        self.calls.append(call)
        waiting = self.faults.get(call)
        return waiting.pop(0) if waiting else None

    def _call(self, call: str) -> None:
        if (fault := self._begin(call)) is not None:
            raise fault.error
