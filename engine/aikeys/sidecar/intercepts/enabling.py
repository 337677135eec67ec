"""Enabling a mount of our type: `secrets enable -path=x ai-keys`.

Upstream no engine has our name, so it refuses the caller's own request, but only after it has checked everything
else: the token, the policy with its parameter constraints, the path, TTLs and options. That refusal is the proof.
Then the same request goes there once more with the shadow's type in place of ours, and the mount is adopted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from aikeys.errors import StorageError
from aikeys.framework.fields import FieldError, FieldType, convert
from aikeys.framework.request import Mount
from aikeys.framework.response import EngineError
from aikeys.sidecar import envelope
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.intercepts.answers import as_body, engine_of, fields_or_none
from aikeys.sidecar.intercepts.entries import SHADOW_TYPE
from aikeys.sidecar.intercepts.reconciling import set_aside
from aikeys.sidecar.intercepts.upstream_mounts import read_lifetimes, read_mount
from aikeys.sidecar.upstream import UpstreamDown

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

log = structlog.get_logger(__name__)

# Of HashiCorp Vault. It would let a write to "roles/x/" reach "roles/x", whose marker stands at one of the two only.
UNSERVED_OPTION = "trim_request_trailing_slashes"


def enable(sidecar: Sidecar, exchange: Exchange, path: str) -> Reply | None:
    """None when another engine is asked for. `path` is without its slash."""
    fields = fields_or_none(exchange)
    name = engine_of(sidecar).name
    if fields is None or not asks_for(fields, name):
        return _another_engine(sidecar, exchange, path)
    proof = sidecar.upstream.forward(exchange)
    if proof.status != 400 or proof.errors != [f"plugin not found in the catalog: {name}"]:
        # Refused, or an engine of our name is registered there: then the mount is that engine's.
        return proof
    config = fields.get("config")
    if isinstance(config, dict) and asks_unserved(config) and sidecar.upstream.product().is_vault:
        return unserved(name)
    reply = sidecar.upstream.forward(exchange, body=as_body(as_shadow(fields)))
    if reply.status != 204:
        return reply
    adopted: list[Mount] = []
    try:
        _adopt(sidecar, path, adopted)
    except (EngineError, StorageError) as error:
        log.error("mount_not_adopted", path=path, error=str(error))
        return _undo(sidecar, exchange, path, adopted, error)
    log.info("mount_enabled", path=adopted[0].path, uuid=adopted[0].uuid)
    return reply


def _another_engine(sidecar: Sidecar, exchange: Exchange, path: str) -> Reply | None:
    """The upstream's own business, unless it takes a path at which one of ours is on record and gone."""
    ours = sidecar.mounts.by_path(path)
    if ours is None:
        return None
    reply = sidecar.upstream.forward(exchange)
    if reply.status == 204:
        set_aside(sidecar, ours)
    return reply


def asks_for(fields: Mapping[str, Any], name: str) -> bool:
    """By `type`, or by the older form: type "plugin" and the name beside it (Vault: handleMount)."""
    if fields.get("type") != "plugin":
        return fields.get("type") == name
    config = fields.get("config")
    in_config = config.get("plugin_name") if isinstance(config, dict) else None
    return (in_config or fields.get("plugin_name")) == name


def as_shadow(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The same request for the shadow: nothing but the type differs, so that all else reads back as it was given."""
    changed = dict(fields)
    if fields.get("type") != "plugin":
        changed["type"] = SHADOW_TYPE
        return changed
    config = fields.get("config")
    if isinstance(config, dict) and config.get("plugin_name"):
        changed["config"] = {**config, "plugin_name": SHADOW_TYPE}
    if fields.get("plugin_name"):
        changed["plugin_name"] = SHADOW_TYPE
    return changed


def asks_unserved(settings: Mapping[str, Any]) -> bool:
    value = settings.get(UNSERVED_OPTION)
    try:
        return value is not None and bool(convert(UNSERVED_OPTION, FieldType.BOOL, value))
    except FieldError:
        return False


def unserved(name: str) -> Reply:
    return envelope.errors(400, [f'secrets engine "{name}" does not allow setting {UNSERVED_OPTION}'])


def _adopt(sidecar: Sidecar, path: str, adopted: list[Mount]) -> None:
    """`adopted` holds the mount as soon as it is on record, whatever fails after that."""
    entry = read_mount(sidecar, path)
    if not entry.uuid or not entry.serves_as_shadow:
        raise UpstreamDown(f"the new mount at {path}/ is not what was asked for")
    lifetimes = read_lifetimes(sidecar, path)
    gone = sidecar.mounts.by_path(path)
    if gone is not None:
        set_aside(sidecar, gone)
    mount = sidecar.mounts.add(
        path=entry.path,
        uuid=entry.uuid,
        accessor=entry.accessor,
        default_lease_ttl=lifetimes.default_lease_ttl,
        max_lease_ttl=lifetimes.max_lease_ttl,
        description=entry.description,
        options=entry.options,
    )
    adopted.append(mount)
    sidecar.shadow.sync(mount)


def _undo(sidecar: Sidecar, exchange: Exchange, path: str, adopted: list[Mount], error: Exception) -> Reply:
    """The new mount goes again: by the caller, who has just made it, else by the sidecar's own token."""
    gone = _unmounted(sidecar, exchange, path)
    if gone:
        for mount in adopted:
            try:
                sidecar.mounts.remove(mount.uuid)
            except StorageError as failure:
                log.error("mount_record_left", path=mount.path, uuid=mount.uuid, error=str(failure))
        return envelope.errors(
            503, [f"the mount could not be set up ({error}); nothing was mounted, try again"]
        )
    if adopted:
        # On record: the markers are put in their places with the next reconciliation.
        return envelope.errors(
            503, [f"the mount at {path}/ is not ready yet ({error}); it will be when that is over"]
        )
    text = (
        f"the mount could not be set up ({error}) nor taken back: a kv mount without function stands at {path}/; "
        "disable it and try again"
    )
    return envelope.errors(500, [text])


def _unmounted(sidecar: Sidecar, exchange: Exchange, path: str) -> bool:
    at = f"sys/mounts/{path}"
    try:
        by_caller = sidecar.upstream.forward(
            exchange, method="DELETE", path=at, body=b"", query_string="", drop_headers=("content-type",)
        )
        if by_caller.status == 204:
            return True
        return sidecar.own.request("DELETE", at).status == 204
    except EngineError as error:
        log.error("mount_not_taken_back", path=path, error=str(error))
        return False
