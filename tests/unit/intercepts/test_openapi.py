"""The upstream's OpenAPI document shows our paths where it showed the shadow's, and nothing that it did not show."""

from __future__ import annotations

import copy
from typing import Any

from aikeys.sidecar.intercepts.openapi import merged

UPSTREAM: dict[str, Any] = {
    "openapi": "3.0.2",
    "info": {"title": "OpenBao API", "version": "2.7.2"},
    "paths": {
        "/ai-keys/{path}": {"description": "kv", "get": {"operationId": "kv-read-path"}},
        "/ai-keys/{path}/": {"description": "kv"},
        "/ai-keys-2/{path}": {"description": "other"},
        "/sys/mounts": {"description": "mounts"},
    },
    "components": {"schemas": {"StandardListResponse": {"type": "object"}, "Other": {}}},
}


def engine(base: str) -> dict[str, Any]:
    return {
        "info": {"title": "AI keys API"},
        "paths": {
            f"/{base}/config": {"description": "config"},
            f"/{base}/creds/{{name}}": {"parameters": [{"name": "name", "in": "path"}], "get": {}},
        },
        "components": {
            "schemas": {"StandardListResponse": {"mine": True}, "AiKeysReadCreds": {"type": "object"}}
        },
    }


def test_the_shadows_paths_are_replaced_by_the_engines() -> None:
    before = copy.deepcopy(UPSTREAM)

    document = merged(UPSTREAM, ["ai-keys/"], engine)

    assert list(document["paths"]) == [
        "/ai-keys-2/{path}", "/ai-keys/config", "/ai-keys/creds/{name}", "/sys/mounts"
    ]  # fmt: skip
    assert document["info"] == UPSTREAM["info"]
    schemas = document["components"]["schemas"]
    assert schemas == {
        "AiKeysReadCreds": {"type": "object"},
        "Other": {},
        "StandardListResponse": {"type": "object"},
    }
    assert before == UPSTREAM


def test_a_mount_that_the_caller_is_not_shown_stays_out() -> None:
    assert merged(UPSTREAM, ["hidden/", "ai-key/"], engine)["paths"] == UPSTREAM["paths"]


def test_a_document_for_nobody_stays_empty() -> None:
    empty = {"openapi": "3.0.2", "paths": {}, "components": {"schemas": {}}}

    assert merged(empty, ["ai-keys/"], engine) == empty


def test_generic_paths_name_the_mount_by_a_parameter_as_the_server_does() -> None:
    document = {
        "paths": {
            "/{team_a/ai.keys_mount_path}/{path}": {"description": "kv"},
            "/{secret_mount_path}/data/{path}": {},
        }
    }

    paths = merged(document, ["team-a/ai.keys/"], engine)["paths"]

    assert list(paths) == [
        "/{secret_mount_path}/data/{path}",
        "/{team_a/ai.keys_mount_path}/config",
        "/{team_a/ai.keys_mount_path}/creds/{name}",
    ]
    parameter = {
        "name": "team_a/ai.keys_mount_path",
        "description": "Path that the backend was mounted at",
        "in": "path",
        "schema": {"type": "string", "default": "team-a/ai.keys"},
        "required": True,
    }
    assert paths["/{team_a/ai.keys_mount_path}/config"]["parameters"] == [parameter]
    assert paths["/{team_a/ai.keys_mount_path}/creds/{name}"]["parameters"] == [
        {"name": "name", "in": "path"}, parameter
    ]  # fmt: skip
