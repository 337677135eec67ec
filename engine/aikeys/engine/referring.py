"""A driver whose credential is named by the config, not held by it: read when it is first needed, and read again when
the relay rejects it.

So a management key that was rotated where the reference points is used without a write of the config, by mints,
renewals and revocations alike. Only a rejection that is sure to have changed nothing is answered by asking again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from aikeys.engine.references import ReferenceUnreadable
from aikeys.framework.clock import Clock
from aikeys.framework.deadline import Deadline
from aikeys.redaction import SecretString
from aikeys.relays.interface import (
    Capabilities,
    Driver,
    DriverError,
    KeyInfo,
    KeyRef,
    Kind,
    Minted,
    MintIntent,
    Outcome,
    Probe,
    RelayConfig,
    RevokeResult,
    Scopes,
)

# Between two readings that a rejection causes, and after one that failed (seconds): a relay that rejects everything
# must not become a flood of reads.
READ_AGAIN_SECONDS = 5.0
READ_FAILED_SECONDS = 1.0
# A driver that a newer credential replaced may still be in a request's hands: no request outlives this.
RETIRED_SECONDS = 120.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Used:
    config: RelayConfig
    driver: Driver


class ReferringDriver:
    """Safe for many threads. `read` makes the relay's config anew from what the references name now.

    `replaced_at` is when the credential last became another one: monotonic, None while it is still the first.
    """

    def __init__(
        self,
        name: str,
        capabilities: Capabilities,
        read: Callable[[Deadline], RelayConfig],
        make_driver: Callable[[RelayConfig], Driver],
        clock: Clock,
    ) -> None:
        self.name = name
        self._capabilities = capabilities
        self._read = read
        self._make_driver = make_driver
        self._clock = clock
        self._lock = threading.Lock()
        self._used: _Used | None = None
        self._retired: list[tuple[float, Driver]] = []
        self._failure: tuple[float, DriverError] | None = None
        self._reread_at: float | None = None
        self.replaced_at: float | None = None

    # -- the interface of a driver ------------------------------------------------------------------------------

    def capabilities(self) -> Capabilities:
        return self._capabilities

    def validate_role(self, scopes: Scopes, ttl: int, max_ttl: int) -> list[str]:
        return self._now(Deadline.default()).driver.validate_role(scopes, ttl, max_ttl)

    def check(self, deadline: Deadline) -> None:
        self._call(deadline, lambda driver: driver.check(deadline))

    def mint(self, intent: MintIntent, deadline: Deadline) -> Minted:
        return self._call(deadline, lambda driver: driver.mint(intent, deadline))

    def find(self, intent: MintIntent, deadline: Deadline) -> list[KeyInfo]:
        return self._call(deadline, lambda driver: driver.find(intent, deadline))

    def revoke(self, ref: KeyRef, deadline: Deadline) -> RevokeResult:
        return self._call(deadline, lambda driver: driver.revoke(ref, deadline))

    def extend(self, ref: KeyRef, expires_at: datetime, deadline: Deadline) -> None:
        self._call(deadline, lambda driver: driver.extend(ref, expires_at, deadline))

    def probe(self, secret: SecretString, deadline: Deadline) -> Probe:
        try:
            return self._now(deadline).driver.probe(secret, deadline)
        except DriverError:
            return Probe.UNKNOWN

    def list(
        self, name_prefix: str, deadline: Deadline, *, created_after: datetime | None = None
    ) -> Iterator[KeyInfo]:
        # Whole, since a page that was handed on cannot be asked for again.
        def ask(driver: Driver) -> list[KeyInfo]:
            return [*driver.list(name_prefix, deadline, created_after=created_after)]

        return iter(self._call(deadline, ask))

    def close(self) -> None:
        with self._lock:
            drivers = [driver for _since, driver in self._retired]
            if self._used is not None:
                drivers.append(self._used.driver)
            self._retired.clear()
            self._used = None
        for driver in drivers:
            driver.close()

    # -- inner --------------------------------------------------------------------------------------------------

    def _call(self, deadline: Deadline, ask: Callable[[Driver], T]) -> T:
        used = self._now(deadline)
        try:
            return ask(used.driver)
        except DriverError as error:
            if error.kind is not Kind.AUTH or error.outcome is not Outcome.NOT_APPLIED:
                raise
            newer = self._newer(used, error, deadline)
        return ask(newer.driver)

    def _now(self, deadline: Deadline) -> _Used:
        used = self._used
        if used is not None:
            return used
        with self._exclusive(deadline):
            if self._used is None:
                if self._failure is not None and self._clock.monotonic() < self._failure[0]:
                    raise _again(self._failure[1])
                try:
                    self._used = self._connect(self._config(deadline))
                except DriverError as error:
                    self._failure = (self._clock.monotonic() + READ_FAILED_SECONDS, error)
                    raise
                self._failure = None
            return self._used

    def _newer(self, rejected: _Used, error: DriverError, deadline: Deadline) -> _Used:
        """What to use instead of a credential that was rejected; raises the rejection when there is nothing newer."""
        with self._exclusive(deadline):
            if self._used is not None and self._used is not rejected:
                return self._used
            now = self._clock.monotonic()
            if self._reread_at is not None and now - self._reread_at < READ_AGAIN_SECONDS:
                raise error
            self._reread_at = now
            try:
                config = self._config(deadline)
            except DriverError as unreadable:
                raise _also(error, unreadable) from error
            if config == rejected.config:
                raise error
            newer = self._connect(config)
            self._retire(rejected, now)
            self._used = newer
            self.replaced_at = self._clock.monotonic()
            return newer

    def _config(self, deadline: Deadline) -> RelayConfig:
        try:
            return self._read(deadline)
        except ReferenceUnreadable as error:
            kind = Kind.UNAVAILABLE if error.passing else Kind.CONFIG
            raise DriverError(kind, Outcome.NOT_APPLIED, error.message) from error

    def _connect(self, config: RelayConfig) -> _Used:
        return _Used(config, self._make_driver(config))

    def _retire(self, used: _Used, now: float) -> None:
        self._retired.append((now, used.driver))
        for since, driver in self._retired:
            if now - since > RETIRED_SECONDS:
                driver.close()
        self._retired = [item for item in self._retired if now - item[0] <= RETIRED_SECONDS]

    @contextmanager
    def _exclusive(self, deadline: Deadline) -> Iterator[None]:
        """One thread reads, the others wait for its outcome, but not past their own end."""
        if not self._lock.acquire(timeout=deadline.remaining()):
            raise DriverError(
                Kind.TIMEOUT,
                Outcome.NOT_APPLIED,
                "the relay's credential was not read within the request's time",
            )
        try:
            yield
        finally:
            self._lock.release()


def _again(error: DriverError) -> DriverError:
    return DriverError(error.kind, error.outcome, error.safe_message)


def _also(rejection: DriverError, unreadable: DriverError) -> DriverError:
    """The rejection, and that the reference could not be read again."""
    return DriverError(
        rejection.kind,
        rejection.outcome,
        f"{rejection.safe_message}; {unreadable.safe_message}"[:400],
        http_status=rejection.http_status,
        upstream_code=rejection.upstream_code,
        request_id=rejection.request_id,
    )
