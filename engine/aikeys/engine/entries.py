"""Where the engine keeps things in a mount's storage."""

from __future__ import annotations

CONFIG = "config"
ROLES = "roles/"
# No entry: what is asked there is worked out anew each time.
TIDY = "tidy"
LEAK = "leak"
REVOKE = "revoke"
LEASES = "leases"


def role_key(name: str) -> str:
    return ROLES + name
