"""What the tests of mounts share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.integration.intercepts.stand import Stand

ADMIN = 'path "sys/mounts/*" { capabilities = ["create", "read", "update", "delete"] }'


def shown(stand: Stand, path: str, *, upstream: bool = False) -> dict[str, Any] | None:
    entry: dict[str, Any] | None = stand.ok("GET", "sys/mounts", upstream=upstream)["data"].get(f"{path}/")
    return entry


@contextmanager
def sidecar_may(stand: Stand, *blocks: str) -> Iterator[None]:
    """The sidecar's own policy with these blocks more."""
    where = "sys/policies/acl/aikeys-sidecar"
    before = stand.server.request("GET", where)["data"]["policy"]
    stand.server.request("PUT", where, {"policy": "\n".join([before, *blocks])})
    try:
        yield
    finally:
        stand.server.request("PUT", where, {"policy": before})
