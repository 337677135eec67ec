"""What a door hands to the engine: Vault's `logical.Request`, cut to what an engine needs."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from aikeys.framework.deadline import Deadline

if TYPE_CHECKING:
    from aikeys.framework.response import Secret


class Operation(enum.StrEnum):
    """Vault's operations (sdk/logical/request.go), as they stand in policies, help and audit lines."""

    CREATE = "create"
    READ = "read"
    UPDATE = "update"
    PATCH = "patch"
    DELETE = "delete"
    LIST = "list"
    HELP = "help"
    RENEW = "renew"
    REVOKE = "revoke"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, as the upstream's own look-up of the token says.

    `accessor` is "" for batch tokens. `expire_time` is None for tokens that never expire (root).
    `parent_accessor` is known only where a door saw the token being made; "" otherwise.
    """

    accessor: str
    token_type: str = "service"
    entity_id: str = ""
    display_name: str = ""
    token_path: str = ""
    policies: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    orphan: bool = True
    expire_time: datetime | None = None
    num_uses: int = 0
    bound_cidrs: tuple[str, ...] = ()
    parent_accessor: str = ""

    @property
    def login_role(self) -> str:
        """The role of the auth method that it logged in with, as AppRole ("role_name") and others ("role") note it."""
        return self.metadata.get("role_name") or self.metadata.get("role") or ""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of our engine.

    `path` ends with "/" ("ai-keys/"). The two TTLs are effective ones, whole seconds: what the mount was
    tuned to, else the system's (Vault: `sys/mounts/<path>/tune` answers the same numbers).
    `instance` is this mount's owner mark at the relay: 8 lower-case base32 characters, chosen once.
    `marker_key` proves that a shadow entry is ours (hex, 64 characters; a secret of the sidecar).
    """

    uuid: str
    path: str
    accessor: str
    instance: str
    default_lease_ttl: int
    max_lease_ttl: int
    namespace: str = ""
    description: str = ""
    options: Mapping[str, str] | None = None
    marker_key: str = field(default="", repr=False)
    tainted: bool = False


def _nothing(_path: str) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Request:
    """One operation on a path below a mount.

    `path` is decoded, canonical and relative to the mount ("creds/demo"; "roles/" for a list).
    `data` is the body or the query as parsed, before any coercion; keys mapped to None count as absent.
    `secret` is set for RENEW and REVOKE only. `can_read` says whether the caller's token may read a path of the
    Vault in which the engine is mounted (in the mount's namespace): a question, not a use of the token.
    """

    operation: Operation
    path: str
    mount: Mount
    data: Mapping[str, Any] = field(default_factory=dict)
    caller: Caller | None = None
    id: str = ""
    remote_address: str = ""
    deadline: Deadline = field(default_factory=Deadline.default)
    secret: Secret | None = None
    can_read: Callable[[str], bool] = field(default=_nothing, repr=False, compare=False)
