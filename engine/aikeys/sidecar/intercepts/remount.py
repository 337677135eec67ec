"""`sys/remount`: moving a mount of ours.

The upstream moves the shadow on the caller's own request, and its uuid stays. We follow the uuid, and the leases under
the old path end. Vault revokes them before it moves and gives up when one cannot be revoked; here the move goes
through, and the revocations go on until they are done. Either way "success" means that no lease is left.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import structlog

from aikeys.errors import StorageError
from aikeys.framework.request import Mount, Operation
from aikeys.framework.response import EngineError
from aikeys.sidecar import envelope
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.intercepts.adopting import give_up, give_up_moves, intend_move
from aikeys.sidecar.intercepts.answers import fields_or_none
from aikeys.sidecar.intercepts.authority import capabilities, grants
from aikeys.sidecar.intercepts.reconciling import follow
from aikeys.sidecar.upstream import UpstreamDown
from aikeys.storage.failpoints import reach

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

log = structlog.get_logger(__name__)

# The upstream answers before it has moved anything; an empty mount takes it some 20 ms. Seconds.
FOLLOW_SECONDS = 3.0
_LOOK_EVERY = 0.05


def move(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """POST `sys/remount {from, to}`."""
    fields = fields_or_none(exchange) or {}
    source = fields.get("from")
    mount = sidecar.mounts.by_path(source.strip("/")) if isinstance(source, str) else None
    if mount is None:
        return None
    target = fields.get("to")
    mark = ""
    if isinstance(target, str) and _may_move(sidecar, exchange):
        mark = intend_move(sidecar, mount, target)
    reply = sidecar.upstream.forward(exchange)
    reach("remount.asked")
    if reply.status == 200:
        _follow(sidecar, mount)
    elif mark and reply.status < 500:
        give_up(sidecar, mark)
    return reply


def _may_move(sidecar: Sidecar, exchange: Exchange) -> bool:
    """Whether the upstream may let the caller: nobody else makes us write to the disk."""
    try:
        return bool(exchange.token) and grants(
            capabilities(sidecar, exchange.token, exchange.path), Operation.UPDATE
        )
    except UpstreamDown:
        # It may be there again in a moment, for the move itself.
        return True


def read_status(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """GET `sys/remount/status/<id>`: whoever is told that the move is done finds it done here too."""
    reply = sidecar.upstream.forward(exchange)
    parsed = reply.json() if reply.status == 200 else None
    data = parsed.get("data") if isinstance(parsed, dict) else None
    info = data.get("migration_info") if isinstance(data, dict) else None
    if isinstance(info, dict) and info.get("status") == "success":
        source = sidecar.mounts.by_path(str(info.get("source_mount", "")))
        if source is not None:
            _follow(sidecar, source)
        if _leases_are_left(sidecar, info):
            info["status"] = "in-progress"
            return Reply(200, envelope.to_json(parsed), reply.headers)
    if isinstance(info, dict) and info.get("status") == "failure":
        source = sidecar.mounts.by_path(str(info.get("source_mount", "")))
        if source is not None:
            give_up_moves(sidecar, source)
    return reply


def _leases_are_left(sidecar: Sidecar, info: dict[str, Any]) -> bool:
    """Whether a lease of the moved mount is still to be revoked under its old path."""
    old, new = (str(info.get(name, "")).strip("/") + "/" for name in ("source_mount", "target_mount"))
    moved = sidecar.mounts.by_path(new)
    if moved is None:
        return False
    # Another mount of ours may stand at the old path by now: its leases are its own.
    return any(lease.mount_uuid == moved.uuid for lease in sidecar.store.leases_with_prefix(old))


def _follow(sidecar: Sidecar, mount: Mount) -> None:
    """Wait a little for the upstream to be done; what takes longer is followed when its status is asked for."""
    end = time.monotonic() + FOLLOW_SECONDS
    try:
        while not follow(sidecar, mount) and time.monotonic() < end:
            time.sleep(_LOOK_EVERY)
    except (EngineError, StorageError, KeyError) as error:
        log.warning("move_not_followed_yet", path=mount.path, error=str(error))
