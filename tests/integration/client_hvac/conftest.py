"""hvac at the sidecar, and a role of a test's own."""

from __future__ import annotations

from collections.abc import Iterator

import hvac
import hvac.exceptions
import pytest
from tests.sidecar_stack import MOUNT, SidecarStack, unique

ROLE = {
    "ttl": 600,
    "max_ttl": 3600,
    "permissions": ["chat"],
    "allowed_models": ["gpt-4.1-mini"],
    "rate_limit": 30,
    "budget": "2.50",
}


@pytest.fixture
def client(stack: SidecarStack) -> hvac.Client:
    return stack.hvac()


@pytest.fixture
def role(stack: SidecarStack) -> Iterator[str]:
    """A role of this test's own, so that its leases are this test's alone."""
    name = unique("hvac")
    client = stack.hvac()
    client.write_data(f"{MOUNT}/roles/{name}", data=ROLE)
    yield name
    client.sys.revoke_prefix(f"{MOUNT}/creds/{name}")
    client.delete(f"{MOUNT}/roles/{name}")
