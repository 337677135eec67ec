"""Mount entries as the upstream shows them, with ours said to be what they are. No IO.

Upstream, a mount of ours is a kv mount. In `sys/mounts` and `sys/internal/ui/mounts` only its type and its running
version are changed, and the mark of the request that made it is left out of its options; all else (accessor, TTLs,
options, description) is the upstream's own and true of ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from aikeys.framework.request import Mount

# The engine that stands at our paths upstream. Without an option `version` it is version 1 on both servers.
SHADOW_TYPE = "kv"
DEPRECATION_STATUS = "supported"
# An option of every shadow: which request of a sidecar's made it, so that a mount whose answer was lost is known again
# and nobody else's is taken for it. Clients that come through the sidecar do not see it.
MARK_OPTION = "aikeys_request"
# Behind the mark when no options were given: then none read back, which is something else than empty ones.
_NONE_GIVEN = "/none"


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


def marked(options: Mapping[str, Any] | None, mark: str) -> dict[str, Any]:
    """Options to mount with. `options` as they were given, None for none."""
    return {**(options or {}), MARK_OPTION: mark + (_NONE_GIVEN if options is None else "")}


def unmarked(options: Any) -> tuple[Any, str]:
    """Options as they were given, and the mark; "" where there is none."""
    if not isinstance(options, Mapping) or MARK_OPTION not in options:
        return options, ""
    rest = {name: value for name, value in options.items() if name != MARK_OPTION}
    mark = str(options[MARK_OPTION])
    given_none = mark.endswith(_NONE_GIVEN)
    return rest or (None if given_none else {}), mark.removesuffix(_NONE_GIVEN)


def dressed(entry: Mapping[str, Any], engine: EngineType) -> dict[str, Any]:
    """The entry with our type. Keys that are not there are not added: each listing shows its own set."""
    changed = dict(entry)
    changed["type"] = engine.name
    if "options" in changed:
        changed["options"], _ = unmarked(changed["options"])
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


def dress_tuning(body: Mapping[str, Any]) -> dict[str, Any]:
    """`GET sys/mounts/<path>/tune` of a mount of ours. The servers leave `options` out where there are none."""
    return _dressed_twice(body, _without_mark)


def _without_mark(entry: Mapping[str, Any]) -> dict[str, Any]:
    options, _ = unmarked(entry.get("options"))
    rest = {name: value for name, value in entry.items() if name != "options"}
    return {name: options if name == "options" else rest[name] for name in entry if name in rest or options}


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
