"""Revoking a key: the relay's word, and where the role asks for it the proof that the key is refused.

What the relay does not confirm is never taken for revoked. That it does not know the key counts only when it was the
relay that minted it, and the management key was accepted moments ago: a wrong address or a dead credential finds
nothing either, and would let every key live on.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from aikeys.engine.connections import Connection
from aikeys.engine.lease_data import LeaseData
from aikeys.engine.relay_errors import engine_error
from aikeys.engine.services import Services
from aikeys.framework.request import Request
from aikeys.framework.response import EngineError, InvalidRequest, Response
from aikeys.redaction import SecretString
from aikeys.relays.interface import DriverError, KeyRef, Kind, Probe

# How long one call tries the key before it leaves the rest to the next attempt (seconds).
PROBING_SECONDS = 2.0
# Added to the relay's own bound: its nodes' clocks and the way of a probe (seconds).
BOUND_SLACK = 1.0
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.5
# Keys whose refusal is awaited, remembered so that the bound counts from their first deletion.
REMEMBERED_DELETIONS = 10_000


class StillAccepted(EngineError):
    """The relay deleted the key, and still accepts it: try again after `retry_in` seconds."""

    def __init__(self, message: str, retry_in: float) -> None:
        super().__init__(message)
        self.retry_in = retry_in


class Revocation:
    """Safe for many threads."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._deleted_at: OrderedDict[str, float] = OrderedDict()

    def revoke(self, request: Request) -> Response:
        """Data: `effective_within`, seconds from now after which the relay refuses the key everywhere at the latest,
        and `lag`, seconds from the deletion to the refusal that was seen, None when nobody looked.

        Raises EngineError when it has to be tried again; StillAccepted when a deleted key still works.
        """
        if request.secret is None:
            raise EngineError("request has no secret")
        lease = LeaseData.from_json(request.secret.internal_data)
        connection = self._connection(request)
        effective_within = self._delete(connection, lease.ref, request)
        lag = self._await_refusal(connection, lease, effective_within, request) if lease.verify else None
        return Response(data={"effective_within": effective_within, "lag": lag})

    def _connection(self, request: Request) -> Connection:
        try:
            return self._services.connections.connection(request.mount.uuid, request.mount.path)
        except InvalidRequest as error:
            # Vault's core would never try again after an invalid request; this one becomes possible again.
            raise EngineError(error.message) from error

    def _delete(self, connection: Connection, ref: KeyRef, request: Request) -> float:
        if ref.relay != connection.driver.name:
            raise EngineError(
                f"key {ref.key_id} was minted at a {ref.relay} relay, but config now names a "
                f"{connection.driver.name} one: its revocation waits until config names {ref.base_url} again"
            )
        try:
            return connection.driver.revoke(ref, request.deadline).effective_within
        except DriverError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise engine_error(f"revoking key {ref.key_id}", error) from error
        if not connection.minted(ref):
            raise EngineError(
                f"the relay at {connection.base_url} does not know key {ref.key_id}, which was minted at "
                f"{ref.base_url}: its revocation waits until config names that address again"
            )
        try:
            self._services.connections.prove_credential(connection, request.deadline)
        except DriverError as error:
            raise engine_error(
                f"the relay does not know key {ref.key_id}, which counts only once it accepts the management key",
                error,
            ) from error
        # Nodes may still hold what the books no longer do.
        return connection.driver.capabilities().revocation_lag

    def _await_refusal(
        self, connection: Connection, lease: LeaseData, effective_within: float, request: Request
    ) -> float | None:
        clock = self._services.clock
        key = SecretString(lease.probe_key)
        deleted_at = self._first_deletion(lease.ref)
        bound = deleted_at + effective_within + BOUND_SLACK
        give_up = clock.monotonic() + min(PROBING_SECONDS, request.deadline.remaining())
        pause = FIRST_PAUSE
        while True:
            seen = connection.driver.probe(key, request.deadline.at_most(PROBING_SECONDS))
            now = clock.monotonic()
            if seen is Probe.REJECTED:
                self._forget(lease.ref)
                return max(0.0, now - deleted_at)
            if seen is Probe.UNKNOWN and now >= bound:
                # Nobody can be asked, and the time in which the relay promised to refuse it is over.
                self._forget(lease.ref)
                return None
            if now + pause >= give_up:
                break
            self._services.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        retry_in = max(LONGEST_PAUSE, bound - clock.monotonic())
        said = "is still accepted" if seen is Probe.ACCEPTED else "could not be tried"
        raise StillAccepted(f"key {lease.ref.key_id} was deleted at the relay but {said}", retry_in)

    def _first_deletion(self, ref: KeyRef) -> float:
        """When this process first saw the key deleted (monotonic): the bound and the lag count from there."""
        with self._lock:
            at = self._deleted_at.setdefault(_identity(ref), self._services.clock.monotonic())
            while len(self._deleted_at) > REMEMBERED_DELETIONS:
                self._deleted_at.popitem(last=False)
            return at

    def _forget(self, ref: KeyRef) -> None:
        with self._lock:
            self._deleted_at.pop(_identity(ref), None)


def _identity(ref: KeyRef) -> str:
    return f"{ref.relay} {ref.base_url} {ref.key_id}"
