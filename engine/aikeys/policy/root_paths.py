"""The root-protected paths: those that need `sudo` beside the operation's own capability.

Source: SpecialPaths.Root of `sys/` and `auth/token/` of both servers. Engines and auth methods mounted elsewhere can
have their own (pki's `root`, for one); they are not known here.
"""

from __future__ import annotations

from collections.abc import Mapping

from aikeys.policy.parse import Server

_COMMON = (
    "sys/audit",
    "sys/audit/*",
    "sys/auth/*",
    "sys/config/auditing/*",
    "sys/config/cors",
    "sys/config/ui/headers/*",
    "sys/internal/inspect/*",
    "sys/leases",
    "sys/leases/lookup/*",
    "sys/leases/revoke-force/*",
    "sys/leases/revoke-prefix/*",
    "sys/plugins/catalog/*",
    "sys/raw",
    "sys/raw/*",
    "sys/remount",
    "sys/revoke-force/*",
    "sys/revoke-prefix/*",
    "sys/rotate",
    "sys/seal",
    "sys/step-down",
)
ROOT_PATHS: Mapping[Server, tuple[str, ...]] = {
    Server.OPENBAO: (
        *_COMMON,
        "auth/token/accessors*",
        "auth/token/revoke-orphan/*",
        "sys/rotate/keyring",
        "sys/rotate/root",
    ),
    Server.VAULT: (
        *_COMMON,
        "auth/token/accessors/",
        "auth/token/revoke-orphan",
        "sys/internal/counters/activity/export",
        "sys/plugins/runtimes/catalog/*",
        "sys/replication/dr/primary/secondary-token",
        "sys/replication/dr/reindex",
        "sys/replication/performance/primary/secondary-token",
        "sys/replication/performance/reindex",
        "sys/replication/primary/secondary-token",
        "sys/replication/reindex",
        "sys/reporting/scan",
        "sys/storage/raft/snapshot-auto/config/*",
    ),
}


def needs_sudo(path: str, server: Server) -> bool:
    path = path.lstrip("/")
    return any(
        path.startswith(root[:-1]) if root.endswith("*") else path == root for root in ROOT_PATHS[server]
    )
