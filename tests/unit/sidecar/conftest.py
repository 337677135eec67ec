"""A mount and answers of the upstream, for decisions that need no server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aikeys.framework.request import Mount
from aikeys.sidecar.exchange import Reply


def answer(status: int, body: Any = None) -> Reply:
    return Reply(status, b"" if body is None else json.dumps(body).encode())


@pytest.fixture
def mount() -> Mount:
    return Mount(
        uuid="11111111-2222-3333-4444-555555555555",
        path="ai-keys/",
        accessor="kv_12345678",
        instance="abcdefgh",
        default_lease_ttl=2764800,
        max_lease_ttl=2764800,
        marker_key="ab" * 32,
    )
