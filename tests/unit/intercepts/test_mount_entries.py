"""Our mounts show as what they are in the upstream's own listings, and nobody else's mount is touched."""

from __future__ import annotations

import pytest

from aikeys.framework.request import Mount
from aikeys.sidecar.intercepts import entries
from aikeys.sidecar.intercepts.entries import EngineType

ENGINE = EngineType("ai-keys", "1.2.3")
OURS = "b7d0d7d2-3bea-f8ce-add9-d5f7f3fa6985"
THEIRS = "67ecc2d4-0000-f8ce-add9-d5f7f3fa6985"


class Table:
    def by_uuid(self, uuid: str) -> Mount:
        return {OURS: MOUNT}[uuid]

    def by_path(self, path: str, namespace: str = "") -> Mount | None:
        return MOUNT if path.rstrip("/") == "ai-keys" and not namespace else None


MOUNT = Mount(
    uuid=OURS, path="ai-keys/", accessor="kv_1", instance="abcdefgh", default_lease_ttl=1, max_lease_ttl=2
)


def entry(uuid: str, options: dict[str, str] | None = None) -> dict[str, object]:
    """As OpenBao shows a kv mount."""
    return {
        "accessor": "kv_3caf43f1",
        "config": {"default_lease_ttl": 3600, "force_no_cache": False, "max_lease_ttl": 7200},
        "deprecation_status": "supported",
        "description": "d",
        "options": options,
        "plugin_version": "",
        "running_plugin_version": "v2.7.2+builtin.bao",
        "running_sha256": "",
        "type": "kv",
        "uuid": uuid,
    }


def test_our_entry_says_our_type_at_both_levels_and_keeps_all_else() -> None:
    table = {"ai-keys/": entry(OURS), "secret/": entry(THEIRS, {"version": "2"})}
    body = {**table, "request_id": "r", "data": table, "warnings": None, "mount_type": "system"}

    shown = entries.dress_listing(body, Table(), ENGINE)

    for level in (shown, shown["data"]):
        ours = level["ai-keys/"]
        assert ours["type"] == "ai-keys"
        assert ours["running_plugin_version"] == "v1.2.3+builtin.aikeys"
        assert {k: v for k, v in ours.items() if k not in {"type", "running_plugin_version"}} == {
            k: v for k, v in entry(OURS).items() if k not in {"type", "running_plugin_version"}
        }
        assert level["secret/"] == table["secret/"]
    assert shown["request_id"] == "r"
    assert list(shown) == list(body)


@pytest.mark.parametrize("options", [None, {}, {"team": "ml"}])
def test_options_read_back_exactly_as_they_are_stored(options: dict[str, str] | None) -> None:
    assert entries.dressed(entry(OURS, options), ENGINE)["options"] == options


@pytest.mark.parametrize("options", [None, {}, {"team": "ml"}])
def test_the_mark_of_the_request_is_not_shown(options: dict[str, str] | None) -> None:
    kept = entry(OURS, entries.marked(options, "0123abcd"))

    assert entries.dressed(kept, ENGINE)["options"] == options
    body = {"request_id": "r", "default_lease_ttl": 1, "options": kept["options"]}
    shown = entries.dress_tuning({**body, "data": body})
    expected = {name: value for name, value in body.items() if name != "options"}
    expected |= {"options": options} if options else {}
    assert shown == {**expected, "data": expected}


def test_another_mount_at_our_old_path_keeps_its_own_type() -> None:
    table = {"ai-keys/": entry(THEIRS)}

    assert entries.dress_table(table, Table(), ENGINE) == table


def test_the_entry_for_a_path_below_a_mount_is_known_by_its_uuid() -> None:
    for uuid, expected in ((OURS, "ai-keys"), (THEIRS, "kv")):
        body = {**entry(uuid), "request_id": "r", "data": entry(uuid)}
        shown = entries.dress_single(body, Table(), ENGINE)
        assert (shown["type"], shown["data"]["type"]) == (expected, expected)


def test_an_error_body_is_no_entry() -> None:
    body = {"errors": ["No secret engine mount at nope/"]}

    assert entries.dress_single(body, Table(), ENGINE) == body


def test_the_ui_listing_is_changed_below_secret_only() -> None:
    body = {
        "request_id": "r",
        "data": {"auth": {"ai-keys/": entry(OURS)}, "secret": {"ai-keys/": entry(OURS), "x/": entry(THEIRS)}},
    }

    shown = entries.dress_ui_listing(body, Table(), ENGINE)

    assert shown["data"]["secret"]["ai-keys/"]["type"] == "ai-keys"
    assert shown["data"]["secret"]["x/"]["type"] == "kv"
    assert shown["data"]["auth"] == body["data"]["auth"]  # type: ignore[index]


def test_a_listing_without_uuids_is_known_by_path_and_only_for_kv() -> None:
    """What a caller without a token sees of mounts with listing_visibility=unauth."""
    bare = {"type": "kv", "description": "", "options": None}
    table = {"ai-keys/": bare, "secret/": bare, "ai-keys/sub/": bare}

    shown = entries.dress_table(table, Table(), ENGINE)

    assert [shown[path]["type"] for path in table] == ["ai-keys", "kv", "kv"]
    assert "running_plugin_version" not in shown["ai-keys/"]
    assert not entries.is_ours(Table(), "ai-keys/", {"type": "transit"})


def test_the_ui_entry_for_a_path_is_changed_when_its_mount_is_ours() -> None:
    body = {"data": {**entry(OURS), "path": "ai-keys/"}}

    assert entries.dress_ui_single(body, Table(), ENGINE)["data"]["type"] == "ai-keys"
    foreign = {"data": {**entry(THEIRS), "path": "x/"}}
    assert entries.dress_ui_single(foreign, Table(), ENGINE) == foreign
