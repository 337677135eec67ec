"""A role of a test's own, and what the server itself says to the same request."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.sidecar_stack import MOUNT, SidecarStack, unique

DENIED = {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}
MERGE = {"Content-Type": "application/merge-patch+json"}
ALL = '"create", "read", "update", "patch", "delete", "list"'


@pytest.fixture
def role(stack: SidecarStack) -> Iterator[str]:
    """A role of the test's own; whatever a test does to its markers goes with it."""
    name = unique("authz")
    assert stack.request("POST", f"{MOUNT}/roles/{name}", {"ttl": "60s", "max_ttl": "180s"}).status_code in {
        200,
        204,
    }
    yield name
    stack.request("DELETE", f"{MOUNT}/roles/{name}")


def marker(stack: SidecarStack, path: str) -> Any:
    reply = stack.direct("GET", f"{MOUNT}/{path}")
    return reply.json()["data"] if reply.status_code == 200 else None


def same_refusal(stack: SidecarStack, method: str, path: str, **options: Any) -> None:
    """The sidecar refuses with the status and the body that the server itself has for the same request."""
    with stack.nothing_minted():
        ours = stack.request(method, path, **options)
    real = stack.direct(method, path, **options)
    assert (ours.status_code, ours.json()) == (real.status_code, real.json())
    assert ours.status_code in {400, 403}
