"""What happened to our mounts past the sidecar: directly at the upstream, or while a process was down.

A mount that is gone upstream is never forgotten here by itself: the sidecar may be looking at the wrong server, and
the mount's entries are what its leases are revoked with. It keeps its record, loses its accessor, and proves nothing, so
that nothing is served; when its uuid shows up again, all is as before. Where another mount has taken its path meanwhile,
the record is set aside, out of the way of every request. Only one that somebody was disabling (tainted) is forgotten,
once it holds nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import structlog

from aikeys.errors import StorageError
from aikeys.framework.request import Mount
from aikeys.framework.response import EngineError, Unavailable
from aikeys.sidecar.intercepts.adopting import (
    FORSAKEN,
    GONE,
    SET_ASIDE,
    complete,
    give_up_moves,
    note_forsaken,
    set_aside,
)
from aikeys.sidecar.intercepts.lease_requests import touches
from aikeys.sidecar.intercepts.upstream_mounts import UpstreamMount, differences, read_lifetimes, read_table
from aikeys.storage.failpoints import reach

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

log = structlog.get_logger(__name__)

# Seconds between two full comparisons of a mount's markers with its roles.
MARKERS_EVERY = 600.0


class ShadowForsaken(Unavailable):
    """What stands there is a shadow, and its engine is not on record here."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"the mount at {path} is the shadow of an engine that is not on record here: {FORSAKEN}"
        )


class MountAwaited(Unavailable):
    """What became of a mount that was asked for is not known yet."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"a mount of ours was asked for at or above {path}, and the Vault's answer is not known yet; nothing was "
            "done, try again, or enable it again"
        )


class Reconciler:
    """Compares the mounts of ours with the upstream's table, each time `run` is called. One for each process."""

    def __init__(self, sidecar: Sidecar) -> None:
        self._sidecar = sidecar
        self._next_sync: dict[str, float] = {}

    def run(self) -> None:
        """Raises `UpstreamDown` and `NotLoggedIn` when the table cannot be read: nothing is changed then."""
        sidecar = self._sidecar
        table = read_table(sidecar)
        complete(sidecar, table)
        note_forsaken(sidecar, table)
        for mount in sidecar.mounts.all():
            try:
                present = _reconcile(sidecar, mount, table)
                if present is not None:
                    self._keep_markers(present)
            except KeyError:
                # Disabled by a request meanwhile.
                continue
            except (EngineError, StorageError) as error:
                log.error("mount_not_reconciled", path=mount.path, uuid=mount.uuid, error=str(error))

    def _keep_markers(self, mount: Mount) -> None:
        """Not each time: it reads every entry of the shadow. One that goes missing between is noticed when it is asked for."""
        now = self._sidecar.clock.monotonic()
        if now >= self._next_sync.get(mount.uuid, now):
            self._sidecar.shadow.sync(mount)
            self._next_sync[mount.uuid] = now + MARKERS_EVERY


def reconcile_mounts(sidecar: Sidecar) -> None:
    """Once, with every marker put in its place."""
    Reconciler(sidecar).run()


def _reconcile(sidecar: Sidecar, mount: Mount, table: Mapping[str, UpstreamMount]) -> Mount | None:
    """The mount as it is now, None when it has no shadow that could serve."""
    entry = table.get(mount.uuid)
    if entry is None:
        _missing(sidecar, mount, table)
        return None
    if mount.path.startswith(SET_ASIDE):
        mount = sidecar.mounts.move(mount.uuid, entry.path)
    elif mount.path != entry.path:
        mount = moved(sidecar, mount, entry.path)
    if not mount.accessor:
        log.warning("mount_came_back", path=mount.path, uuid=mount.uuid)
    changes = differences(mount, entry, read_lifetimes(sidecar, entry.path))
    if changes:
        mount = sidecar.mounts.update(mount.uuid, **changes)
        log.info("mount_changed_upstream", path=mount.path, changed=sorted(changes))
    if not entry.serves_as_shadow:
        log.error(
            "shadow_is_no_kv_version_1",
            path=mount.path,
            note="somebody upgraded it upstream: nothing can be authorised there; disable the mount and enable it again",
        )
        return None
    return None if mount.tainted else mount


def settle_below(sidecar: Sidecar, path: str) -> None:
    """Before a request to `path`, which is `MountTable.doubtful`, goes past the engine.

    It may be meant for a mount of ours, and what a shadow is sent it keeps, a management key too. So the mount comes on
    record now, if it is awaited and there, and one that has moved is followed; or it is somebody else's, and the request
    passes; or nobody knows yet, or it is a shadow whose engine is nowhere: then nothing passes. Raises `MountAwaited`,
    `ShadowForsaken`, `UpstreamDown`, `NotLoggedIn`, `StorageError`.
    """
    table = read_table(sidecar)
    for mount in complete(sidecar, table):
        sidecar.shadow.sync(mount)
    for mount in sidecar.mounts.all():
        entry = table.get(mount.uuid)
        if entry is not None and entry.path != mount.path and not mount.path.startswith(SET_ASIDE):
            moved(sidecar, mount, entry.path)
    note_forsaken(sidecar, table)
    if sidecar.mounts.match(path) is not None:
        return
    above = [entry.path for entry in table.values() if (path + "/").startswith(entry.path)]
    if sidecar.mounts.forsaken.intersection(above):
        raise ShadowForsaken(above[0])
    if not above and sidecar.mounts.doubtful(path):
        raise MountAwaited(path)


def follow(sidecar: Sidecar, mount: Mount) -> bool:
    """Whether the mount stands at another path upstream by now; then it does here too."""
    entry = read_table(sidecar).get(mount.uuid)
    if entry is None or entry.path == mount.path:
        return False
    moved(sidecar, mount, entry.path)
    return True


def moved(sidecar: Sidecar, mount: Mount, path: str) -> Mount:
    """The mount stands elsewhere upstream: follow it, and end the leases under its old path, as Vault does.

    Markers stay valid: they are bound to the mount's uuid and to paths below it.
    """
    # Before the record moves: after a crash in between it is still seen that the mount has moved.
    sidecar.leases.revoke_prefix(mount.path, sync=False)
    reach("remount.leases_ended")
    now_at = sidecar.mounts.move(mount.uuid, path)
    reach("remount.followed")
    give_up_moves(sidecar, mount)
    # And those of requests that the upstream had let through before it moved the mount.
    sidecar.leases.revoke_prefix(mount.path, sync=False)
    log.info("mount_moved", source=mount.path, target=path, uuid=mount.uuid)
    return now_at


def _missing(sidecar: Sidecar, mount: Mount, table: Mapping[str, UpstreamMount]) -> None:
    if mount.tainted:
        sidecar.leases.revoke_prefix(mount.path, sync=False)
        try:
            sidecar.mounts.remove(mount.uuid)
        except StorageError as error:
            # It still holds leases or mints under way.
            log.info("mount_not_forgotten_yet", path=mount.path, uuid=mount.uuid, reason=str(error))
            return
        reach("disable.forgotten")
        log.info("mount_forgotten", path=mount.path, uuid=mount.uuid)
    elif any(touches(other.path, mount.path) for other in table.values()):
        set_aside(sidecar, mount)
    elif mount.accessor:
        sidecar.mounts.update(mount.uuid, accessor="")
        log.error("mount_gone_upstream", path=mount.path, uuid=mount.uuid, note=GONE)
