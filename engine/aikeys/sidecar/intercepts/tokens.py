"""Revocations of tokens on their way to the upstream: the leases of a token end with it.

The sidecar would notice the death of a token later anyway; here it knows at once. Whose token it is must be asked
before the request goes on, because nobody can be asked about a dead one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from aikeys.errors import StorageError
from aikeys.framework.response import EngineError
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.intercepts.answers import fields_or_none

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

log = structlog.get_logger(__name__)


def revoke(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """POST `auth/token/revoke` and `…/revoke-orphan`: the token in the body."""
    token = (fields_or_none(exchange) or {}).get("token")
    return _revoked(sidecar, exchange, _accessor(sidecar, token) if isinstance(token, str) else "")


def revoke_self(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """POST `auth/token/revoke-self`."""
    return _revoked(sidecar, exchange, _accessor(sidecar, exchange.token))


def revoke_accessor(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """POST `auth/token/revoke-accessor`."""
    accessor = (fields_or_none(exchange) or {}).get("accessor")
    return _revoked(sidecar, exchange, accessor if isinstance(accessor, str) else "")


def _accessor(sidecar: Sidecar, token: str) -> str:
    """ "" for a dead token, a batch token, and where the upstream cannot be asked: revoking goes before knowing."""
    try:
        caller = sidecar.identity.lookup(token) if token else None
    except EngineError as error:
        log.warning("token_to_revoke_not_looked_up", error=str(error))
        return ""
    return caller.accessor if caller is not None else ""


def _revoked(sidecar: Sidecar, exchange: Exchange, accessor: str) -> Reply | None:
    if not accessor:
        return None
    reply = sidecar.upstream.forward(exchange)
    if reply.status in {200, 204}:
        try:
            sidecar.leases.revoke_of_tokens([accessor])
        except (EngineError, StorageError) as error:
            # The token is dead all the same, and whoever sweeps for dead tokens comes upon its leases.
            log.error("leases_of_revoked_token_not_ended", accessor=accessor, error=str(error))
    return reply
