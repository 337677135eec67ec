"""The reference page of a backend in Markdown, from the same tables as its help."""

from __future__ import annotations

from collections.abc import Mapping

from aikeys.framework.backend import Backend
from aikeys.framework.fields import Field
from aikeys.framework.openapi import openapi_path
from aikeys.framework.paths import Path
from aikeys.framework.request import Operation

_METHODS = {
    Operation.CREATE: "POST",
    Operation.UPDATE: "POST",
    Operation.PATCH: "PATCH",
    Operation.READ: "GET",
    Operation.LIST: "LIST",
    Operation.DELETE: "DELETE",
}


def reference_page(backend: Backend, mount_path: str) -> str:
    """Every path below `mount_path` with its operations, its parameters and what it returns."""
    parts = [f"# API of `{backend.name}`", backend.help_text.strip()]
    for path in backend.paths:
        parts += _path(path, mount_path.strip("/"))
    return "\n\n".join(parts) + "\n"


def _path(path: Path, mount_path: str) -> list[str]:
    address = f"/v1/{mount_path}/{openapi_path(path)}"
    # A write is one method whether it creates or updates; the capability a policy must grant differs.
    capabilities: dict[str, list[str]] = {}
    for operation in path.operations:
        capabilities.setdefault(_METHODS[operation], []).append(operation.value)
    parts = [
        f"## `{openapi_path(path)}`",
        path.synopsis,
        _table(
            ["Method", "Path", "Capability"],
            [[f"`{method}`", f"`{address}`", ", ".join(names)] for method, names in capabilities.items()],
        ),
    ]
    if path.description.strip():
        parts.append(path.description.strip())
    if path.fields:
        parts += ["### Parameters", _fields(path.fields, with_default=True)]
    if path.returns:
        what = "a read" if Operation.READ in path.operations else "the answer"
        parts += [f"### Data of {what}", _fields(path.returns, with_default=False)]
    return parts


def _fields(fields: Mapping[str, Field], *, with_default: bool) -> str:
    head = ["Name", "Type", *(["Default"] if with_default else []), "Description"]
    rows = []
    for name, item in fields.items():
        default = "required" if item.required else "" if item.default is None else f"`{_shown(item.default)}`"
        allowed = f" One of {', '.join(item.allowed_values)}." if item.allowed_values else ""
        rows.append(
            [f"`{name}`", item.type.value, *([default] if with_default else []), item.description + allowed]
        )
    return _table(head, rows)


def _shown(default: object) -> str:
    return str(default).lower() if isinstance(default, bool) else str(default)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
