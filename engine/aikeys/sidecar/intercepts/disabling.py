"""Disabling a mount of ours: its leases end first, and if one cannot, the mount stays, tainted.

The order is Vault's (unmount, mount.go): taint, settle what is unfinished, revoke every lease synchronously, unmount.
The first failure ends it with 400; a tainted mount is listed and not served, and the request can be repeated.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from aikeys.errors import StorageError
from aikeys.framework.request import Mount
from aikeys.framework.response import EngineError
from aikeys.sidecar import envelope
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.intercepts import authority
from aikeys.sidecar.intercepts.answers import refused
from aikeys.storage.failpoints import reach

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

log = structlog.get_logger(__name__)

# How long one request waits for mints that were under way when the mount was tainted, in seconds.
SETTLE_SECONDS = 10.0
_LOOK_EVERY = 0.1


def disable(sidecar: Sidecar, exchange: Exchange, mount: Mount) -> Reply:
    """DELETE `sys/mounts/<path>` of `mount`."""
    forbidden = authority.refusal(sidecar, exchange, exchange.path, "delete")
    if forbidden is not None:
        return forbidden
    was_tainted = mount.tainted
    try:
        sidecar.mounts.update(mount.uuid, tainted=True)
    except KeyError:
        # Another request has disabled it meanwhile: that is what this one asked for.
        return envelope.no_content()
    reach("disable.tainted")
    problem = empty(sidecar, mount)
    if problem is not None:
        return problem
    reach("disable.emptied")
    reply = sidecar.upstream.forward(exchange)
    reach("disable.unmounted")
    if reply.status != 204:
        # The upstream had the last word, and it was no: the mount goes on, without its old leases.
        if not was_tainted:
            sidecar.mounts.update(mount.uuid, tainted=False)
            reach("disable.refused")
        return reply
    try:
        sidecar.mounts.remove(mount.uuid)
    except StorageError as error:
        # A lease came in at the last moment: the reconciliation ends it and then forgets the mount.
        log.error("mount_record_left", path=mount.path, uuid=mount.uuid, error=str(error))
    reach("disable.forgotten")
    log.info("mount_disabled", path=mount.path, uuid=mount.uuid)
    return reply


def empty(sidecar: Sidecar, mount: Mount) -> Reply | None:
    """Revoke all leases of a tainted mount and wait for its mints; None when nothing is left."""
    end = time.monotonic() + SETTLE_SECONDS
    while True:
        try:
            sidecar.leases.revoke_prefix(mount.path, sync=True)
        except EngineError as error:
            return refused(error)
        unfinished = len(sidecar.store.intents(mount.uuid))
        if not unfinished and not sidecar.leases.count(mount.uuid):
            return None
        if time.monotonic() >= end:
            return envelope.errors(400, [_unfinished(sidecar, mount, unfinished)])
        time.sleep(_LOOK_EVERY)


def _unfinished(sidecar: Sidecar, mount: Mount, intents: int) -> str:
    if intents:
        return (
            f"failed to unmount {mount.path}: what became of {intents} key(s) under way at the relay is not known yet; "
            "the sidecar keeps looking, try again in a minute"
        )
    # Only leases from before a move are left: those below the present path have just been revoked.
    failing = sidecar.leases.failing(mount.uuid, limit=1)
    which = f': "{failing[0].id}": {failing[0].revoke_error}' if failing else ""
    return (
        f"failed to unmount {mount.path}: leases from before it was moved are still being revoked{which}; try again "
        "when they are, or end them with sys/leases/revoke-force"
    )
