"""HTTP/1.1 as bytes: the head of a request written, a response parsed. No sockets, no clocks.

The promises here: no header value can start another header, a response has exactly one meaning (httptools in
its strict mode: no bare LF, no folding, one Content-Length, never beside Transfer-Encoding), what is no body is
bounded, and a response that ends early is an error, never a shorter answer.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import httptools
import httpx

from aikeys.transport.failures import failure
from aikeys.transport.origin import Origin

RawHeaders = Sequence[tuple[bytes, bytes]]

# The transport frames the message itself and keeps the connection as it likes.
_OWN_HEADERS = frozenset({b"content-length", b"transfer-encoding", b"connection", b"keep-alive"})
_BODILESS_METHODS = frozenset({b"GET", b"HEAD", b"DELETE", b"LIST", b"OPTIONS", b"TRACE"})
_METHOD = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_TARGET = re.compile(rb"[\x00-\x20\x7f]")
_IDLE_TIMEOUT = re.compile(rb"(?i)\btimeout=(\d{1,6})")
_NAME_COLON = b": "
_LINE_END = b"\r\n"


def request_head(
    origin: Origin, method: bytes, target: bytes, headers: RawHeaders, content_length: int | None
) -> bytes:
    """Request line and headers. `content_length` None announces a chunked body.

    Content-Length, Transfer-Encoding, Connection and Keep-Alive among `headers` are ours to write and dropped;
    Host is added when missing. Anything that would break out of its line raises `httpx.LocalProtocolError`.
    """
    if not _METHOD.fullmatch(method):
        raise failure(httpx.LocalProtocolError, "the request's method is no HTTP token", sent=False)
    if not target or _NOT_IN_TARGET.search(target):
        raise failure(
            httpx.LocalProtocolError, "the request's path holds a space or a control character", sent=False
        )
    parts = [method, b" ", target, b" HTTP/1.1\r\n"]
    lines = 2
    has_host = False
    for name, value in headers:
        lower = name.lower()
        if lower in _OWN_HEADERS:
            continue
        if lower == b"host":
            has_host = True
        parts += (name, _NAME_COLON, value, _LINE_END)
        lines += 1
    if not has_host:
        parts += (b"Host: ", origin.host_header, _LINE_END)
        lines += 1
    if content_length is None:
        parts.append(b"Transfer-Encoding: chunked\r\n")
        lines += 1
    elif content_length or method not in _BODILESS_METHODS:
        parts.append(b"Content-Length: %d\r\n" % content_length)
        lines += 1
    parts.append(_LINE_END)
    head = b"".join(parts)
    # One scan instead of one per value: a line end that we did not write makes the counts differ.
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise failure(httpx.LocalProtocolError, "a request header holds a line end or a NUL", sent=False)
    return head


def chunked(body: Iterable[bytes]) -> Iterable[bytes]:
    """`body` in the chunked coding."""
    for piece in body:
        if piece:
            yield b"%x\r\n%b\r\n" % (len(piece), piece)
    yield b"0\r\n\r\n"


def exactly(body: Iterable[bytes], length: int) -> Iterable[bytes]:
    """`body`, which must be `length` bytes: a shorter one would make the server wait, a longer one be a request."""
    left = length
    for piece in body:
        left -= len(piece)
        if left < 0:
            break
        yield piece
    if left:
        raise failure(
            httpx.LocalProtocolError, f"the request's body is not the {length} bytes announced", sent=True
        )


def find_header(headers: RawHeaders, name: bytes) -> bytes | None:
    """The first value of the header with this lower-case name."""
    size = len(name)
    for key, value in headers:
        if len(key) == size and key.lower() == name:
            return value
    return None


class _Stop(Exception):
    """Ends a feed from inside a callback; never leaves this module."""


class ResponseReader:
    """Bytes in, one response after another out. One per connection; `start` prepares it for the next response.

    After a `feed`: `headers_done` says that `status`, `reason` and `headers` stand; `take()` hands out the body
    that has come; `complete` says that it is all; `reusable` whether the connection may carry another request,
    and `idle_timeout` after how many idle seconds the server says it closes it.
    """

    __slots__ = (
        "_body",
        "_body_size",
        "_head_only",
        "_max_body",
        "_max_header",
        "_overhead",
        "_parser",
        "_until_eof",
        "_why",
        "complete",
        "headers",
        "headers_done",
        "idle_timeout",
        "reason",
        "reusable",
        "started",
        "status",
    )

    def __init__(self) -> None:
        self._parser: httptools.HttpResponseParser | None = None
        self.start(head_only=False, max_header=0, max_body=None)

    def start(self, *, head_only: bool, max_header: int, max_body: int | None) -> None:
        """Expect the answer to a new request; `head_only` when that was a HEAD."""
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)
        self._head_only = head_only
        self._max_header = max_header
        self._max_body = max_body
        self._overhead = 0
        self._body: list[bytes] = []
        self._body_size = 0
        self._until_eof = False
        self._why = ""
        self.status = 0
        self.reason = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.headers_done = False
        self.complete = False
        self.reusable = False
        self.idle_timeout: int | None = None
        self.started = False

    def drop(self) -> None:
        """Part from the parser, which holds us: no cycle is left for the collector."""
        self._parser = None

    def feed(self, data: bytes) -> None:
        """Raises `httpx.RemoteProtocolError` for what is no HTTP or beyond a bound."""
        assert self._parser is not None
        self.started = True
        before = self._body_size
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.reusable = False
            if self.complete:
                return  # The answer is whole; what followed it costs the connection and nothing else.
            # The parser's own words may quote the server's; ours do not.
            why = self._why or "the server's answer is not valid HTTP"
            raise failure(httpx.RemoteProtocolError, why, sent=True) from error
        except httptools.HttpParserUpgrade as error:
            raise failure(httpx.RemoteProtocolError, "the server switched protocols", sent=True) from error
        if self._body_size != before:
            self._overhead = 0
        elif not self.complete:
            self._overhead += len(data)
            if self._overhead > self._max_header:
                raise self._too_much()

    def eof(self) -> None:
        """The server closed. Completes a body that ends so; otherwise the answer is cut short."""
        self.reusable = False
        if self.complete:
            return
        if not self.started:
            raise failure(httpx.ReadError, "the server closed the connection without an answer", sent=True)
        if not self._until_eof:
            raise failure(httpx.RemoteProtocolError, "the server's answer is cut short", sent=True)
        self.complete = True

    def take(self) -> bytes:
        """The body received since the last call."""
        body = self._body
        if not body:
            return b""
        self._body = []
        return body[0] if len(body) == 1 else b"".join(body)

    def _too_much(self) -> httpx.TransportError:
        return failure(
            httpx.RemoteProtocolError, f"the answer's headers exceed {self._max_header} bytes", sent=True
        )

    # What httptools calls.

    def on_message_begin(self) -> None:
        if self.complete:
            raise _Stop

    def on_status(self, reason: bytes) -> None:
        self.reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.headers_done:  # Afterwards they are trailers, which nobody here asked for.
            # httptools leaves the white space that may follow a value.
            self.headers.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        self.status = self._parser.get_status_code()
        if self.status < 200:
            return
        self.headers_done = True
        size = 0
        framed = self.status in {204, 304}
        for name, value in self.headers:
            length = len(name)
            size += length + len(value) + 4
            # Lengths first: they rule out nearly every header without making a lower-case copy of its name.
            if length == 14 and name.lower() == b"content-length":
                framed = True
                if self._max_body is not None and not self._head_only and int(value) > self._max_body:
                    self._body_too_large()
            elif length == 17 and name.lower() == b"transfer-encoding":
                framed = self._chunked(value)
            elif length == 10 and name.lower() == b"keep-alive" and (found := _IDLE_TIMEOUT.search(value)):
                self.idle_timeout = int(found[1])
        if size > self._max_header:
            self._why = f"the answer's headers exceed {self._max_header} bytes"
            raise _Stop
        self._until_eof = not framed
        self.reusable = self._parser.should_keep_alive()
        if self._head_only:
            # The parser does not know what was asked, and would wait for the body that HEAD leaves out.
            self.complete = True
            self._parser = None

    def _chunked(self, value: bytes) -> bool:
        if value.strip().lower() == b"chunked":
            return True
        self._why = "the answer has a transfer coding other than chunked"
        raise _Stop

    def _body_too_large(self) -> None:
        self._why = f"the answer's body exceeds {self._max_body} bytes"
        raise _Stop

    def on_body(self, data: bytes) -> None:
        if self._head_only:
            self.reusable = False
            return
        self._body_size += len(data)
        if self._max_body is not None and self._body_size > self._max_body:
            self._body_too_large()
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self.headers_done:
            self.complete = True
            return
        # 100 Continue, 103 Early Hints: the answer proper follows.
        self.headers = []
        self.reason = b""
