"""From a WSGI environ to an exchange: the headers as received, the body within bounds, who the client is."""

from __future__ import annotations

import errno
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from aikeys.sidecar import envelope
from aikeys.sidecar.canonical import Target
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.sidecar.headers import TrustedProxies

# Bytes read from the client at once while a body is passed on.
PIECE = 64 * 1024
TOO_LARGE = "http: request body too large"

Headers = Sequence[tuple[str, str]]

# Go's server counts a client that closed its side as gone. Linux says so; elsewhere only a full close is seen.
_GONE = getattr(select, "POLLRDHUP", 0) | select.POLLHUP | select.POLLERR

_received = threading.local()


def remember_headers(headers: Headers) -> None:
    """For the request that this thread is about to serve: its headers in order and with repetitions.

    A WSGI environ joins repeated headers, so the server hands them over before it calls the application.
    """
    _received.headers = headers


def take_headers(environ: dict[str, Any]) -> list[tuple[str, str]]:
    """The remembered headers, once; rebuilt from the environ under a server that remembers none."""
    remembered = getattr(_received, "headers", None)
    _received.headers = None
    if remembered is not None:
        return list(remembered)
    rebuilt = [
        (key[5:].replace("_", "-").title(), value)
        for key, value in environ.items()
        if key.startswith("HTTP_") and isinstance(value, str)
    ]
    for key, name in (("CONTENT_TYPE", "Content-Type"), ("CONTENT_LENGTH", "Content-Length")):
        if environ.get(key):
            rebuilt.append((name, environ[key]))
    return rebuilt


def raw_target(environ: dict[str, Any]) -> str:
    """The request target as it arrived (latin-1)."""
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if isinstance(raw, str) and raw:
        return raw
    path = str(environ.get("PATH_INFO", "/")).replace("%", "%25").replace("?", "%3F")
    query = str(environ.get("QUERY_STRING", ""))
    return path + ("?" + query if query else "")


def content_length(environ: dict[str, Any]) -> int | None:
    """None for a chunked body; 0 when there is none."""
    length = environ.get("CONTENT_LENGTH")
    if length:
        return int(length)
    return None if "chunked" in str(environ.get("HTTP_TRANSFER_ENCODING", "")).lower() else 0


class BodyCutShort(ConnectionResetError):
    """The client ended its side before its body was complete: half a request is none."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNRESET, "the client closed the connection in the middle of its request")


def read_body(environ: dict[str, Any], limit: int) -> bytes | Reply:
    """The whole body, or the 413 of Vault's own bound (max_request_size). Raises `BodyCutShort`."""
    length = content_length(environ)
    if length == 0:
        return b""
    if length is not None and length > limit:
        return envelope.errors(413, [TOO_LARGE])
    body: bytes = environ["wsgi.input"].read(limit + 1)
    if len(body) > limit:
        return envelope.errors(413, [TOO_LARGE])
    if length is not None and len(body) < length:
        raise BodyCutShort
    return body


def body_pieces(environ: dict[str, Any]) -> Iterator[bytes]:
    """The body as it comes, for passing on. Raises `BodyCutShort`."""
    stream = environ["wsgi.input"]
    left = content_length(environ)
    while piece := stream.read(PIECE):
        yield piece
        if left is not None:
            left -= len(piece)
    if left:
        raise BodyCutShort


def gone_probe(environ: dict[str, Any]) -> Callable[[], bool]:
    """Tells, without reading, whether the client has closed its connection."""
    socket = environ.get("gunicorn.socket")

    def probe() -> bool:
        if socket is None:
            return False
        poller = select.poll()
        try:
            poller.register(socket, _GONE)
            return any(events & _GONE for _, events in poller.poll(0))
        except (OSError, ValueError):
            return True

    return probe


def make_exchange(
    environ: dict[str, Any], target: Target, headers: Headers, body: bytes, trusted: TrustedProxies
) -> Exchange:
    """`headers` already carry the `X-Forwarded-For` that goes on. `target.path` must be set."""
    assert target.path is not None
    return Exchange(
        method=str(environ["REQUEST_METHOD"]),
        path=target.path,
        raw_path=target.raw_path,
        query_string=target.query_string,
        headers=headers,
        body=body,
        remote_address=trusted.client_address(str(environ.get("REMOTE_ADDR", "")), headers),
        request_id=envelope.new_request_id(),
        environ={"aikeys.client_is_gone": gone_probe(environ)},
    )
