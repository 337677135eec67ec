"""Which paths of the upstream are mounts of ours, as the store says; shared by every worker."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, replace
from typing import Any

import structlog

from aikeys.framework.request import Mount
from aikeys.leases.forced import told
from aikeys.storage.interface import Store
from aikeys.storage.records import MountRecord

log = structlog.get_logger(__name__)

# The owner mark of a mount at the relay: lower-case base32 (RFC 4648), eight characters.
_BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True, slots=True)
class _Table:
    generation: int
    by_path: dict[tuple[str, str], Mount]
    by_uuid: dict[str, Mount]
    awaited: tuple[str, ...] = ()


def mount_of(record: MountRecord) -> Mount:
    return Mount(
        uuid=record.uuid,
        path=record.path,
        accessor=record.accessor,
        instance=record.instance,
        default_lease_ttl=record.default_lease_ttl,
        max_lease_ttl=record.max_lease_ttl,
        namespace=record.namespace,
        description=record.description,
        options=record.options,
        marker_key=record.marker_key,
        tainted=record.tainted,
    )


class MountTable:
    """Read from memory; read again from the store when its generation changed. Safe for many threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._table: _Table | None = None
        # Paths of the upstream's mounts that a sidecar has made and that are not on record, when last compared.
        self.forsaken: frozenset[str] = frozenset()

    # -- reading ------------------------------------------------------------------------------------------------

    def match(self, path: str, namespace: str = "") -> tuple[Mount, str] | None:
        """The mount that `path` ("ai-keys/creds/demo") lies below, and the rest ("creds/demo").

        The mount's own path without its slash matches too, with the rest "" (Vault: router.go). Case matters.
        """
        table = self._current()
        # No mount of an upstream begins with a slash; one that was set aside does here, and is never served.
        if not table.by_path or path.startswith("/"):
            return None
        end = path.find("/")
        while end != -1:
            mount = table.by_path.get((namespace, path[: end + 1]))
            if mount is not None:
                return mount, path[end + 1 :]
            end = path.find("/", end + 1)
        mount = table.by_path.get((namespace, path + "/"))
        return (mount, "") if mount is not None else None

    def doubtful(self, path: str, namespace: str = "") -> bool:
        """Whether `path` lies at or below one at which a mount of ours is being made, or may be, since nobody has heard;
        or one of a shadow without an engine."""
        places = (*self._current().awaited, *self.forsaken)
        return bool(places) and not namespace and any((path + "/").startswith(place) for place in places)

    def by_uuid(self, uuid: str) -> Mount:
        """KeyError when there is no such mount any more."""
        return self._current().by_uuid[uuid]

    def by_path(self, path: str, namespace: str = "") -> Mount | None:
        """`path` as in `sys/mounts/<path>`: with or without its slash at the end."""
        return self._current().by_path.get((namespace, path.rstrip("/") + "/"))

    def all(self) -> list[Mount]:
        """Sorted by namespace and path."""
        table = self._current()
        return [table.by_path[key] for key in sorted(table.by_path)]

    def refresh(self) -> None:
        """Read the store now."""
        with self._lock:
            self._table = self._read()

    # -- changing -----------------------------------------------------------------------------------------------

    def add(
        self,
        *,
        path: str,
        uuid: str,
        accessor: str,
        default_lease_ttl: int,
        max_lease_ttl: int,
        namespace: str = "",
        description: str = "",
        options: dict[str, str] | None = None,
        mark: str = "",
    ) -> Mount:
        """A new mount. `uuid`, `accessor` and the two effective TTLs (seconds) are those of its shadow upstream.

        With `mark` it completes that enabling; where another process has done so, the mount is the one it made.
        """
        record = MountRecord(
            uuid=uuid,
            path=path.rstrip("/") + "/",
            accessor=accessor,
            instance="".join(secrets.choice(_BASE32) for _ in range(8)),
            default_lease_ttl=default_lease_ttl,
            max_lease_ttl=max_lease_ttl,
            marker_key=secrets.token_hex(32),
            namespace=namespace,
            description=description,
            options=options,
        )
        if not mark:
            self._store.put_mount(record)
        elif not self._store.adopt_mount(mark, record):
            self.refresh()
            return self.by_uuid(uuid)
        self.refresh()
        return mount_of(record)

    def update(self, uuid: str, **changes: Any) -> Mount:
        """Change fields of `MountRecord` by name; KeyError when the mount is gone."""
        record = replace(self._record(uuid), **changes)
        self._store.put_mount(record)
        self.refresh()
        return mount_of(record)

    def move(self, uuid: str, path: str) -> Mount:
        return self.update(uuid, path=path.rstrip("/") + "/")

    def remove(self, uuid: str) -> None:
        """Forget the mount and its entries. StorageError while it has leases or intents.

        Keys whose leases were revoked by force hold nothing up; with the mount goes what could still revoke them.
        """
        forced = self._store.forced_keys(uuid)
        self._store.delete_mount(uuid)
        for key in forced:
            log.warning("a key given up by force is tried no more; it may live until its end", **told(key))
        self.refresh()

    # -- inner --------------------------------------------------------------------------------------------------

    def _record(self, uuid: str) -> MountRecord:
        for record in self._store.mounts():
            if record.uuid == uuid:
                return record
        raise KeyError(uuid)

    def _current(self) -> _Table:
        generation = self._store.generation()
        table = self._table
        if table is None or table.generation != generation:
            with self._lock:
                table = self._table
                if table is None or table.generation != generation:
                    table = self._table = self._read()
        return table

    def _read(self) -> _Table:
        # The generation first: a change between the two reads is then seen at the next look.
        generation = self._store.generation()
        mounts = [mount_of(record) for record in self._store.mounts()]
        return _Table(
            generation,
            {(mount.namespace, mount.path): mount for mount in mounts},
            {mount.uuid: mount for mount in mounts},
            tuple({enabling.path.rstrip("/") + "/" for enabling in self._store.enablings()}),
        )
