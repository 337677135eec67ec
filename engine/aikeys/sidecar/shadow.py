"""The shadow: a kv version 1 mount at our path upstream, with a marker at every path the engine serves.

A marker is an HMAC under the mount's own key over the mount's uuid and the path, so an entry that somebody else
wrote, or that was copied from another path, proves nothing. Below `roles/` stands one more entry, the sentinel,
which no role can be named like; it shows that a list came from our shadow.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
from collections.abc import Iterable
from typing import Any, Protocol

import structlog

from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Mount
from aikeys.sidecar.exchange import Reply
from aikeys.sidecar.own_identity import OwnIdentity
from aikeys.sidecar.upstream import UpstreamDown

log = structlog.get_logger(__name__)

MARKER_FIELD = "aikeys_marker"
NOTE = "Kept by the aikeys sidecar to learn who may use this path. It holds no secret; do not change it."


class Found(enum.Enum):
    """What stands at a path of the shadow."""

    VALID = "valid"
    MISSING = "missing"
    FOREIGN = "foreign"


class ServedObjects(Protocol):
    """The paths of a mount at which a marker must stand ("config", "roles/x", "creds/x"), without the sentinel."""

    def __call__(self, mount: Mount) -> Iterable[str]: ...


def marker_value(mount: Mount, relative: str) -> str:
    message = f"{mount.uuid}\n{relative}".encode()
    return hmac.new(bytes.fromhex(mount.marker_key), message, hashlib.sha256).hexdigest()


def marker(mount: Mount, relative: str) -> dict[str, str]:
    return {MARKER_FIELD: marker_value(mount, relative), "note": NOTE}


def is_marker(mount: Mount, relative: str, data: Any) -> bool:
    """Whether `data`, as read from the shadow, is the marker of exactly this path."""
    value = data.get(MARKER_FIELD) if isinstance(data, dict) else None
    return isinstance(value, str) and hmac.compare_digest(
        value.encode("utf-8", "replace"), marker_value(mount, relative).encode()
    )


def sentinel_name(mount: Mount) -> str:
    """It sorts behind every role name and begins with a character that none may hold."""
    return "~aikeys-" + marker_value(mount, "sentinel")[:16]


def sentinel_path(mount: Mount) -> str:
    return "roles/" + sentinel_name(mount)


def classify(mount: Mount, relative: str, reply: Reply) -> Found:
    """What an unwrapped read of the shadow found. Raises `UpstreamDown` when it says neither."""
    if reply.status == 200:
        parsed = reply.json()
        data = parsed.get("data") if isinstance(parsed, dict) else None
        return Found.VALID if is_marker(mount, relative, data) else Found.FOREIGN
    if reply.status == 404:
        return Found.MISSING
    raise UpstreamDown(
        f"the sidecar's own read of its shadow entry was answered {reply.status}"
        + (
            f": its policy must grant create, read, update, delete and list on {mount.path}*"
            if reply.status == 403
            else ""
        )
    )


class Shadow:
    """Reads and writes markers with the sidecar's own token. Raises `UpstreamDown` and `NotLoggedIn`."""

    def __init__(self, own: OwnIdentity, served: ServedObjects) -> None:
        self._own = own
        self._served = served

    def knows(self, mount: Mount, relative: str) -> bool:
        """Whether the engine has an object at this path, so that a marker must stand there."""
        return relative in set(self._served(mount))

    def find(self, mount: Mount, relative: str, deadline: Deadline | None = None) -> Found:
        reply = self._own.request("GET", mount.path + relative, namespace=mount.namespace, deadline=deadline)
        return classify(mount, relative, reply)

    def stands(self, mount: Mount) -> bool:
        """Whether the mount at our path upstream is still the shadow, and not somebody else's in its place."""
        reply = self._own.request("GET", "sys/mounts", namespace=mount.namespace)
        parsed = reply.json()
        data = parsed.get("data") if reply.status == 200 and isinstance(parsed, dict) else None
        if not isinstance(data, dict):
            raise UpstreamDown(
                f"the Vault behind this sidecar answered {reply.status} to a read of sys/mounts: "
                "the sidecar's policy must grant it"
            )
        entry = data.get(mount.path)
        return isinstance(entry, dict) and entry.get("uuid") == mount.uuid

    def write(self, mount: Mount, relative: str) -> None:
        self._put(mount, relative, self._own.request(
            "PUT", mount.path + relative, marker(mount, relative), namespace=mount.namespace
        ))  # fmt: skip

    def remove(self, mount: Mount, relative: str) -> None:
        self._put(mount, relative, self._own.request(
            "DELETE", mount.path + relative, namespace=mount.namespace
        ))  # fmt: skip

    def settle(self, mount: Mount, relative: str) -> None:
        """Make the entry agree with the engine: the marker where it has an object, nothing where not."""
        if self.knows(mount, relative):
            self.write(mount, relative)
        else:
            self.remove(mount, relative)

    def write_markers(self, mount: Mount, role: str) -> None:
        """Of one role that has just been made."""
        self.write(mount, f"roles/{role}")
        self.write(mount, f"creds/{role}")

    def remove_markers(self, mount: Mount, role: str) -> None:
        """Of one role that has just been removed."""
        self.remove(mount, f"creds/{role}")
        self.remove(mount, f"roles/{role}")

    def sync(self, mount: Mount) -> int:
        """Put every marker in its place, and take out markers of ours whose object is gone.

        Entries of others stay where they are unless one stands in a marker's place. The number of changes.
        """
        wanted = {sentinel_path(mount), *self._served(mount)}
        changes = 0
        for relative in sorted(wanted):
            if self.find(mount, relative) is not Found.VALID:
                self.write(mount, relative)
                changes += 1
        for folder in ("", "roles/", "creds/"):
            for name in self._names(mount, folder):
                relative = folder + name
                stale = not name.endswith("/") and relative not in wanted
                if stale and self.find(mount, relative) is Found.VALID:
                    changes += self._remove_stale(mount, relative)
        if changes:
            log.info("shadow_synchronised", mount=mount.path, changes=changes)
        return changes

    def _remove_stale(self, mount: Mount, relative: str) -> int:
        """Unless the object was made since somebody looked; its maker may even write the marker before it is removed."""
        if self.knows(mount, relative):
            return 0
        self.remove(mount, relative)
        if self.knows(mount, relative):
            self.write(mount, relative)
        return 1

    def _names(self, mount: Mount, folder: str) -> list[str]:
        reply = self._own.request("LIST", mount.path + folder.rstrip("/"), namespace=mount.namespace)
        parsed = reply.json()
        data = parsed.get("data") if reply.status == 200 and isinstance(parsed, dict) else None
        keys = data.get("keys") if isinstance(data, dict) else None
        return [str(key) for key in keys] if isinstance(keys, list) else []

    def _put(self, mount: Mount, relative: str, reply: Reply) -> None:
        if reply.status not in {200, 204}:
            raise UpstreamDown(
                f"the sidecar could not keep its shadow entry at {mount.path}{relative}: answered {reply.status} "
                f"{'; '.join(reply.errors)[:200]}"
            )
