"""`GET /aikeys/health`: whether this sidecar can do its work now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aikeys.errors import StorageError
from aikeys.framework.deadline import Deadline
from aikeys.framework.response import Unavailable
from aikeys.sidecar import envelope
from aikeys.sidecar.exchange import JSON_HEADERS, Reply

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

# Probes give up after some seconds themselves; the answer must come before.
PROBE_SECONDS = 3.0
OK = "ok"
# An active node, a standby that forwards, a performance standby.
_SERVING = frozenset({200, 429, 473})


def health(sidecar: Sidecar) -> Reply:
    """200 when all is well, else 503. `upstream` and `database` say "ok" or what is wrong."""
    upstream, database = upstream_state(sidecar), database_state(sidecar)
    healthy = upstream == OK and database == OK
    body = {"status": OK if healthy else "unavailable", "upstream": upstream, "database": database}
    return Reply(200 if healthy else 503, envelope.to_json(body), JSON_HEADERS)


def upstream_state(sidecar: Sidecar) -> str:
    try:
        reply = sidecar.upstream.request(
            "GET", "sys/health", token="", deadline=Deadline.after(PROBE_SECONDS)
        )
    except Unavailable as error:
        return str(error)
    if reply.status not in _SERVING:
        known = {501: "not initialised", 503: "sealed", 472: "a disaster recovery secondary"}
        return known.get(reply.status, f"answers its health with {reply.status}")
    try:
        sidecar.own.token()
    except Unavailable as error:
        return str(error)
    return OK


def database_state(sidecar: Sidecar) -> str:
    try:
        sidecar.store.generation()
    except StorageError as error:
        return str(error)
    return OK
