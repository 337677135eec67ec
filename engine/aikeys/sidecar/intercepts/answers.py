"""What the intercepts share: reading a request's fields, and changing an answer of the upstream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from aikeys.framework.response import EngineError
from aikeys.sidecar import body as bodies
from aikeys.sidecar import envelope
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.intercepts.entries import EngineType

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar


def engine_of(sidecar: Sidecar) -> EngineType:
    return EngineType(sidecar.backend.name, sidecar.backend.version)


def request_id(exchange: Exchange) -> str:
    return exchange.request_id or envelope.new_request_id()


def system_mount_type(sidecar: Sidecar) -> str | None:
    """What answers of `sys/` say of themselves, where the upstream's do."""
    return sidecar.upstream.mount_type("system")


def fields_of(exchange: Exchange) -> dict[str, Any]:
    """The fields of a write. Raises `BodyError` (400)."""
    return bodies.read_fields(exchange.body, exchange.header("Content-Type"))


def fields_or_none(exchange: Exchange) -> dict[str, Any] | None:
    """The same, None for a body that is no object: the upstream says what is wrong with it."""
    try:
        return fields_of(exchange)
    except EngineError:
        return None


def as_body(fields: Mapping[str, Any]) -> bytes:
    """Fields as a JSON body to send on."""
    return envelope.to_json(_plain(fields))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value


def is_list(exchange: Exchange) -> bool:
    """The verb LIST, or a GET with a true `list`; a `list` that is no bool is for the upstream to refuse."""
    try:
        return exchange.method == "LIST" or (exchange.method == "GET" and exchange.list_flag is True)
    except ValueError:
        return False


def changed(reply: Reply, change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Reply:
    """A successful JSON answer with its body changed; every other answer as it is."""
    body = reply.json() if reply.status == 200 else None
    if not isinstance(body, dict):
        return reply
    return Reply(reply.status, envelope.to_json(change(body)), reply.headers)


def refused(error: EngineError) -> Reply:
    return envelope.errors(error.status, error.texts(), data=error.data)
