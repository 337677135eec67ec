"""Which requests to the upstream's own paths are looked at, and which pass unseen."""

from __future__ import annotations

import pytest

from aikeys.sidecar.intercepts import INTERCEPTS

LEASE = "ai-keys/creds/demo/D9D9CCNM368y6Ml8TI2095X5"


def fitting(method: str, path: str) -> list[str]:
    return [
        intercept.name
        for intercept in INTERCEPTS
        if (intercept.methods is None or method in intercept.methods) and intercept.pattern.fullmatch(path)
    ]


@pytest.mark.parametrize(
    ("method", "path", "names"),
    [
        ("GET", "sys/mounts", ["mounts"]),
        ("GET", "sys/mounts/team/ai-keys", ["mount"]),
        ("PUT", "sys/mounts/team/ai-keys", ["mount-write"]),
        ("POST", "sys/mounts/team/ai-keys/tune", ["mount-write"]),
        ("DELETE", "sys/mounts/team/ai-keys/", ["mount-delete"]),
        ("POST", "sys/remount", ["remount"]),
        ("GET", "sys/remount/status/b757b032-4615-73c3-6ac0-6def72f4196a", ["remount-status"]),
        ("GET", "sys/internal/ui/mounts", ["ui-mounts"]),
        ("GET", "sys/internal/ui/mounts/ai-keys/creds/demo", ["ui-mount"]),
        ("GET", "sys/plugins/catalog", ["catalog"]),
        ("LIST", "sys/plugins/catalog/secret", ["catalog-secret"]),
        ("GET", "sys/plugins/catalog/secret/ai-keys", ["catalog-plugin"]),
        ("GET", "sys/internal/specs/openapi", ["openapi"]),
        ("POST", "sys/internal/specs/openapi", ["openapi"]),
        ("PUT", "sys/leases/lookup", ["lease-lookup"]),
        ("LIST", "sys/leases/lookup", ["lease-list"]),
        ("GET", "sys/leases/lookup/ai-keys/creds/", ["lease-list"]),
        ("PUT", "sys/leases/renew", ["lease-renew"]),
        ("PUT", f"sys/leases/renew/{LEASE}", ["lease-renew"]),
        ("PUT", f"sys/renew/{LEASE}", ["lease-renew"]),
        ("PUT", "sys/leases/revoke", ["lease-revoke", "token-lease-revoke"]),
        ("PUT", f"sys/revoke/{LEASE}", ["lease-revoke", "token-lease-revoke"]),
        ("PUT", "sys/leases/revoke-prefix/auth", ["lease-revoke-prefix", "token-leases-revoke"]),
        ("PUT", "sys/leases/revoke-force/auth/approle", ["lease-revoke-force", "token-leases-revoke"]),
        ("PUT", "sys/revoke-prefix/auth/token/create", ["lease-revoke-prefix", "token-leases-revoke"]),
        ("PUT", "sys/leases/revoke-prefix/authority", ["lease-revoke-prefix"]),
        ("DELETE", "sys/auth/approle", ["auth-disable"]),
        ("DELETE", "sys/auth/team/approle/", ["auth-disable"]),
        ("PUT", "sys/leases/revoke-prefix/ai-keys", ["lease-revoke-prefix"]),
        ("PUT", "sys/revoke-prefix/ai-keys", ["lease-revoke-prefix"]),
        ("POST", "sys/leases/revoke-force/ai-keys/creds", ["lease-revoke-force"]),
        ("POST", "sys/revoke-force/ai-keys/creds", ["lease-revoke-force"]),
        ("POST", "sys/leases/tidy", ["lease-tidy"]),
        ("GET", "sys/leases/count", ["lease-count"]),
        ("GET", "sys/leases", ["leases"]),
        ("POST", "auth/token/create", ["token-create"]),
        ("POST", "auth/token/create/nomad", ["token-create"]),
        ("POST", "auth/token/revoke", ["token-revoke"]),
        ("PUT", "auth/token/revoke-orphan", ["token-revoke-orphan"]),
        ("PUT", "auth/token/revoke-self", ["token-revoke-self"]),
        ("PUT", "auth/token/revoke-accessor", ["token-revoke-accessor"]),
        ("POST", "sys/wrapping/unwrap", ["unwrap"]),
        ("POST", "sys/wrapping/rewrap", ["rewrap"]),
        ("GET", "cubbyhole/response", ["unwrap-old"]),
    ],
)
def test_a_path_that_is_about_mounts_leases_or_tokens_has_its_handlers(
    method: str, path: str, names: list[str]
) -> None:
    assert fitting(method, path) == names


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", "sys/mounts"),
        ("OPTIONS", "sys/mounts/ai-keys"),
        ("LIST", "sys/mounts"),
        ("GET", "sys/mounts-not"),
        ("GET", "sys/auth"),
        ("GET", "team/sys/mounts"),
        ("PUT", "sys/lookup"),
        ("PUT", "sys/leases/lookup/ai-keys"),
        ("DELETE", "sys/leases/revoke/x"),
        ("PUT", "sys/leases/revoke-prefix"),
        ("POST", "auth/token/create-orphan"),
        ("POST", "auth/other/revoke"),
        ("POST", "sys/wrapping/lookup"),
        ("POST", "sys/wrapping/wrap"),
        ("POST", "sys/capabilities-self"),
        ("GET", "sys/internal/ui/resultant-acl"),
        ("PUT", "sys/plugins/catalog/secret/ai-keys"),
        ("GET", "cubbyhole/other"),
    ],
)
def test_everything_else_passes_unseen(method: str, path: str) -> None:
    assert fitting(method, path) == []
