"""Enabling a mount of our type: `secrets enable -path=x ai-keys`.

Upstream no engine has our name, so it refuses the caller's own request, but only after it has checked everything
else: the token, the policy with its parameter constraints, the path, TTLs and options. That refusal is the proof.
Then the same request goes there once more with the shadow's type in place of ours and a mark in its options, and the
mount is adopted (`adopting`).
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
from aikeys.sidecar.intercepts.adopting import adopt, give_up, intend, set_aside
from aikeys.sidecar.intercepts.answers import as_body, engine_of, fields_or_none
from aikeys.sidecar.intercepts.entries import SHADOW_TYPE, marked
from aikeys.sidecar.intercepts.upstream_mounts import read_mount
from aikeys.storage.failpoints import reach

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
    if not path.isprintable():
        # Bytes that are no UTF-8: the servers take them, and then show a path that leads nowhere.
        return envelope.errors(400, ["path cannot contain non-printable characters"])
    config = fields.get("config")
    if isinstance(config, dict) and asks_unserved(config) and sidecar.upstream.product().is_vault:
        return unserved(name)
    reply, mark = _ask(sidecar, exchange, path, as_shadow(fields))
    reach("enable.mounted")
    if reply.status != 204:
        # After a failure of the server's nobody knows: the mount may still come, and then it has the mark.
        if mark and reply.status < 500:
            give_up(sidecar, mark)
        return reply
    mount: Mount | None = None
    try:
        mount = adopt(sidecar, read_mount(sidecar, path), mark)
        sidecar.shadow.sync(mount)
    except (EngineError, StorageError) as error:
        log.error("mount_not_adopted", path=path, error=str(error))
        return _undo(sidecar, exchange, path, error, mark=mark, mount=mount)
    reach("enable.ready")
    log.info("mount_enabled", path=mount.path, uuid=mount.uuid)
    return reply


def _ask(sidecar: Sidecar, exchange: Exchange, path: str, shadow: Mapping[str, Any]) -> tuple[Reply, str]:
    """The upstream's answer to the request for the shadow, and the mark that the mount has, "" for none.

    Where no answer comes (`UpstreamDown`) it is on record which mount to look for.
    """
    mark = intend(sidecar, path)
    reply = sidecar.upstream.forward(exchange, body=as_body(with_mark(shadow, mark)))
    if reply.status != 403:
        return reply, mark
    # A policy that lists the parameters of such a request need not have the options among them.
    give_up(sidecar, mark)
    return sidecar.upstream.forward(exchange, body=as_body(shadow)), ""


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


def with_mark(shadow: Mapping[str, Any], mark: str) -> dict[str, Any]:
    """The request for the shadow with `mark` among its options. They are valid: the upstream has checked them."""
    # Both servers store none for a null, and empty ones where the field is missing.
    given = shadow.get("options", {})
    options = None if given is None else convert("options", FieldType.KV_PAIRS, given)
    return {**shadow, "options": marked(options, mark)}


def asks_unserved(settings: Mapping[str, Any]) -> bool:
    value = settings.get(UNSERVED_OPTION)
    try:
        return value is not None and bool(convert(UNSERVED_OPTION, FieldType.BOOL, value))
    except FieldError:
        return False


def unserved(name: str) -> Reply:
    return envelope.errors(400, [f'secrets engine "{name}" does not allow setting {UNSERVED_OPTION}'])


def _undo(
    sidecar: Sidecar, exchange: Exchange, path: str, error: Exception, *, mark: str, mount: Mount | None
) -> Reply:
    """The new mount goes again: by the caller, who has just made it, else by the sidecar's own token.

    `mount` when it is on record already; `mark` when it would come on record by itself.
    """
    try:
        gone = _taken_back(sidecar, exchange, path, mount)
    except StorageError as failure:
        log.error("mount_record_left", path=path, error=str(failure))
        gone = False
    if gone:
        if mark and mount is None:
            give_up(sidecar, mark)
        return envelope.errors(
            503, [f"the mount could not be set up ({error}); nothing was mounted, try again"]
        )
    if mark or mount is not None:
        # The next reconciliation completes it and puts its markers in their places.
        return envelope.errors(
            503, [f"the mount at {path}/ is not ready yet ({error}); it will be when that is over"]
        )
    text = (
        f"the mount could not be set up ({error}) nor taken back: a kv mount without function stands at {path}/; "
        "disable it and try again"
    )
    return envelope.errors(500, [text])


def _taken_back(sidecar: Sidecar, exchange: Exchange, path: str, mount: Mount | None) -> bool:
    if mount is None:
        return _unmounted(sidecar, exchange, path)
    # Whatever ends this process now, the record then says what was to happen.
    sidecar.mounts.update(mount.uuid, tainted=True)
    reach("enable.tainted")
    gone = _unmounted(sidecar, exchange, path)
    reach("enable.unmounted")
    if gone:
        sidecar.mounts.remove(mount.uuid)
    else:
        sidecar.mounts.update(mount.uuid, tainted=False)
    return gone


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
