"""`sys/internal/ui/mounts`: what the web UI and the preflight of `kv` commands and templates ask.

With our type in place of the shadow's nobody takes our paths for those of a kv engine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.intercepts import entries
from aikeys.sidecar.intercepts.answers import changed, engine_of

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar


def read_table(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """GET `sys/internal/ui/mounts`."""
    reply = sidecar.upstream.forward(exchange)
    return changed(reply, lambda body: entries.dress_ui_listing(body, sidecar.mounts, engine_of(sidecar)))


def read_entry(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """GET `sys/internal/ui/mounts/<path>`: the mount that holds the path, at any depth."""
    reply = sidecar.upstream.forward(exchange)
    return changed(reply, lambda body: entries.dress_ui_single(body, sidecar.mounts, engine_of(sidecar)))
