"""The answers of a mounted engine, byte for byte as Vault writes them (sdk/logical/translate_response.go).

JSON in Go's manner: fields in the order of the struct, the keys of maps sorted, `<`, `>` and `&` escaped, and a
newline at the end.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from aikeys.redaction import redactor
from aikeys.sidecar.exchange import JSON_HEADERS, Reply

_GO_ESCAPES = str.maketrans(
    {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
)
_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def new_request_id() -> str:
    """Vault's: 16 random bytes in UUID form, without the version nibble of RFC 9562."""
    return str(uuid.UUID(bytes=os.urandom(16)))


def to_json(value: Any) -> bytes:
    """`value` as Go's encoding/json would write it, with the newline of its Encoder."""
    # The three escaped characters stand only inside JSON strings, so the whole text can be translated.
    text = _compact(value).translate(_GO_ESCAPES)
    return text.encode("utf-8", "replace") + b"\n"


def go_map(value: Any) -> Any:
    """`value` with the keys of every object sorted, as Go writes a map."""
    if isinstance(value, Mapping):
        return {key: go_map(value[key]) for key in sorted(value)}
    if isinstance(value, list | tuple):
        return [go_map(item) for item in value]
    return value


def envelope(
    request_id: str,
    *,
    data: Mapping[str, Any] | None,
    lease_id: str = "",
    renewable: bool = False,
    lease_duration: int = 0,
    wrap_info: Mapping[str, Any] | None = None,
    warnings: Sequence[str] | None = None,
    auth: Mapping[str, Any] | None = None,
    mount_type: str | None = None,
) -> dict[str, Any]:
    """The fields of a success in their order. `mount_type` None leaves it out, as OpenBao does."""
    fields: dict[str, Any] = {
        "request_id": request_id,
        "lease_id": lease_id,
        "renewable": renewable,
        "lease_duration": lease_duration,
        "data": None if data is None else go_map(data),
        "wrap_info": wrap_info,
        "warnings": list(warnings) if warnings else None,
        "auth": auth,
    }
    if mount_type is not None:
        fields["mount_type"] = mount_type
    return fields


def success(
    request_id: str,
    *,
    data: Mapping[str, Any] | None,
    lease_id: str = "",
    renewable: bool = False,
    lease_duration: int = 0,
    wrap_info: Mapping[str, Any] | None = None,
    warnings: Sequence[str] | None = None,
    auth: Mapping[str, Any] | None = None,
    mount_type: str | None = None,
    status: int = 200,
) -> Reply:
    """A success with a body."""
    fields = envelope(
        request_id,
        data=data,
        lease_id=lease_id,
        renewable=renewable,
        lease_duration=lease_duration,
        wrap_info=wrap_info,
        warnings=warnings,
        auth=auth,
        mount_type=mount_type,
    )
    return Reply(status, to_json(fields))


def injected(
    request_id: str,
    *,
    data: Mapping[str, Any],
    warnings: Sequence[str] | None = None,
    mount_type: str | None = None,
) -> Reply:
    """A success of those `sys/` endpoints that give their data twice: at the top and under `data`."""
    fields = envelope(request_id, data=data, warnings=warnings, mount_type=mount_type)
    return Reply(200, to_json({**go_map(data), **fields}))


def wrapped(
    wrap_info: Mapping[str, Any], *, warnings: Sequence[str] | None = None, mount_type: str | None = None
) -> Reply:
    """The answer that holds a wrapping token in place of the data; `mount_type` is "" where the upstream has it."""
    fields = envelope("", data=None, wrap_info=wrap_info, warnings=warnings, mount_type=mount_type)
    return Reply(200, to_json(fields))


def errors(status: int, texts: Sequence[str] = (), *, data: Mapping[str, Any] | None = None) -> Reply:
    """An error body; without texts it is the bare code with an empty list.

    Texts may quote what was given in the wrong place, a key for a duration: errors get around more than answers do.
    """
    body: dict[str, Any] = {"errors": [redactor.redact(text) for text in texts]}
    if data is not None:
        body["data"] = go_map(data)
    return Reply(status, to_json(body))


def no_content(status: int = 204) -> Reply:
    """A write or delete that has nothing to say; the content type stands all the same, as Vault sends it."""
    return Reply(status, b"", JSON_HEADERS)


def bare(status: int) -> Reply:
    """A refusal before Vault's handlers: no body, no content type."""
    return Reply(status, b"", ())
