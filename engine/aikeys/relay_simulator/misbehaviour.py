"""Carrying out the faults that hit one call, on the wire itself where they are about the wire."""
# mypy: disable-error-code="no-untyped-call"
# (gunicorn has no type hints)

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from gunicorn.util import close_graceful

from aikeys.relay_simulator.account import Account
from aikeys.relay_simulator.call import Call, Effects
from aikeys.relay_simulator.calls import LoggedCall
from aikeys.relay_simulator.errors import REFUSALS, error_body
from aikeys.relay_simulator.faults import Fault

HTML = b"<!DOCTYPE html><html><head><title>Gateway</title></head><body><h1>It works!</h1></body></html>"
_CODES = {500: "internal_error", 502: "upstream_error", 503: "unavailable", 504: "upstream_timeout"}

StartResponse = Callable[..., Any]


class Pause:
    """Waiting that a reset cuts short."""

    def __init__(self) -> None:
        self._released = threading.Event()

    def wait(self, seconds: float) -> None:
        """Wait so long, or until released."""
        self._released.wait(seconds)

    def release(self) -> None:
        """Let everyone who waits go on."""
        released, self._released = self._released, threading.Event()
        released.set()


@dataclass(slots=True)
class Response:
    """A whole answer, before it goes out."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes

    def set(self, name: str, value: str) -> None:
        """Replace a header."""
        self.headers = [(n, v) for n, v in self.headers if n.lower() != name.lower()]
        self.headers.append((name, value))


@dataclass(slots=True)
class Exchange:
    """One call that faults hit."""

    environ: dict[str, Any]
    call: Call
    entry: LoggedCall
    serve: Callable[[dict[str, Any], Call, LoggedCall | None, StartResponse], Iterable[bytes]]
    account: Account
    pause: Pause

    def commit(self) -> Response:
        """Let the relay answer truly."""
        caught: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> None:
            caught[:] = [status, headers]

        chunks = self.serve(self.environ, self.call, self.entry, start)
        body = b"".join(chunks)
        close = getattr(chunks, "close", None)
        if close is not None:
            close()
        status, headers = caught
        return Response(int(status[:3]), status[4:], list(headers), body)

    def made_up(self, status: int, content: bytes, content_type: str = "application/json") -> Response:
        """An answer the relay never meant to give."""
        code = _CODES.get(status)
        return Response(
            status,
            {200: "OK", 302: "Found", 429: "Too Many Requests"}.get(status, code or "Status"),
            [
                ("Content-Type", content_type),
                ("X-Request-Id", self.call.request_id),
                ("Date", self.account.clock.http_date(self.account.policy.date_skew_seconds)),
            ],
            content,
        )

    def refusal(self, code: str, message: str | None = None, status: int | None = None) -> Response:
        """A made-up answer from the error table."""
        refusal = REFUSALS[code]
        body = error_body(code, message or refusal.message, refusal.type, None, self.call.request_id)
        return self.made_up(status or refusal.status, json.dumps(body).encode())


def misbehave(
    exchange: Exchange, faults: tuple[Fault, ...], start_response: StartResponse
) -> Iterable[bytes]:
    """Answer one call as `faults` say, in the order in which a call lives."""
    by_kind = {fault.kind: fault.parameters for fault in faults}
    _wait(exchange, faults, "before")
    if "refuse" in by_kind:
        _reset(exchange)
    if "close" in by_kind:
        _close(exchange)
    for kind, parameters in by_kind.items():
        if kind in _INSTEAD and not parameters.get("commit", False):
            return _send(exchange, _INSTEAD[kind](exchange, parameters, None), by_kind, start_response)
    exchange.call.effects = _effects(exchange, faults)
    response = exchange.commit()
    if "duplicate" in by_kind:
        response = _deliver_again(exchange, response, by_kind["duplicate"]["answer"])
    _wait(exchange, faults, "after")
    if "commit_then_drop" in by_kind:
        (_reset if by_kind["commit_then_drop"]["rst"] else _close)(exchange)
    for kind, parameters in by_kind.items():
        if kind in _INSTEAD or kind == "commit_then_500":
            make = _INSTEAD.get(kind, _error)
            return _send(exchange, make(exchange, parameters, response), by_kind, start_response)
    return _send(exchange, response, by_kind, start_response)


def _wait(exchange: Exchange, faults: tuple[Fault, ...], when: str) -> None:
    for fault in faults:
        if fault.kind == "latency" and fault.parameters["when"] == when:
            exchange.pause.wait(fault.parameters["seconds"])


def _effects(exchange: Exchange, faults: tuple[Fault, ...]) -> Effects:
    effects = Effects()
    if any(fault.kind == "latency" and fault.parameters["when"] == "processing" for fault in faults):
        effects.before_commit = lambda: _wait(exchange, faults, "processing")
    for fault in faults:
        if fault.kind == "list_lag":
            effects.list_lag = float(fault.parameters["seconds"])
        elif fault.kind == "revoke_lag":
            seconds, node = float(fault.parameters["seconds"]), fault.parameters["lag_node"]
            effects.revoke_lag = (
                seconds if node in (None, 0) else 0.0,
                seconds if node in (None, 1) else 0.0,
            )
    return effects


def _deliver_again(exchange: Exchange, first: Response, wanted: str) -> Response:
    exchange.call = replace(exchange.call, effects=Effects())
    exchange.environ["aikeys.call"] = exchange.call
    second = exchange.commit()
    return first if wanted == "first" else second


def _html(exchange: Exchange, parameters: dict[str, Any], _: Response | None) -> Response:
    return exchange.made_up(parameters["status"], HTML, "text/html; charset=utf-8")


def _redirect(exchange: Exchange, parameters: dict[str, Any], _: Response | None) -> Response:
    response = exchange.made_up(parameters["status"], b"", "text/html; charset=utf-8")
    response.set("Location", parameters["location"])
    return response


def _rate_limit(exchange: Exchange, parameters: dict[str, Any], _: Response | None) -> Response:
    response = exchange.refusal("rate_limit_exceeded")
    if parameters["retry_after"] is not None:
        response.set("Retry-After", str(parameters["retry_after"]))
    return response


def _unavailable(exchange: Exchange, parameters: dict[str, Any], _: Response | None) -> Response:
    response = exchange.refusal("unavailable")
    if parameters["not_applied"]:
        response.set("X-Not-Applied", "1")
    if parameters["retry_after"] is not None:
        response.set("Retry-After", str(parameters["retry_after"]))
    return response


def _error(exchange: Exchange, parameters: dict[str, Any], _: Response | None) -> Response:
    status = parameters["status"]
    code = _CODES.get(status) or next(
        (c for c, r in REFUSALS.items() if r.status == status), "internal_error"
    )
    return exchange.refusal(code, status=status)


def _echo_key(exchange: Exchange, parameters: dict[str, Any], true: Response | None) -> Response:
    callers = (exchange.call.header("Authorization") or "").removeprefix("Bearer ")
    text = f"Key {callers} could not be used: {exchange.call.header('Authorization')}"
    if true is not None:
        text += f"; upstream said {true.body.decode(errors='replace')}"
    return exchange.refusal(_CODES.get(parameters["status"], "internal_error"), text, parameters["status"])


_INSTEAD: dict[str, Callable[[Exchange, dict[str, Any], Response | None], Response]] = {
    "html": _html,
    "redirect": _redirect,
    "rate_limit": _rate_limit,
    "unavailable": _unavailable,
    "error": _error,
    "echo_key": _echo_key,
}


def _send(
    exchange: Exchange, response: Response, by_kind: dict[str, dict[str, Any]], start_response: StartResponse
) -> Iterable[bytes]:
    if "content_type" in by_kind:
        response.set("Content-Type", by_kind["content_type"]["value"])
    if "clock_skew" in by_kind:
        response.set("Date", exchange.account.clock.http_date(by_kind["clock_skew"]["seconds"]))
    exchange.entry.status = response.status
    if "commit_then_truncate" in by_kind:
        parameters = by_kind["commit_then_truncate"]
        kept = len(response.body) // 2 if parameters["bytes"] is None else parameters["bytes"]
        if parameters["framing"] == "full":
            _send_part(exchange, response, response.body[:kept])
        response.body = response.body[:kept]
    response.set("Content-Length", str(len(response.body)))
    start_response(f"{response.status} {response.reason}", response.headers)
    if "slow_body" in by_kind:
        return _slowly(exchange, response.body, by_kind["slow_body"]["seconds"])
    return [response.body]


def _slowly(exchange: Exchange, body: bytes, seconds: float) -> Iterator[bytes]:
    half = len(body) // 2
    yield body[:half]
    exchange.pause.wait(seconds)
    yield body[half:]


def _send_part(exchange: Exchange, response: Response, part: bytes) -> NoReturn:
    """Promise the whole body, send a part, close: gunicorn would not lie like this, so the bytes go out here."""
    response.set("Content-Length", str(len(response.body)))
    head = f"HTTP/1.1 {response.status} {response.reason}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in response.headers)
    with contextlib.suppress(OSError):
        exchange.environ["gunicorn.socket"].sendall(head.encode("latin-1") + b"\r\n" + part)
    _hang_up(exchange)


def _close(exchange: Exchange) -> NoReturn:
    exchange.entry.status = None
    _hang_up(exchange)


def _hang_up(exchange: Exchange) -> NoReturn:
    """FIN; then whatever the client still sends is read and thrown away."""
    close_graceful(exchange.environ["gunicorn.socket"])
    raise StopIteration  # gunicorn's own word for: nothing more on this connection


def _reset(exchange: Exchange) -> NoReturn:
    exchange.entry.status = None
    reset_connection(exchange.environ["gunicorn.socket"])
    raise StopIteration


def reset_connection(connection: socket.socket) -> None:
    """Close with RST: lingering for zero seconds throws away what was not sent."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
