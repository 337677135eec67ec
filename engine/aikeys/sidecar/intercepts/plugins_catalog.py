"""`sys/plugins/catalog`: our engine among the secret engines that can be mounted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from aikeys.sidecar import envelope
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.intercepts.answers import changed, engine_of, is_list, request_id, system_mount_type
from aikeys.sidecar.intercepts.entries import DEPRECATION_STATUS, EngineType
from aikeys.sidecar.intercepts.lease_requests import listed_keys

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar


def read_all(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """GET `sys/plugins/catalog`."""
    reply = sidecar.upstream.forward(exchange)
    return changed(reply, lambda body: with_engine(body, engine_of(sidecar)))


def list_secret(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """LIST `sys/plugins/catalog/secret`."""
    if not is_list(exchange):
        return None
    reply = sidecar.upstream.forward(exchange)
    keys = listed_keys(reply)
    name = engine_of(sidecar).name
    if keys is None or name in keys:
        return reply
    return envelope.success(
        request_id(exchange), data={"keys": sorted([*keys, name])}, mount_type=system_mount_type(sidecar)
    )


def read_one(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """GET `sys/plugins/catalog/secret/<our type>`: the upstream's "not there" shows that the caller may ask."""
    engine = engine_of(sidecar)
    if exchange.path.rpartition("/")[2] != engine.name:
        return None
    reply = sidecar.upstream.forward(exchange)
    version = exchange.parameter("version") or ""
    if reply.status != 404 or reply.json() != {"errors": []}:
        return reply
    if version not in {"", engine.running_version}:
        return reply
    is_vault = sidecar.upstream.product().is_vault
    return envelope.success(
        request_id(exchange), data=plugin(engine, is_vault=is_vault), mount_type=system_mount_type(sidecar)
    )


def with_engine(body: Mapping[str, Any], engine: EngineType) -> dict[str, Any]:
    """The catalog with our type in `secret` and `detailed`, unless one of that name is registered upstream.

    A plugin registered with a version stands in `detailed` only.
    """
    data = body.get("data")
    if not isinstance(data, dict):
        return dict(body)
    names = list(data.get("secret") or [])
    detailed = list(data.get("detailed") or [])
    registered = any(item.get("type") == "secret" and item.get("name") == engine.name for item in detailed)
    if registered or engine.name in names:
        return dict(body)
    mine = {
        "builtin": True,
        "deprecation_status": DEPRECATION_STATUS,
        "name": engine.name,
        "type": "secret",
        "version": engine.running_version,
    }
    detailed.append(mine)
    detailed.sort(key=lambda item: (str(item.get("type")), str(item.get("name"))))
    return {**body, "data": {**data, "secret": sorted([*names, engine.name]), "detailed": detailed}}


def plugin(engine: EngineType, *, is_vault: bool) -> dict[str, Any]:
    """One entry as the servers show a built-in engine."""
    entry: dict[str, Any] = {
        "args": None,
        "builtin": True,
        "command": "",
        "deprecation_status": DEPRECATION_STATUS,
        "name": engine.name,
        "sha256": "",
        "version": engine.running_version,
    }
    return entry if is_vault else {**entry, "declarative": False, "oci": False}
