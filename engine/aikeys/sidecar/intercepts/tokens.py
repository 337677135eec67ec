"""What makes and ends tokens, on its way to the upstream: the leases of a token end with it.

The sweep would notice the death of a token later anyway; here it is known at once. Whose token it is must be asked
before the request goes on, because nobody can be asked about a dead one. Which others die with it nobody tells: those
are looked up afterwards.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from aikeys.errors import StorageError
from aikeys.framework.response import EngineError
from aikeys.leases.lease import BATCH
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.intercepts.answers import fields_or_none

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

log = structlog.get_logger(__name__)

# Leases of tokens, as their ids begin.
_TOKENS = "auth/"
# 202: the upstream will do it in a moment.
_DONE = frozenset({200, 202, 204})


def create(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """POST `auth/token/create[/<role>]`: a batch token's leases end with its parent, which no look-up of it tells."""
    reply = sidecar.upstream.forward(exchange)
    parsed = reply.json() if reply.status == 200 else None
    auth = parsed.get("auth") if isinstance(parsed, dict) else None
    if isinstance(auth, dict) and auth.get("token_type") == BATCH and auth.get("orphan") is False:
        _note_parent(sidecar, exchange, str(auth.get("client_token")), int(auth.get("lease_duration") or 0))
    return reply


def revoke(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """POST `auth/token/revoke`: the token in the body, with its children."""
    return _revoke_named(sidecar, exchange, children=True)


def revoke_orphan(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """POST `auth/token/revoke-orphan`: the same; its children become orphans and keep their leases."""
    return _revoke_named(sidecar, exchange, children=False)


def revoke_self(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """POST `auth/token/revoke-self`."""
    return _revoked(sidecar, exchange, _accessor(sidecar, exchange.token))


def revoke_accessor(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """POST `auth/token/revoke-accessor`."""
    accessor = (fields_or_none(exchange) or {}).get("accessor")
    return _revoked(sidecar, exchange, accessor if isinstance(accessor, str) else "")


def revoke_lease(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """PUT/POST `sys/leases/revoke[/<id>]`, where the lease is a token's."""
    named = (fields_or_none(exchange) or {}).get("lease_id") or ""
    if f"/revoke/{_TOKENS}" not in exchange.path and not str(named).startswith(_TOKENS):
        return None
    return _ask_all(sidecar, sidecar.upstream.forward(exchange))


def forward(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """What ends all tokens of an auth method, or of a part of it."""
    return _ask_all(sidecar, sidecar.upstream.forward(exchange))


# -- inner ------------------------------------------------------------------------------------------------------


def _note_parent(sidecar: Sidecar, exchange: Exchange, token: str, ttl: int) -> None:
    """Where it cannot be noted the leases of the batch token end with the token itself."""
    accessor = _accessor(sidecar, exchange.token)
    now = sidecar.clock.now()
    if not accessor:
        return
    try:
        sidecar.store.put_batch_parent(
            sidecar.store.keyed_hash(token), accessor, now + timedelta(seconds=ttl), now
        )
    except StorageError as error:
        log.warning("parent_of_batch_token_not_noted", parent=accessor, error=str(error))


def _revoke_named(sidecar: Sidecar, exchange: Exchange, *, children: bool) -> Reply | None:
    token = (fields_or_none(exchange) or {}).get("token")
    accessor = _accessor(sidecar, token) if isinstance(token, str) else ""
    return _revoked(sidecar, exchange, accessor, children=children)


def _accessor(sidecar: Sidecar, token: str) -> str | None:
    """ "" for a dead token and a batch token; None where the upstream cannot be asked, which stops no request."""
    try:
        caller = sidecar.identity.lookup(token) if token else None
    except EngineError as error:
        log.warning("token_not_looked_up", error=str(error))
        return None
    return caller.accessor if caller is not None else ""


def _revoked(
    sidecar: Sidecar, exchange: Exchange, accessor: str | None, *, children: bool = True
) -> Reply | None:
    if accessor == "":
        return None
    reply = sidecar.upstream.forward(exchange)
    if accessor is None:
        return _ask_all(sidecar, reply)
    if reply.status in _DONE:
        try:
            sidecar.leases.revoke_of_tokens([accessor])
        except (EngineError, StorageError) as error:
            # The token is dead all the same, and the sweep comes upon its leases.
            log.error("leases_of_revoked_token_not_ended", accessor=accessor, error=str(error))
        if children:
            sidecar.token_sweep.ask(orphans=False)
    return reply


def _ask_all(sidecar: Sidecar, reply: Reply) -> Reply:
    if reply.status in _DONE:
        sidecar.token_sweep.ask(orphans=True)
    return reply
