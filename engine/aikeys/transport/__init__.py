"""The HTTP client of the hot path: keep-alive connections held per thread, bounded in every direction.

`KeepAliveTransport` is an `httpx.BaseTransport`, and offers two calls that skip httpx's request and response
objects where the CPU they cost matters: `send` (bytes in memory) and `stream`.

``origin``      where a request goes: scheme, host, port
``failures``    httpx's exceptions, each saying whether request bytes had left
``limits``      how long one request may take and how much it may answer
``wire``        the request's head as bytes, the response parsed from bytes; no sockets
``dial``        name look-up, TCP and TLS within one time budget
``connection``  one socket: send, receive, is it still good
``keepalive``   which connection a request takes, and what happens to it afterwards
"""

from aikeys.transport.dial import tls_context
from aikeys.transport.failures import request_was_sent
from aikeys.transport.keepalive import KeepAliveTransport, RawResponse, RawStream
from aikeys.transport.limits import Limits
from aikeys.transport.origin import Origin

__all__ = [
    "KeepAliveTransport",
    "Limits",
    "Origin",
    "RawResponse",
    "RawStream",
    "request_was_sent",
    "tls_context",
]
