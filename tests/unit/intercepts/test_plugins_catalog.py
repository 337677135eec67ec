"""The catalog offers our type as it offers a built-in engine, once."""

from __future__ import annotations

from typing import Any

import pytest

from aikeys.sidecar.intercepts.entries import EngineType
from aikeys.sidecar.intercepts.plugins_catalog import plugin, with_engine

ENGINE = EngineType("ai-keys", "0.1.0")


def catalog(*secret: str, detailed: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    entries = [{"name": name, "type": "secret", "version": "v1", "builtin": True} for name in secret]
    return {
        "request_id": "r",
        "data": {
            "auth": ["approle"],
            "database": [],
            "secret": list(secret),
            "detailed": [{"name": "approle", "type": "auth", "version": "v1", "builtin": True}, *entries]
            + (detailed or []),
        },
        "mount_type": "system",
    }


def test_our_type_stands_among_the_secret_engines_and_in_the_details() -> None:
    shown = with_engine(catalog("kv", "pki"), ENGINE)

    assert shown["data"]["secret"] == ["ai-keys", "kv", "pki"]
    assert [(item["type"], item["name"]) for item in shown["data"]["detailed"]] == [
        ("auth", "approle"), ("secret", "ai-keys"), ("secret", "kv"), ("secret", "pki")
    ]  # fmt: skip
    assert shown["data"]["detailed"][1] == {
        "builtin": True,
        "deprecation_status": "supported",
        "name": "ai-keys",
        "type": "secret",
        "version": "v0.1.0+builtin.aikeys",
    }
    assert shown["data"]["auth"] == ["approle"]
    assert shown["mount_type"] == "system"


@pytest.mark.parametrize(
    "registered",
    [
        catalog("ai-keys", "kv"),
        # A plugin registered with a version stands in the details only.
        catalog("kv", detailed=[{"name": "ai-keys", "type": "secret", "version": "v9.0.0"}]),
    ],
)
def test_a_plugin_of_that_name_upstream_is_shown_as_it_is(registered: dict[str, Any]) -> None:
    assert with_engine(registered, ENGINE) == registered


def test_an_auth_plugin_of_that_name_is_another_thing() -> None:
    shown = with_engine(catalog("kv", detailed=[{"name": "ai-keys", "type": "auth"}]), ENGINE)

    assert "ai-keys" in shown["data"]["secret"]


def test_one_entry_has_the_fields_of_the_product() -> None:
    on_vault = plugin(ENGINE, is_vault=True)

    assert sorted(on_vault) == [
        "args", "builtin", "command", "deprecation_status", "name", "sha256", "version"
    ]  # fmt: skip
    assert sorted(set(plugin(ENGINE, is_vault=False)) - set(on_vault)) == ["declarative", "oci"]


def test_a_body_without_data_is_left_alone() -> None:
    assert with_engine({"warnings": ["x"], "data": None}, ENGINE) == {"warnings": ["x"], "data": None}
