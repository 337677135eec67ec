"""The upstream's own paths on which our mounts and leases must show: who handles which."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aikeys.sidecar.intercepts import (
    leases,
    mounts,
    openapi,
    plugins_catalog,
    remount,
    tokens,
    ui_mounts,
    wrapping,
)
from aikeys.sidecar.intercepts.reconciling import Reconciler, reconcile_mounts

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar
    from aikeys.sidecar.exchange import Exchange, Reply

    Handler = Callable[[Sidecar, Exchange], Reply | None]

__all__ = ["INTERCEPTS", "Intercept", "Reconciler", "reconcile_mounts"]

READ = frozenset({"GET"})
LIST = frozenset({"GET", "LIST"})
WRITE = frozenset({"POST", "PUT"})
DELETE = frozenset({"DELETE"})


@dataclass(frozen=True, slots=True)
class Intercept:
    """`pattern` must match the whole canonical path without "/v1/"; `methods` None means every verb.

    The handler answers None when the request is not ours after all: the next fitting intercept is asked, and
    after the last it passes to the upstream unchanged. It raises `EngineError`, whose answer is the caller's.
    """

    name: str
    pattern: re.Pattern[str]
    methods: frozenset[str] | None
    handler: Handler


def _on(name: str, pattern: str, methods: frozenset[str], handler: Handler) -> Intercept:
    def unless_help(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
        # A non-empty `help` turns every verb into a question that changes nothing (Vault: buildLogicalRequest).
        return None if exchange.parameter("help") else handler(sidecar, exchange)

    return Intercept(name, re.compile(pattern, re.DOTALL), methods, unless_help)


INTERCEPTS: list[Intercept] = [
    _on("mounts", r"sys/mounts", READ, mounts.read_table),
    _on("mount", r"sys/mounts/.+", READ, mounts.read_entry),
    _on("mount-write", r"sys/mounts/.+", WRITE, mounts.write),
    _on("mount-delete", r"sys/mounts/.+", DELETE, mounts.delete),
    _on("remount", r"sys/remount", WRITE, remount.move),
    _on("remount-status", r"sys/remount/status/[^/]+", READ, remount.read_status),
    _on("ui-mounts", r"sys/internal/ui/mounts/?", READ, ui_mounts.read_table),
    _on("ui-mount", r"sys/internal/ui/mounts/.+", READ, ui_mounts.read_entry),
    _on("catalog", r"sys/plugins/catalog/?", READ, plugins_catalog.read_all),
    _on("catalog-secret", r"sys/plugins/catalog/secret/?", LIST, plugins_catalog.list_secret),
    _on("catalog-plugin", r"sys/plugins/catalog/secret/[^/]+", READ, plugins_catalog.read_one),
    _on("openapi", r"sys/internal/specs/openapi", READ | WRITE, openapi.read),
    # The forms without "leases/" are HashiCorp Vault's only: elsewhere the upstream's 404 is no proof.
    _on("lease-lookup", r"sys/leases/lookup", WRITE, leases.lookup),
    _on("lease-list", r"sys/leases/lookup(/.*)?", LIST, leases.list_leases),
    _on("lease-renew", r"sys/(leases/)?renew(/.+)?", WRITE, leases.renew),
    _on("lease-revoke", r"sys/(leases/)?revoke(/.+)?", WRITE, leases.revoke),
    _on("lease-revoke-prefix", r"sys/(leases/)?revoke-prefix/.+", WRITE, leases.revoke_prefix),
    _on("lease-revoke-force", r"sys/(leases/)?revoke-force/.+", WRITE, leases.revoke_force),
    _on("lease-tidy", r"sys/leases/tidy", WRITE, leases.tidy),
    _on("lease-count", r"sys/leases/count", READ, leases.count),
    _on("leases", r"sys/leases", READ, leases.list_failing),
    # Leases of tokens, which the handlers above let pass.
    _on("token-lease-revoke", r"sys/(leases/)?revoke(/.+)?", WRITE, tokens.revoke_lease),
    _on("token-leases-revoke", r"sys/(leases/)?revoke-(prefix|force)/auth(/.*)?", WRITE, tokens.forward),
    _on("auth-disable", r"sys/auth/.+", DELETE, tokens.forward),
    _on("token-create", r"auth/token/create(/[^/]+)?", WRITE, tokens.create),
    _on("token-revoke", r"auth/token/revoke", WRITE, tokens.revoke),
    _on("token-revoke-orphan", r"auth/token/revoke-orphan", WRITE, tokens.revoke_orphan),
    _on("token-revoke-self", r"auth/token/revoke-self", WRITE, tokens.revoke_self),
    _on("token-revoke-accessor", r"auth/token/revoke-accessor", WRITE, tokens.revoke_accessor),
    _on("unwrap", r"sys/wrapping/unwrap", WRITE, wrapping.unwrap),
    _on("rewrap", r"sys/wrapping/rewrap", WRITE, wrapping.rewrap),
    _on("unwrap-old", r"cubbyhole/response", READ, wrapping.read_response),
]
