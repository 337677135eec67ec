"""Renewing a lease: the role's numbers of now, and the relay's end moved before the lease's."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from aikeys.engine.backstop import relay_end
from aikeys.engine.connections import Connection
from aikeys.engine.lease_data import LeaseData
from aikeys.engine.relay_errors import engine_error
from aikeys.engine.services import Services
from aikeys.framework.request import Request
from aikeys.framework.response import EngineError, Response, Secret
from aikeys.relays.interface import DriverError


class Renewal:
    def __init__(self, services: Services) -> None:
        self._services = services

    def renew(self, request: Request) -> Response:
        """The secret with the TTLs that the role has now; the door computes the lease from them.

        The relay's own end is moved first when the lease may now outlive it: after a crash in between the key lives
        longer at the relay than its lease, never shorter. Raises EngineError: the role is gone, the relay refuses.
        """
        secret = request.secret
        if secret is None or secret.issue_time is None:
            raise EngineError("error during renew: the lease has no issue time")
        lease = LeaseData.from_json(secret.internal_data)
        state = self._services.connections.state(request.mount.uuid)
        role = state.role(lease.role)
        if role is None:
            raise EngineError(f'error during renew: could not find role with name "{lease.role}"')
        longest = timedelta(seconds=role.effective_max(request.mount.max_lease_ttl))
        lease_end = secret.issue_time + longest
        if lease.not_after is not None:
            lease_end = min(lease_end, lease.not_after)
        max_ttl = role.max_ttl
        now = self._services.clock.now()
        # Past its maximum the lease is refused by the door: the relay's end stays where it is.
        if now < lease_end and lease.upstream_expires_at < lease_end:
            connection = state.connected(request.mount.path)
            capabilities = connection.driver.capabilities()
            if capabilities.expiry_mutable:
                ends = relay_end(lease_end, now, capabilities)
                _extend(connection, lease, ends, request)
                lease = replace(lease, upstream_expires_at=ends)
            else:
                max_ttl = _seconds_until(lease.upstream_expires_at, secret.issue_time)
        return Response(secret=_renewed(secret, lease, ttl=role.ttl, max_ttl=max_ttl))


def _extend(connection: Connection, lease: LeaseData, ends: datetime, request: Request) -> None:
    if not connection.minted(lease.ref):
        raise EngineError(
            f"error during renew: the key was minted at {lease.ref.base_url}, which config no longer names, so it "
            "cannot be extended"
        )
    try:
        connection.driver.extend(lease.ref, ends, request.deadline)
    except DriverError as error:
        raise engine_error("error during renew: the relay did not extend the key", error) from error


def _seconds_until(end: datetime, start: datetime) -> int:
    return max(1, (end - start) // timedelta(seconds=1))


def _renewed(secret: Secret, lease: LeaseData, *, ttl: int, max_ttl: int) -> Secret:
    return replace(secret, internal_data=lease.to_json(), ttl=ttl, max_ttl=max_ttl)
