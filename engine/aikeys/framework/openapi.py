"""The OpenAPI document of the paths, as Vault makes it from the same tables (sdk/framework/openapi.go).

Spellings that differ between the servers follow OpenBao: a duration is `integer` with the format `seconds`, a list is
a GET with `list=true` on the path without its slash.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from aikeys.framework.fields import Field, FieldType
from aikeys.framework.paths import Path
from aikeys.framework.request import Operation

VERSION = "3.0.2"
_NAMED_GROUP = re.compile(r"\(\?P<(\w+)>(?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)")
_SPACES = re.compile(r"\s+")
_TYPES: dict[FieldType, dict[str, Any]] = {
    FieldType.STRING: {"type": "string"},
    FieldType.NAME: {"type": "string", "pattern": r"\w([\w-.]*\w)?"},
    FieldType.INT: {"type": "integer"},
    FieldType.BOOL: {"type": "boolean"},
    FieldType.DURATION: {"type": "integer", "format": "seconds"},
    FieldType.COMMA_STRINGS: {"type": "array", "items": {"type": "string"}},
    FieldType.KV_PAIRS: {"type": "object", "format": "kvpairs"},
    FieldType.MAP: {"type": "object", "format": "map"},
    # A decimal text or an object: the document has no type for that, and a wrong one would break generated clients.
    FieldType.MONEY: {},
}
_VERBS = {
    Operation.READ: ("get", "read"),
    Operation.LIST: ("get", "list"),
    Operation.UPDATE: ("post", "write"),
    Operation.CREATE: ("post", "write"),
    Operation.PATCH: ("patch", "patch"),
    Operation.DELETE: ("delete", "delete"),
}


def document(
    paths: Iterable[Path], *, prefix: str, server_version: str, mount_path: str = ""
) -> dict[str, Any]:
    """The document for `paths`, each below `/<mount_path>` ("" for help, whose paths are relative).

    `prefix` begins every operation id and schema name ("ai-keys").
    """
    items: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    base = f"/{mount_path.strip('/')}" if mount_path.strip("/") else ""
    for path in paths:
        items[f"{base}/{openapi_path(path)}"] = _path_item(path, prefix, schemas)
    return {
        "openapi": VERSION,
        "info": {
            "title": "AI keys API",
            "description": "Short-lived keys for AI relays. All API routes are prefixed with `/v1/`.",
            "version": server_version,
            "license": {
                "name": "Mozilla Public License 2.0",
                "url": "https://www.mozilla.org/en-US/MPL/2.0",
            },
        },
        "paths": items,
        "components": {"schemas": schemas},
    }


def openapi_path(path: Path) -> str:
    """The pattern with its named groups as `{name}` and without an optional slash at its end."""
    return _NAMED_GROUP.sub(lambda found: "{" + found.group(1) + "}", path.pattern).removesuffix("/?")


def _path_item(path: Path, prefix: str, schemas: dict[str, Any]) -> dict[str, Any]:
    item: dict[str, Any] = {"description": _clean(path.synopsis)}
    captured = [name for name in sorted(path.fields) if name in path.captures]
    if captured:
        item["parameters"] = [
            {
                "name": name,
                "description": _clean(path.fields[name].description),
                "in": "path",
                "schema": dict(_TYPES[path.fields[name].type]),
                "required": True,
            }
            for name in captured
        ]
    if Operation.CREATE in path.operations:
        item["x-vault-createSupported"] = True
    for operation in path.operations:
        if operation is Operation.CREATE and Operation.UPDATE in path.operations:
            continue
        method, verb = _VERBS[operation]
        item[method] = _operation(path, operation, f"{prefix}-{verb}-{path.noun}", schemas)
    return item


def _operation(
    path: Path, operation: Operation, operation_id: str, schemas: dict[str, Any]
) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": operation_id, "tags": ["secrets"]}
    if operation in (Operation.CREATE, Operation.UPDATE, Operation.PATCH):
        body = {name: item for name, item in path.fields.items() if name not in path.captures}
        if body:
            schema = _title(operation_id) + "Request"
            schemas[schema] = _object_schema(body)
            described["requestBody"] = {"required": True, "content": _content(schema)}
    else:
        query = [name for name, item in path.fields.items() if item.query and name not in path.captures]
        parameters: list[dict[str, Any]] = [
            {
                "name": name,
                "description": _clean(path.fields[name].description),
                "in": "query",
                "schema": dict(_TYPES[path.fields[name].type]),
            }
            for name in query
        ]
        if operation is Operation.LIST:
            parameters.append(
                {
                    "name": "list",
                    "description": "Must be set to `true`",
                    "in": "query",
                    "schema": {"type": "string", "enum": ["true"]},
                    "required": True,
                }
            )
        if parameters:
            described["parameters"] = parameters
    described["responses"] = _responses(path, operation, operation_id, schemas)
    return described


def _responses(
    path: Path, operation: Operation, operation_id: str, schemas: dict[str, Any]
) -> dict[str, Any]:
    if operation is Operation.DELETE:
        return {"204": {"description": "empty body"}}
    if operation is Operation.LIST:
        schemas["StandardListResponse"] = {
            "type": "object",
            "properties": {"keys": {"type": "array", "items": {"type": "string"}}},
        }
        return {"200": {"description": "OK", "content": _content("StandardListResponse")}}
    # What is only ever updated keeps nothing: a write there is a question, or an order that tells what came of it.
    answers = Operation.CREATE not in path.operations
    if path.returns and (operation is Operation.READ or (answers and operation is Operation.UPDATE)):
        schema = _title(operation_id) + "Response"
        schemas[schema] = _object_schema(path.returns)
        return {"200": {"description": "OK", "content": _content(schema)}}
    return {"200": {"description": "OK"}}


def _object_schema(fields: Mapping[str, Field]) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object", "properties": {}}
    required = [name for name in sorted(fields) if fields[name].required]
    if required:
        schema["required"] = required
    for name in sorted(fields):
        item = fields[name]
        described = dict(_TYPES[item.type])
        described["description"] = _clean(item.description)
        if item.allowed_values:
            described["enum"] = list(item.allowed_values)
        if item.default is not None:
            described["default"] = item.default
        if item.deprecated:
            described["deprecated"] = True
        if item.secret:
            described["x-vault-displayAttrs"] = {"sensitive": True}
        schema["properties"][name] = described
    return schema


def _content(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _title(hyphenated: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in hyphenated.split("-"))


def _clean(text: str) -> str:
    return _SPACES.sub(" ", text.strip())
