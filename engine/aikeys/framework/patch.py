"""JSON merge patch (RFC 7396), for the PATCH operation (Vault: `framework.HandlePatchOperation`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aikeys.framework.response import EngineError


class ResourceMissing(EngineError):
    """A patch of something that does not exist.

    Vault's `HandlePatchOperation` has this text; its only users, kv's data and metadata, answer 404 then.
    """

    status = 404

    def __init__(self) -> None:
        super().__init__("resource does not exist")

    def texts(self) -> list[str]:
        return [self.message]


def merge_patch(target: Any, patch: Any) -> Any:
    """`target` with `patch` applied; neither is changed. A null removes, an object goes deeper, all else replaces."""
    if not isinstance(patch, Mapping):
        return patch
    merged = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged
