"""What counts as the right to do what cannot be tried without effect."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aikeys.sidecar.exchange import Reply
from aikeys.sidecar.intercepts.authority import grants, reported

PATH = "sys/mounts/ai-keys"


@pytest.mark.parametrize(
    ("capabilities", "granted"),
    [
        (["root"], True),
        (["delete"], True),
        (["create", "delete", "read", "sudo", "update"], True),
        (["create", "list", "patch", "read", "sudo", "update"], False),
        (["sudo"], False),
        (["deny"], False),
        (["delete", "deny"], False),
        ([], False),
    ],
)
def test_only_the_capability_itself_or_root_grants(capabilities: list[str], granted: bool) -> None:
    assert grants(capabilities, "delete") is granted


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"data": {PATH: ["root"], "capabilities": ["root"]}}, ["root"]),
        (200, {"data": {"sys/mounts/other": ["root"]}}, None),
        (200, {"data": {"capabilities": ["root"]}}, None),
        (200, {"data": {PATH: "root"}}, None),
        (200, {"data": None}, None),
        (403, {"data": {PATH: ["root"]}}, None),
        (200, [], None),
    ],
)
def test_capabilities_are_read_for_exactly_the_path_asked_about(
    status: int, body: Any, expected: list[str] | None
) -> None:
    assert reported(Reply(status, json.dumps(body).encode()), PATH) == expected
