"""`sys/mounts`: our mounts in the upstream's table, and the writes that are about one of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.intercepts import entries
from aikeys.sidecar.intercepts.answers import changed, engine_of
from aikeys.sidecar.intercepts.disabling import disable
from aikeys.sidecar.intercepts.enabling import enable
from aikeys.sidecar.intercepts.tuning import tune

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

PREFIX = "sys/mounts/"
TUNE = "/tune"


def read_table(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """GET `sys/mounts`."""
    reply = sidecar.upstream.forward(exchange)
    return changed(reply, lambda body: entries.dress_listing(body, sidecar.mounts, engine_of(sidecar)))


def read_entry(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """GET `sys/mounts/<path>`. What `…/tune` answers is true of ours, but for the mark in the options."""
    named = _named(exchange)
    if named.endswith(TUNE):
        if sidecar.mounts.match(named.removesuffix(TUNE)) is None:
            return None
        return changed(sidecar.upstream.forward(exchange), entries.dress_tuning)
    reply = sidecar.upstream.forward(exchange)
    return changed(reply, lambda body: entries.dress_single(body, sidecar.mounts, engine_of(sidecar)))


def write(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """POST `sys/mounts/<path>` enables, `…/tune` tunes; a path ending in a slash is the upstream's to refuse."""
    named = _named(exchange)
    if named.endswith("/"):
        return None
    if named.endswith(TUNE):
        return tune(sidecar, exchange, named.removesuffix(TUNE))
    return enable(sidecar, exchange, named)


def delete(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """DELETE `sys/mounts/<path>`; a path below a mount is none (both servers: 204 without effect)."""
    mount = sidecar.mounts.by_path(_named(exchange))
    return None if mount is None else disable(sidecar, exchange, mount)


def _named(exchange: Exchange) -> str:
    return exchange.path.removeprefix(PREFIX)
