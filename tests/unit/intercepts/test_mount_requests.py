"""Which requests are about our engine, and what the upstream is asked in its place."""

from __future__ import annotations

from typing import Any

import pytest

from aikeys.sidecar.intercepts.enabling import as_shadow, asks_for, asks_unserved, with_mark
from aikeys.sidecar.intercepts.entries import MARK_OPTION, unmarked
from aikeys.sidecar.intercepts.tuning import names_a_version
from aikeys.sidecar.intercepts.upstream_mounts import UpstreamMount


@pytest.mark.parametrize(
    ("fields", "ours"),
    [
        ({"type": "ai-keys"}, True),
        ({"type": "plugin", "plugin_name": "ai-keys"}, True),
        ({"type": "plugin", "config": {"plugin_name": "ai-keys"}}, True),
        # The one in `config` goes before the other.
        ({"type": "plugin", "plugin_name": "kv", "config": {"plugin_name": "ai-keys"}}, True),
        ({"type": "plugin", "plugin_name": "ai-keys", "config": {"plugin_name": "kv"}}, False),
        ({"type": "plugin", "plugin_name": "ai-keys", "config": None}, True),
        ({"type": "transit", "plugin_name": "ai-keys"}, False),
        ({"type": "AI-Keys"}, False),
        ({"type": " ai-keys"}, False),
        ({"type": ["ai-keys"]}, False),
        ({"type": None}, False),
        ({}, False),
    ],
)
def test_our_type_is_asked_for_in_either_form(fields: dict[str, Any], ours: bool) -> None:
    assert asks_for(fields, "ai-keys") is ours


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "ai-keys", "description": "d", "options": None, "config": {"max_lease_ttl": "1h"}},
        {"type": "ai-keys", "options": {}, "local": True, "seal_wrap": False, "zzz": 1},
        {"type": "ai-keys", "config": {"plugin_name": "left alone"}, "options": {"team": "ml"}},
    ],
)
def test_the_shadow_is_asked_for_with_nothing_but_another_type(fields: dict[str, Any]) -> None:
    assert as_shadow(fields) == {**fields, "type": "kv"}


def test_the_older_form_stays_the_older_form() -> None:
    """The servers then store empty options where the newer form stores none."""
    assert as_shadow({"type": "plugin", "plugin_name": "ai-keys"}) == {"type": "plugin", "plugin_name": "kv"}
    assert as_shadow({"type": "plugin", "config": {"plugin_name": "ai-keys", "max_lease_ttl": 5}}) == {
        "type": "plugin", "config": {"plugin_name": "kv", "max_lease_ttl": 5}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "stored"),
    [
        ({}, {}),
        ({"options": None}, None),
        ({"options": {}}, {}),
        ({"options": []}, {}),
        ({"options": {"team": "ml", "tier": 1}}, {"team": "ml", "tier": "1"}),
        ({"options": ["team=ml"]}, {"team": "ml"}),
        ({"options": "team=ml"}, {"team": "ml"}),
    ],
)
def test_with_the_mark_taken_out_the_options_are_what_the_servers_store_without_it(
    fields: dict[str, Any], stored: dict[str, str] | None
) -> None:
    asked = with_mark({"type": "kv", "description": "d", **fields}, "0123abcd")

    assert {name: value for name, value in asked.items() if name != "options"} == {
        "type": "kv", "description": "d"
    }  # fmt: skip
    assert MARK_OPTION in asked["options"]
    assert unmarked(asked["options"]) == (stored, "0123abcd")


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"version": "2"}, True),
        ({"version": 1}, True),
        ({"team": "ml", "version": ""}, True),
        (["version=2"], True),
        ("version=2", True),
        ({"Version": "2"}, False),
        ("team=version", False),
        ({}, False),
        (None, False),
        ("no pair", False),
    ],
)
def test_a_version_is_found_in_every_form_that_options_may_have(options: Any, named: bool) -> None:
    assert names_a_version(options) is named


@pytest.mark.parametrize(
    ("value", "asked"),
    [(True, True), ("true", True), (1, True), (False, False), ("0", False), (None, False), ("x", False)],
)
def test_trimmed_slashes_are_noticed_only_when_asked_for(value: Any, asked: bool) -> None:
    assert asks_unserved({"trim_request_trailing_slashes": value}) is asked
    assert not asks_unserved({})


@pytest.mark.parametrize(
    ("kind", "options", "fit"),
    [
        ("kv", None, True),
        ("kv", {}, True),
        ("kv", {"version": "1"}, True),
        ("kv", {"version": "2"}, False),
        ("transit", None, False),
    ],
)
def test_only_version_1_of_kv_can_prove_anything(
    kind: str, options: dict[str, str] | None, fit: bool
) -> None:
    assert UpstreamMount("x/", "u", "a", kind, "", options).serves_as_shadow is fit
