"""Where the engine keeps things in a mount's storage."""

from __future__ import annotations

CONFIG = "config"
ROLES = "roles/"


def role_key(name: str) -> str:
    return ROLES + name
