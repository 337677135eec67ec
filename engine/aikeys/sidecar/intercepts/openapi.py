"""`sys/internal/specs/openapi`: our paths in place of the shadow's, for the mounts the caller is shown anyway."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.intercepts.answers import changed

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

# `Backend.openapi`: the document of every path of the engine as mounted at a path.
Documents = Callable[[str], Mapping[str, Any]]


def read(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    reply = sidecar.upstream.forward(exchange)
    paths = [mount.path for mount in sidecar.mounts.all()]
    return changed(reply, lambda document: merged(document, paths, sidecar.backend.openapi))


def merged(document: Mapping[str, Any], mount_paths: Iterable[str], ours: Documents) -> dict[str, Any]:
    """`document` with the paths below each mount replaced by the engine's.

    A mount of which the document shows nothing stays out: the caller has no access there. Both forms of the
    document are known, with mounts by their path and, after `generic_mount_paths=true`, by a parameter.
    """
    paths = dict(document.get("paths") or {})
    components = dict(document.get("components") or {})
    schemas = dict(components.get("schemas") or {})
    for mount_path in mount_paths:
        for base, parameter in ((mount_path.strip("/"), None), _generic(mount_path)):
            shown = [path for path in paths if path.startswith(f"/{base}/")]
            if not shown:
                continue
            for path in shown:
                del paths[path]
            mine = ours(base)
            for path, item in mine["paths"].items():
                paths[path] = item if parameter is None else _with_parameter(item, parameter)
            # What both call the same (the answer to a list) is the same.
            schemas = {**mine["components"]["schemas"], **schemas}
    if schemas:
        components["schemas"] = dict(sorted(schemas.items()))
    changed_document = {**document, "paths": dict(sorted(paths.items()))}
    if components:
        changed_document["components"] = components
    return changed_document


def _generic(mount_path: str) -> tuple[str, dict[str, Any]]:
    """What both servers write for a mount in a generic document: only hyphens are replaced in its name."""
    path = mount_path.strip("/")
    name = path.replace("-", "_") + "_mount_path"
    return "{" + name + "}", {
        "name": name,
        "description": "Path that the backend was mounted at",
        "in": "path",
        "schema": {"type": "string", "default": path},
        "required": True,
    }


def _with_parameter(item: Mapping[str, Any], parameter: dict[str, Any]) -> dict[str, Any]:
    return {**item, "parameters": [*item.get("parameters", []), parameter]}
