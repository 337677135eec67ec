"""Revoking a key: the relay's word, and where the role asks for it the proof that the key is refused.

What the relay does not confirm is never taken for revoked. That it does not know the key counts only when it was the
relay that minted it, and the management key was accepted moments ago: a wrong address or a dead credential finds
nothing either, and would let every key live on.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime, timedelta

from aikeys.engine.connections import Connection
from aikeys.engine.lease_data import LeaseData
from aikeys.engine.relay_errors import engine_error
from aikeys.engine.services import Services
from aikeys.framework.request import Request
from aikeys.framework.response import EngineError, InvalidRequest, Response
from aikeys.leases.lease import StillAccepted
from aikeys.redaction import SecretString
from aikeys.relays.interface import DriverError, KeyRef, Kind, Probe

# How long one call tries the key before it leaves the rest to the next attempt (seconds).
PROBING_SECONDS = 2.0
# Added to the relay's own bound: its nodes' clocks and the way of a probe (seconds).
BOUND_SLACK = 1.0
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 0.5
# Behind one address may stand several nodes, of which some know of the deletion before others. Until the relay's bound
# is over, so many refusals in a row are wanted, each over a connection of its own (`Driver.probe`).
REFUSALS = 3
# Keys whose refusal is awaited, remembered so that the bound counts from their first deletion.
REMEMBERED_DELETIONS = 10_000


@dataclass(frozen=True, slots=True)
class _Deletion:
    """When the relay first said that the key is deleted: by the wall clock, and (seconds) by the monotonic one."""

    at: datetime
    monotonic: float


class Revocation:
    """Safe for many threads."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._deletions: OrderedDict[str, _Deletion] = OrderedDict()

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
        lag = None
        if lease.verify:
            deletion = self._first_deletion(lease.ref, request.secret.deleted_at)
            lag = self._await_refusal(connection, lease, deletion, effective_within, request)
            self._forget(lease.ref)
            # The relay's promise counts from the first deletion, however often that was repeated.
            since = self._services.clock.monotonic() - deletion.monotonic
            effective_within = max(0.0, effective_within - since)
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
        self,
        connection: Connection,
        lease: LeaseData,
        deletion: _Deletion,
        effective_within: float,
        request: Request,
    ) -> float | None:
        """The lag; None when nobody could be asked until the relay's bound was over."""
        clock = self._services.clock
        key = SecretString(lease.probe_key)
        bound = deletion.monotonic + effective_within + BOUND_SLACK
        give_up = clock.monotonic() + min(PROBING_SECONDS, request.deadline.remaining())
        pause = FIRST_PAUSE
        refused_at: list[float] = []
        while True:
            seen = connection.driver.probe(key, request.deadline.at_most(PROBING_SECONDS))
            now = clock.monotonic()
            if seen is Probe.REJECTED:
                refused_at.append(now)
                if len(refused_at) == REFUSALS or now >= bound:
                    return max(0.0, refused_at[0] - deletion.monotonic)
                if now < give_up:
                    continue
                break
            refused_at.clear()
            if seen is Probe.UNKNOWN and now >= bound:
                return None
            if now + pause >= give_up:
                break
            self._services.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        said = {
            Probe.ACCEPTED: "is still accepted",
            Probe.REJECTED: "was not refused often enough to be sure",
            Probe.UNKNOWN: "could not be tried",
        }[seen]
        left = bound - clock.monotonic()
        raise StillAccepted(
            f"key {lease.ref.key_id} was deleted at the relay but {said}",
            max(LONGEST_PAUSE, left) if left > 0 else None,
            deleted_at=deletion.at,
            effective_by=deletion.at + timedelta(seconds=effective_within),
        )

    def _first_deletion(self, ref: KeyRef, recorded: datetime | None) -> _Deletion:
        """The bound and the lag count from there. `recorded` is what an attempt before a restart put on record."""
        clock = self._services.clock
        now = clock.now()
        since = max(0.0, (now - recorded).total_seconds()) if recorded is not None else 0.0
        with self._lock:
            deletion = self._deletions.setdefault(
                _identity(ref), _Deletion(recorded or now, clock.monotonic() - since)
            )
            while len(self._deletions) > REMEMBERED_DELETIONS:
                self._deletions.popitem(last=False)
            return deletion

    def _forget(self, ref: KeyRef) -> None:
        with self._lock:
            self._deletions.pop(_identity(ref), None)


def _identity(ref: KeyRef) -> str:
    return f"{ref.relay} {ref.base_url} {ref.key_id}"
