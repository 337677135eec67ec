"""Wrapped answers of ours, unwrapped and re-wrapped at the upstream's own wrapping endpoints.

Behind the caller's wrapping token the upstream holds the shadow's marker; what belongs there is kept here
(`wrapped_answers`). The upstream spends the token, so that it works once and only for whom it may; then our answer
takes the marker's place. A marker never leaves: where our answer is not on record, the token counts as spent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from aikeys.sidecar import envelope
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.intercepts.answers import changed, fields_or_none, request_id
from aikeys.sidecar.shadow import MARKER_FIELD, NOTE
from aikeys.sidecar.upstream import UpstreamDown
from aikeys.storage.failpoints import reach
from aikeys.storage.records import WrappedRecord

if TYPE_CHECKING:
    from aikeys.sidecar.context import Sidecar

log = structlog.get_logger(__name__)

# Vault's text for a wrapping token that was used, ran out or never was.
SPENT = "wrapping token is not valid or does not exist"


def unwrap(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """PUT/POST `sys/wrapping/unwrap`: the token in the body, or as the caller's own."""
    token = _named_token(exchange)
    record = sidecar.wrapped.peek(token) if token else None
    reply = sidecar.upstream.forward(exchange)
    reach("unwrap.spent")
    body = reply.json() if reply.status == 200 else None
    if not isinstance(body, dict):
        return reply
    if record is not None and isinstance(body.get("wrap_info"), dict):
        # Unwrapped into another wrapping.
        _move(sidecar, token, body["wrap_info"], record)
        return reply
    if record is not None:
        taken = sidecar.wrapped.take(token)
        reach("unwrap.taken")
        return _spent() if taken is None else _opened(exchange, taken)
    if MARKER_FIELD in (body.get("data") or {}):
        log.error(
            "wrapped_answer_not_on_record", note="wrapped by a sidecar with another database, or lapsed"
        )
        return _spent()
    return reply


def read_response(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """GET `cubbyhole/response` with a wrapping token: how it was done before there was `sys/wrapping/unwrap`."""
    record = sidecar.wrapped.peek(exchange.token) if exchange.token else None
    if record is None:
        return None
    reply = sidecar.upstream.forward(exchange)
    if reply.status == 200:
        sidecar.wrapped.take(exchange.token)
    text = envelope.to_json(record.envelope).decode().rstrip("\n")
    return changed(reply, lambda body: {**body, "data": {"response": text}})


def rewrap(sidecar: Sidecar, exchange: Exchange) -> Reply | None:
    """PUT/POST `sys/wrapping/rewrap`: our answer moves behind the new token."""
    token = _named_token(exchange)
    record = sidecar.wrapped.peek(token) if token else None
    if record is None:
        return None
    reply = sidecar.upstream.forward(exchange)
    body = reply.json() if reply.status == 200 else None
    if isinstance(body, dict) and isinstance(body.get("wrap_info"), dict):
        _move(sidecar, token, body["wrap_info"], record)
    return reply


def wrapped_if_asked(sidecar: Sidecar, exchange: Exchange, reply: Reply) -> Reply:
    """A successful answer behind a wrapping token when the caller sent `X-Vault-Wrap-TTL`.

    For answers that no request to the upstream can wrap at their own path: its `sys/wrapping/wrap` makes the token,
    and is what `creation_path` says. Raises `UpstreamDown`.
    """
    if not exchange.wrap_ttl or reply.status != 200:
        return reply
    headers = [
        (name, exchange.header(name))
        for name in ("X-Vault-Wrap-TTL", "X-Vault-Wrap-Format")
        if exchange.header(name)
    ]
    made = sidecar.own.request("POST", "sys/wrapping/wrap", {MARKER_FIELD: "", "note": NOTE}, headers=headers)
    body = made.json()
    wrap_info = body.get("wrap_info") if made.status == 200 and isinstance(body, dict) else None
    if not isinstance(wrap_info, dict):
        raise UpstreamDown(f"the sidecar's own request to sys/wrapping/wrap got {made.status}")
    sidecar.wrapped.put(wrap_info, reply.json())
    return made


def _named_token(exchange: Exchange) -> str:
    named = (fields_or_none(exchange) or {}).get("token")
    return named if isinstance(named, str) and named else exchange.token


def _move(sidecar: Sidecar, token: str, wrap_info: dict[str, Any], record: WrappedRecord) -> None:
    # Put before taken: a crash in between leaves it behind a spent token, where it lapses.
    sidecar.wrapped.put(wrap_info, record.envelope, record.lease_id)
    reach("rewrap.stored")
    sidecar.wrapped.take(token)
    reach("rewrap.taken")


def _opened(exchange: Exchange, record: WrappedRecord) -> Reply:
    # The servers pass on the text that was wrapped, which has no newline at its end.
    text = envelope.to_json({**record.envelope, "request_id": request_id(exchange)})
    return Reply(200, text.rstrip(b"\n"))


def _spent() -> Reply:
    return envelope.errors(400, [SPENT])
