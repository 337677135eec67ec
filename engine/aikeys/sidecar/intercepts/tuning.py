"""Tuning a mount of ours: the upstream keeps and checks the values, and we take over what it made of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import structlog

from aikeys.errors import StorageError
from aikeys.framework.fields import FieldError, FieldType, convert
from aikeys.framework.response import EngineError
from aikeys.sidecar import envelope
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.intercepts.answers import engine_of, fields_or_none
from aikeys.sidecar.intercepts.enabling import asks_unserved, unserved
from aikeys.sidecar.intercepts.entries import SHADOW_TYPE
from aikeys.sidecar.intercepts.upstream_mounts import differences, read_lifetimes, read_mount
from aikeys.storage.failpoints import reach

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

log = structlog.get_logger(__name__)


def tune(sidecar: Sidecar, exchange: Exchange, path: str) -> Reply | None:
    """POST `sys/mounts/<path>/tune`; the servers take the mount that holds `path`, however deep it lies."""
    found = sidecar.mounts.match(path)
    fields = fields_or_none(exchange) if found is not None else None
    if found is None or fields is None:
        return None
    mount = found[0]
    refused = _refusal(sidecar, fields)
    if refused is not None:
        # A tune that changes nothing shows whether the caller would be heard at all.
        heard = sidecar.upstream.forward(exchange, body=b"{}")
        return refused if heard.status == 204 else heard
    reply = sidecar.upstream.forward(exchange)
    reach("tune.tuned")
    if reply.status not in {200, 204}:
        return _in_our_name(reply, engine_of(sidecar).name)
    try:
        entry = read_mount(sidecar, mount.path)
        changes = differences(mount, entry, read_lifetimes(sidecar, mount.path))
        if changes and entry.uuid == mount.uuid:
            sidecar.mounts.update(mount.uuid, **changes)
            reach("tune.recorded")
    except (EngineError, StorageError, KeyError) as error:
        # The upstream has the new values; the next reconciliation brings them here.
        log.warning("tuned_values_not_read", path=mount.path, error=str(error))
    return reply


def names_a_version(options: Any) -> bool:
    """Whether these options hold `version`, which would turn the shadow into another engine."""
    if options is None:
        return False
    try:
        return "version" in convert("options", FieldType.KV_PAIRS, options)
    except FieldError:
        return False


def _refusal(sidecar: Sidecar, fields: Mapping[str, Any]) -> Reply | None:
    name = engine_of(sidecar).name
    if names_a_version(fields.get("options")):
        return envelope.errors(400, [f'secrets engine "{name}" does not allow setting a version'])
    if asks_unserved(fields) and sidecar.upstream.product().is_vault:
        return unserved(name)
    return None


def _in_our_name(reply: Reply, name: str) -> Reply:
    """An error about a plugin version names the engine: ours, not the shadow's."""
    texts = reply.errors
    if reply.status != 400 or not any("plugin" in text for text in texts):
        return reply
    return envelope.errors(400, [re.sub(rf"\b{SHADOW_TYPE}\b", name, text) for text in texts])
