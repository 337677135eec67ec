"""Mount entries as the upstream shows them, with ours said to be what they are. No IO.

Upstream, a mount of ours is a kv mount. In `sys/mounts` and `sys/internal/ui/mounts` only its type and its running
version are changed; all else (accessor, TTLs, options, description) is the upstream's own and true of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aikeys.framework.request import Mount

# The engine that stands at our paths upstream. Without an option `version` it is version 1 on both servers.
SHADOW_TYPE = "kv"
DEPRECATION_STATUS = "supported"


@dataclass(frozen=True, slots=True)
class EngineType:
    """`name` is the mount type ("ai-keys"); `version` is the package's ("0.1.0")."""

    name: str
    version: str

    @property
    def running_version(self) -> str:
        """As built-in engines have it ("v1.21.1+builtin.vault"): semver with build metadata."""
        return f"v{self.version.removeprefix('v')}+builtin.aikeys"


class KnownMounts(Protocol):
    def by_uuid(self, uuid: str) -> Mount: ...

    def by_path(self, path: str, namespace: str = "") -> Mount | None: ...


def is_ours(mounts: KnownMounts, path: str, entry: Mapping[str, Any]) -> bool:
    """Whether this entry, shown at `path`, is the shadow of a mount of ours.

    By uuid; a listing for somebody without a token has none, and then the path decides.
    """
    uuid = entry.get("uuid")
    if isinstance(uuid, str) and uuid:
        try:
            mounts.by_uuid(uuid)
        except KeyError:
            return False
        return True
    return entry.get("type") == SHADOW_TYPE and mounts.by_path(path) is not None


def dressed(entry: Mapping[str, Any], engine: EngineType) -> dict[str, Any]:
    """The entry with our type. Keys that are not there are not added: each listing shows its own set."""
    changed = dict(entry)
    changed["type"] = engine.name
    if "running_plugin_version" in changed:
        changed["running_plugin_version"] = engine.running_version
    return changed


def dress_table(table: Mapping[str, Any], mounts: KnownMounts, engine: EngineType) -> dict[str, Any]:
    """A map of `path/` to entry, in its order; what is no entry of ours stays."""
    return {
        path: dressed(entry, engine) if isinstance(entry, dict) and is_ours(mounts, path, entry) else entry
        for path, entry in table.items()
    }


def dress_listing(body: Mapping[str, Any], mounts: KnownMounts, engine: EngineType) -> dict[str, Any]:
    """`GET sys/mounts`: the table stands at the top level and once more under `data`."""
    return _dressed_twice(body, lambda table: dress_table(table, mounts, engine))


def dress_single(body: Mapping[str, Any], mounts: KnownMounts, engine: EngineType) -> dict[str, Any]:
    """`GET sys/mounts/<path>`: one entry, at the top level and once more under `data`.

    Which mount it is says its uuid: the servers answer for every path below a mount.
    """
    return _dressed_twice(
        body,
        lambda entry: dressed(entry, engine) if "uuid" in entry and is_ours(mounts, "", entry) else entry,
    )


def dress_ui_listing(body: Mapping[str, Any], mounts: KnownMounts, engine: EngineType) -> dict[str, Any]:
    """`GET sys/internal/ui/mounts`: under `data`, by class."""
    data = body.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("secret"), dict):
        return dict(body)
    return {**body, "data": {**data, "secret": dress_table(data["secret"], mounts, engine)}}


def dress_ui_single(body: Mapping[str, Any], mounts: KnownMounts, engine: EngineType) -> dict[str, Any]:
    """`GET sys/internal/ui/mounts/<path>`: the entry that holds the path, under `data`, with its `path`."""
    data = body.get("data")
    if not isinstance(data, dict) or not is_ours(mounts, str(data.get("path", "")), data):
        return dict(body)
    return {**body, "data": dressed(data, engine)}


def _dressed_twice(
    body: Mapping[str, Any], change: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> dict[str, Any]:
    changed = dict(change(body))
    data = body.get("data")
    if isinstance(data, dict):
        changed["data"] = change(data)
    return changed
