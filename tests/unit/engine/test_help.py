"""Every path explains itself, from the same tables that route and check it."""

from __future__ import annotations

import json

import pytest
from tests.unit.engine.world import World

from aikeys.framework.fields import FieldType
from aikeys.framework.reference import reference_page

PATHS = ["config", "roles/demo", "roles/", "creds/demo", "tidy", "leak", "revoke", "leases"]


def test_help_on_the_mount_lists_every_path(world: World) -> None:
    text = world.backend.help("")["help"]

    assert text.startswith("## DESCRIPTION\n\nThe AI keys backend mints short-lived API keys at an AI relay.")
    for pattern in (
        r"^config$",
        r"^roles/(?P<name>\w(([\w-.]+)?\w)?)$",
        r"^roles/?$",
        r"^creds/(?P<name>\w(([\w-.]+)?\w)?)$",
        r"^tidy$",
        r"^leak$",
        r"^revoke$",
        r"^leases$",
    ):
        assert f"    {pattern}\n        " in text


@pytest.mark.parametrize("path", PATHS)
def test_help_on_a_path_explains_it_and_each_of_its_parameters(path: str, world: World) -> None:
    shown = world.backend.help(path)
    found = world.backend.find(path)

    assert found is not None
    assert f"Request:        {path}\n" in shown["help"]
    assert "<no " not in shown["help"]
    for name, field in found.fields.items():
        assert f"    {name} ({field.type.value})" in shown["help"]
    assert shown["see_also"] is None
    assert json.loads(json.dumps(shown)) == shown, "it is JSON"


def test_what_is_secret_is_marked_and_never_part_of_a_read(world: World) -> None:
    secret = {name for path in world.backend.paths for name, field in path.fields.items() if field.secret}
    shown = {name for path in world.backend.paths if path.noun != "credentials" for name in path.returns}

    assert secret == {"management_key", "signing_secret", "api_key", "key_prefix", "fingerprint"}
    assert not secret & shown


def test_the_document_has_one_item_per_path_and_only_known_references(world: World) -> None:
    document = world.backend.openapi("ai-keys/")

    assert set(document["paths"]) == {
        "/ai-keys/config",
        "/ai-keys/roles/{name}",
        "/ai-keys/roles",
        "/ai-keys/creds/{name}",
        "/ai-keys/tidy",
        "/ai-keys/leak",
        "/ai-keys/revoke",
        "/ai-keys/leases",
    }
    schemas = document["components"]["schemas"]
    text = json.dumps(document)
    for reference in text.split("#/components/schemas/")[1:]:
        assert reference.partition('"')[0] in schemas
    assert schemas["AiKeysReadCredentialsResponse"]["required"] == [
        "allowed_models",
        "api_key",
        "base_url",
        "expires_at",
        "key_id",
        "permissions",
    ]
    asked = document["paths"]["/ai-keys/leak"]["post"]["responses"]["200"]["content"]["application/json"]
    assert asked["schema"]["$ref"].removeprefix("#/components/schemas/") in schemas
    assert "content" not in document["paths"]["/ai-keys/config"]["post"]["responses"]["200"]
    read = document["paths"]["/ai-keys/creds/{name}"]["get"]
    assert [parameter["name"] for parameter in read["parameters"]] == ["ttl"]
    operations = [
        item[method]["operationId"]
        for item in document["paths"].values()
        for method in item
        if method in ("get", "post", "patch", "delete")
    ]
    assert len(operations) == len(set(operations))


def test_no_path_returns_a_field_that_clients_take_for_something_else(world: World) -> None:
    """consul-template and Terraform give these names a meaning of their own."""
    names = {name for path in world.backend.paths for name in path.returns}

    assert not names & {"data", "certificate", "secret_id", "rotation_period"}


def test_money_is_the_only_type_the_document_leaves_open(world: World) -> None:
    for schema in world.backend.openapi("ai-keys")["components"]["schemas"].values():
        for name, described in schema["properties"].items():
            assert "type" in described or name == "budget"
    assert FieldType.MONEY.value == "money"


def test_the_reference_page_has_every_path_with_its_parameters_and_operations(world: World) -> None:
    page = reference_page(world.backend, "ai-keys/")

    assert "| `POST` | `/v1/ai-keys/roles/{name}` | create, update |" in page
    assert "| `LIST` | `/v1/ai-keys/roles` | list |" in page
    assert "| `GET` | `/v1/ai-keys/creds/{name}` | read |" in page
    assert "| `verify_connection` | bool | `true` |" in page
    assert "| `base_url` | string | required |" in page
    for path in world.backend.paths:
        for name in [*path.fields, *path.returns]:
            assert f"| `{name}` |" in page
