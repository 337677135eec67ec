"""A mount that the upstream has made for us comes on record, by the request that asked for it or after a crash.

Before the upstream is asked, a mark is on the disk (`Enabling`), and the same mark stands in the options of the mount
that is made. So one whose answer never came, because the process was killed or the connection broke, is found by its
mark and completed. A mount without a mark of ours is somebody else's, whatever else it looks like, and is left alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from aikeys.errors import StorageError
from aikeys.framework.request import Mount
from aikeys.framework.response import EngineError
from aikeys.sidecar.intercepts.upstream_mounts import UpstreamMount, read_lifetimes
from aikeys.sidecar.upstream import UpstreamDown
from aikeys.storage.failpoints import reach
from aikeys.storage.records import Enabling

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

log = structlog.get_logger(__name__)

# No canonical path begins with a slash, so nothing is ever routed to a mount that was set aside.
SET_ASIDE = "//gone/"
FORSAKEN = (
    "another sidecar has made it, or this Vault or the sidecar's own database was put back to an older copy. Nothing is "
    "served there; if no other sidecar does, disable it and enable it again"
)
GONE = "disabled past the sidecar, or this is another server; its leases are still revoked when they end"
# A request that made nothing in this time makes nothing any more (Vault: default_max_request_duration is 90 s); long
# enough for a clock that is set by ten minutes meanwhile.
FORGOTTEN_AFTER = timedelta(hours=1)


def intend(sidecar: Sidecar, path: str) -> str:
    """Put on record that the upstream is about to be asked for a mount; its mark. StorageError when that fails."""
    mark = secrets.token_hex(16)
    sidecar.store.put_enabling(Enabling(mark, path, sidecar.clock.now()))
    reach("enable.intended")
    return mark


def intend_move(sidecar: Sidecar, mount: Mount, target: str) -> str:
    """Put on record that the upstream is about to be asked to move `mount`; its mark. StorageError when that fails.

    Until it is known what became of that, nothing passes to `target` that may be meant for the mount.
    """
    mark = f"{mount.uuid}/{secrets.token_hex(8)}"
    sidecar.store.put_enabling(Enabling(mark, target.strip("/"), sidecar.clock.now()))
    return mark


def give_up_moves(sidecar: Sidecar, mount: Mount) -> None:
    """It is known where the mount stands."""
    for enabling in sidecar.store.enablings():
        if enabling.mark.startswith(f"{mount.uuid}/"):
            give_up(sidecar, enabling.mark)


def give_up(sidecar: Sidecar, mark: str) -> None:
    """The upstream has made or moved nothing, or what it made is gone again."""
    try:
        sidecar.store.delete_enabling(mark)
    except StorageError as error:
        # It is forgotten in time: no mount has its mark.
        log.warning("enabling_left", mark=mark, error=str(error))
    reach("enable.given_up")


def adopt(sidecar: Sidecar, entry: UpstreamMount, mark: str = "") -> Mount:
    """Put the mount on record. Raises `UpstreamDown`, `NotLoggedIn`, `StorageError`; then nothing was changed."""
    if not entry.uuid or not entry.serves_as_shadow:
        raise UpstreamDown(f"the new mount at {entry.path} is not what was asked for")
    lifetimes = read_lifetimes(sidecar, entry.path)
    there = sidecar.mounts.by_path(entry.path)
    if there is not None and there.uuid != entry.uuid:
        set_aside(sidecar, there)
    mount = sidecar.mounts.add(
        path=entry.path,
        uuid=entry.uuid,
        accessor=entry.accessor,
        default_lease_ttl=lifetimes.default_lease_ttl,
        max_lease_ttl=lifetimes.max_lease_ttl,
        description=entry.description,
        options=entry.options,
        mark=mark,
    )
    reach("enable.recorded")
    for earlier in sidecar.store.enablings():
        # The path is taken: what was asked for there before cannot come any more.
        if earlier.path.rstrip("/") + "/" == mount.path:
            give_up(sidecar, earlier.mark)
    return mount


def note_forsaken(sidecar: Sidecar, table: Mapping[str, UpstreamMount]) -> None:
    """Remember which mounts a sidecar has made that are neither on record nor awaited."""
    awaited = {enabling.mark for enabling in sidecar.store.enablings()}
    known = {mount.uuid for mount in sidecar.mounts.all()}
    forsaken = frozenset(
        entry.path
        for entry in table.values()
        if entry.mark and entry.mark not in awaited and entry.uuid not in known
    )
    if new := sorted(forsaken - sidecar.mounts.forsaken):
        log.error("shadow_without_engine", paths=new, note=FORSAKEN)
    sidecar.mounts.forsaken = forsaken


def complete(sidecar: Sidecar, table: Mapping[str, UpstreamMount]) -> list[Mount]:
    """Bring on record what was asked for and never heard of, and forget what never came to be; the new ones."""
    adopted = []
    for enabling in sidecar.store.enablings():
        entry = next((entry for entry in table.values() if entry.mark == enabling.mark), None)
        try:
            if entry is not None:
                mount = adopt(sidecar, entry, enabling.mark)
                adopted.append(mount)
                log.info("mount_enabled_late", path=mount.path, uuid=mount.uuid)
            elif sidecar.clock.now() - enabling.asked_at > FORGOTTEN_AFTER:
                give_up(sidecar, enabling.mark)
        except (EngineError, StorageError) as error:
            log.error("mount_not_adopted_yet", path=enabling.path, error=str(error))
    return adopted


def set_aside(sidecar: Sidecar, mount: Mount) -> None:
    """Its path is another mount's now: no request may be taken for one of ours there."""
    sidecar.mounts.update(mount.uuid, path=f"{SET_ASIDE}{mount.uuid}/", accessor="")
    reach("mount.set_aside")
    log.error("mount_path_taken", path=mount.path, uuid=mount.uuid, note=GONE)
