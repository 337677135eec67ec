"""Who asks the upstream what there is finds our engine: in the UI's tables, the catalog, the API's description."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.integration.intercepts.stand import Stand

READER = 'path "{path}/*" {{ capabilities = ["read"] }}'


@pytest.fixture
def path(stand: Stand) -> str:
    return stand.shared_mount()


# -- internal/ui/mounts -----------------------------------------------------------------------------------------


def test_the_ui_sees_our_mounts_as_ours_where_the_caller_may_see_them(stand: Stand, path: str) -> None:
    reader, stranger = stand.token(READER.format(path=path)), stand.token()
    theirs = stand.ok("GET", "sys/internal/ui/mounts", token=reader, upstream=True)
    ours = stand.ok("GET", "sys/internal/ui/mounts", token=reader)

    entry = ours["data"]["secret"][f"{path}/"]
    assert entry["type"] == "ai-keys"
    model = theirs["data"]["secret"][f"{path}/"]
    assert entry["options"] == {}
    changed = {"type", "running_plugin_version", "options"}
    assert {k: v for k, v in entry.items() if k not in changed} == {
        k: v for k, v in model.items() if k not in changed
    }
    assert ours["data"]["secret"].keys() == theirs["data"]["secret"].keys()
    assert ours["data"]["auth"] == theirs["data"]["auth"]
    assert f"{path}/" not in stand.ok("GET", "sys/internal/ui/mounts", token=stranger)["data"]["secret"]


def test_the_preflight_of_any_path_below_names_our_mount_and_no_kv(stand: Stand, path: str) -> None:
    for below in ("", "/", "/creds/demo", "/data/x"):
        entry = stand.ok("GET", f"sys/internal/ui/mounts/{path}{below}")["data"]
        assert (entry["path"], entry["type"]) == (f"{path}/", "ai-keys")
    for token in (stand.token(), None):
        ours = stand.call("GET", f"sys/internal/ui/mounts/{path}/x", token=token)
        theirs = stand.call("GET", f"sys/internal/ui/mounts/{path}/x", token=token, upstream=True)
        assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text)
        assert ours.status_code == 403


def test_without_a_token_only_mounts_made_visible_are_shown_and_as_ours(stand: Stand) -> None:
    path = stand.path()
    stand.ok("POST", f"sys/mounts/{path}", {"type": "ai-keys", "config": {"listing_visibility": "unauth"}})

    shown = stand.ok("GET", "sys/internal/ui/mounts", token=None)["data"]["secret"]
    assert shown[f"{path}/"]["type"] == "ai-keys"
    assert all(name == f"{path}/" or entry["type"] != "ai-keys" for name, entry in shown.items())


# -- the catalog ------------------------------------------------------------------------------------------------


def test_the_catalog_offers_our_engine(stand: Stand) -> None:
    catalog = stand.ok("GET", "sys/plugins/catalog")["data"]
    assert "ai-keys" in catalog["secret"]
    mine = [item for item in catalog["detailed"] if item["name"] == "ai-keys"]
    kv = [item for item in catalog["detailed"] if item["name"] == "kv"]
    assert [(item["type"], item["builtin"]) for item in mine] == [("secret", True)]
    assert mine[0].keys() == kv[0].keys()
    assert "ai-keys" in stand.ok("LIST", "sys/plugins/catalog/secret")["data"]["keys"]
    listed = json.loads(stand.cli("plugin", "list", "-format=json", "secret").stdout)
    names = [item["name"] for item in listed] if isinstance(listed, list) else listed["secret"]
    assert "ai-keys" in json.dumps(names)


def test_one_entry_of_the_catalog_has_the_keys_of_any_other(stand: Stand) -> None:
    mine = stand.ok("GET", "sys/plugins/catalog/secret/ai-keys")
    kv = stand.ok("GET", "sys/plugins/catalog/secret/kv")
    assert list(mine) == list(kv)
    assert list(mine["data"]) == list(kv["data"])
    assert mine["data"]["name"] == "ai-keys"
    entry = stand.ok("GET", f"sys/mounts/{stand.shared_mount()}")["data"]
    assert entry["running_plugin_version"] == mine["data"]["version"]
    assert stand.call("GET", "sys/plugins/catalog/secret/ai-keys?version=v9.9.9").status_code == 404
    assert stand.call("GET", "sys/plugins/catalog/secret/nope").status_code == 404
    assert (
        json.loads(stand.cli("plugin", "info", "-format=json", "secret", "ai-keys").stdout)["name"]
        == "ai-keys"
    )


@pytest.mark.parametrize(
    ("method", "where"),
    [
        ("GET", "sys/plugins/catalog"),
        ("LIST", "sys/plugins/catalog/secret"),
        ("GET", "sys/plugins/catalog/secret/ai-keys"),
    ],
)
def test_who_may_not_read_the_catalog_does_not_read_ours(stand: Stand, method: str, where: str) -> None:
    for token in (stand.token(), None):
        ours = stand.call(method, where, token=token)
        theirs = stand.call(method, where, token=token, upstream=True)
        assert (ours.status_code, ours.text) == (theirs.status_code, theirs.text)
        assert ours.status_code == 403


# -- the API's description --------------------------------------------------------------------------------------


def document(stand: Stand, query: str = "", **options: Any) -> dict[str, Any]:
    return stand.ok("GET", f"sys/internal/specs/openapi{query}", **options)


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"].rpartition("/")[2]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(item) for item in value.values()))
    return set().union(*(references(item) for item in value)) if isinstance(value, list) else set()


def without_order(value: Any) -> Any:
    """OpenBao gives the parameters of an operation in another order each time."""
    if isinstance(value, dict):
        return {key: without_order(item) for key, item in value.items()}
    return (
        sorted((without_order(item) for item in value), key=json.dumps) if isinstance(value, list) else value
    )


def test_the_api_is_described_with_our_paths_in_place_of_the_shadows(stand: Stand, path: str) -> None:
    ours, theirs = document(stand), document(stand, upstream=True)
    mine = {name for name in ours["paths"] if name.startswith(f"/{path}/")}

    assert {f"/{path}/config", f"/{path}/roles/{{name}}", f"/{path}/creds/{{name}}"} <= mine
    assert not any("{path}" in name for name in mine)
    untouched = {name for name in theirs["paths"] if not name.startswith(f"/{path}/")}
    assert ours["paths"].keys() - mine == untouched
    # Not all of them: OpenBao itself describes a path that can be both listed and scanned now so, now so.
    for name in ("/sys/mounts/{path}", "/auth/token/create", "/cubbyhole/{path}"):
        assert without_order(ours["paths"][name]) == without_order(theirs["paths"][name])
    assert ours["info"] == theirs["info"]
    assert references(ours["paths"]) <= ours["components"]["schemas"].keys()


def test_the_generic_description_names_our_mount_by_a_parameter(stand: Stand, path: str) -> None:
    parameter = path.replace("-", "_") + "_mount_path"
    paths = document(stand, "?generic_mount_paths=true")["paths"]

    item = paths[f"/{{{parameter}}}/creds/{{name}}"]
    assert {"name", parameter} <= {each["name"] for each in item["parameters"]}
    assert f"/{{{parameter}}}/{{path}}" not in paths


def test_the_description_shows_a_mount_only_to_whom_the_upstream_shows_it(stand: Stand, path: str) -> None:
    def shown(token: str | None) -> set[str]:
        return {name for name in document(stand, token=token)["paths"] if name.startswith(f"/{path}/")}

    assert shown(stand.token(READER.format(path=path)))
    assert shown(stand.token()) == set()
    assert document(stand, token=None)["paths"] == {}


def test_capabilities_are_the_upstreams(stand: Stand, path: str) -> None:
    token = stand.token(READER.format(path=path))
    body = {"paths": [f"{path}/creds/demo", f"{path}/config", "sys/mounts"]}
    ours = stand.ok("POST", "sys/capabilities-self", body, token=token)["data"]
    assert ours == stand.ok("POST", "sys/capabilities-self", body, token=token, upstream=True)["data"]
    assert stand.cli("token", "capabilities", token, f"{path}/creds/demo").stdout.strip() == "read"
