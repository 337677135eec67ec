"""The upstream's mount table as the sidecar's own token sees it: what is true of our shadows now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aikeys.framework.request import Mount
from aikeys.sidecar.exchange import Reply
from aikeys.sidecar.intercepts.entries import unmarked
from aikeys.sidecar.upstream import UpstreamDown

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar


@dataclass(frozen=True, slots=True)
class UpstreamMount:
    """One entry. `path` ends with a slash; `options` is None where the upstream has null, and without `mark`, which is
    "" where the mount was not asked for by a sidecar."""

    path: str
    uuid: str
    accessor: str
    type: str
    description: str
    options: dict[str, str] | None
    mark: str = ""

    @property
    def serves_as_shadow(self) -> bool:
        """Version 2 of kv answers otherwise: nothing could be proved there."""
        return self.type == "kv" and (self.options or {}).get("version") != "2"


@dataclass(frozen=True, slots=True)
class Lifetimes:
    """Effective seconds: what the mount was tuned to, else the system's."""

    default_lease_ttl: int
    max_lease_ttl: int


def read_table(sidecar: Sidecar) -> dict[str, UpstreamMount]:
    """By uuid. Raises `UpstreamDown` and `NotLoggedIn`."""
    reply = sidecar.own.request("GET", "sys/mounts")
    found = {}
    for path, entry in _data(reply, "sys/mounts").items():
        if isinstance(entry, dict) and isinstance(entry.get("uuid"), str):
            mount = _mount(path, entry)
            found[mount.uuid] = mount
    return found


def read_mount(sidecar: Sidecar, path: str) -> UpstreamMount:
    """The mount at exactly `path`. Raises `UpstreamDown` when there is none, too."""
    wanted = path.rstrip("/") + "/"
    for mount in read_table(sidecar).values():
        if mount.path == wanted:
            return mount
    raise UpstreamDown(f"the Vault behind this sidecar shows no mount at {wanted}")


def read_lifetimes(sidecar: Sidecar, path: str) -> Lifetimes:
    at = f"sys/mounts/{path.rstrip('/')}/tune"
    data = _data(sidecar.own.request("GET", at), at)
    try:
        return Lifetimes(int(data["default_lease_ttl"]), int(data["max_lease_ttl"]))
    except (KeyError, TypeError, ValueError):
        raise UpstreamDown(f"the Vault behind this sidecar answered {at} without the lease TTLs") from None


def differences(mount: Mount, entry: UpstreamMount, lifetimes: Lifetimes) -> dict[str, Any]:
    """The fields of the mount's record that no longer say what the upstream says, with their new values."""
    now: dict[str, Any] = {
        "accessor": entry.accessor,
        "description": entry.description,
        "options": entry.options,
        "default_lease_ttl": lifetimes.default_lease_ttl,
        "max_lease_ttl": lifetimes.max_lease_ttl,
    }
    return {name: value for name, value in now.items() if getattr(mount, name) != value}


def _mount(path: str, entry: dict[str, Any]) -> UpstreamMount:
    options, mark = unmarked(entry.get("options"))
    return UpstreamMount(
        path=path.rstrip("/") + "/",
        uuid=str(entry.get("uuid") or ""),
        accessor=str(entry.get("accessor") or ""),
        type=str(entry.get("type") or ""),
        description=str(entry.get("description") or ""),
        options={str(k): str(v) for k, v in options.items()} if isinstance(options, dict) else None,
        mark=mark,
    )


def _data(reply: Reply, path: str) -> dict[str, Any]:
    parsed = reply.json()
    data = parsed.get("data") if reply.status == 200 and isinstance(parsed, dict) else None
    if isinstance(data, dict):
        return data
    hint = ": its own policy needs read there" if reply.status == 403 else ""
    raise UpstreamDown(f"the sidecar's own read of {path} got {reply.status}{hint}")
