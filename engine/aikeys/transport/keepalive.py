"""Which connection a request takes, and what becomes of it.

Connections are kept per thread, so no lock is taken and none waited for. Nothing is repeated, with one
exception: a kept connection that turns out dead is replaced once, if no byte of the request had left, or if the
caller declared the request idempotent and no byte of an answer had come.
"""

from __future__ import annotations

import os
import ssl
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import httpx

from aikeys.transport.connection import Connection
from aikeys.transport.dial import tls_context
from aikeys.transport.failures import failure
from aikeys.transport.limits import HasEnd, Limits
from aikeys.transport.origin import Origin
from aikeys.transport.wire import RawHeaders, chunked, exactly, find_header, request_head

_MAX_IDLE_PER_ORIGIN = 4
_MAX_ORIGINS_REMEMBERED = 256
_DEFAULT_LIMITS = Limits()


class RawResponse:
    """A whole answer. `headers` are as received: order, case and repetition kept."""

    __slots__ = ("body", "headers", "reason", "status")

    def __init__(self, status: int, reason: bytes, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body

    def header(self, name: bytes) -> bytes | None:
        """The first value of the header with this lower-case name."""
        return find_header(self.headers, name)


class RawStream(httpx.SyncByteStream):
    """An answer whose body is still to come: iterate once, then `close`. The body is as sent, not decoded."""

    def __init__(self, transport: KeepAliveTransport, connection: Connection) -> None:
        reader = connection.reader
        self.status = reader.status
        self.reason = reader.reason
        self.headers = reader.headers
        self._transport = transport
        self._connection: Connection | None = connection

    def header(self, name: bytes) -> bytes | None:
        """The first value of the header with this lower-case name."""
        return find_header(self.headers, name)

    def __iter__(self) -> Iterator[bytes]:
        connection = self._connection
        if connection is None:
            return
        reader = connection.reader
        try:
            while True:
                if piece := reader.take():
                    yield piece
                if reader.complete:
                    break
                connection.receive()
        finally:
            self.close()

    def close(self) -> None:
        """Give the connection back when the answer was read to its end, else end it. May be repeated."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._transport._release(connection)


class _ThreadPool:
    """The idle connections of one thread, by origin; the one used last is taken first."""

    __slots__ = ("__weakref__", "idle", "pid")

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.idle: dict[str, list[Connection]] = {}


class KeepAliveTransport(httpx.BaseTransport):
    """Safe for many threads. No proxies, no redirects, no decoding, no repetition but the one told above.

    Raises httpx's exceptions; `request_was_sent(error)` says whether the server may have seen the request.
    `limits` hold where a call brings none. `max_idle` is in seconds: keep it below the server's own; 0 keeps none.
    """

    def __init__(
        self, *, limits: Limits = _DEFAULT_LIMITS, tls: ssl.SSLContext | None = None, max_idle: float = 50.0
    ) -> None:
        self._limits = limits
        self._tls = tls
        self._tls_lock = threading.Lock()
        self._max_idle = max_idle
        self._local = threading.local()
        self._pools: weakref.WeakSet[_ThreadPool] = weakref.WeakSet()
        self._pools_lock = threading.Lock()
        self._closed = threading.Event()
        self._origins: dict[tuple[str, bytes, int | None], Origin] = {}

    def send(
        self,
        origin: Origin,
        method: bytes,
        target: bytes,
        headers: RawHeaders = (),
        body: bytes = b"",
        *,
        limits: Limits | None = None,
        deadline: HasEnd | None = None,
    ) -> RawResponse:
        """One request, the whole answer in memory. `target` is path and query as they are to be sent."""
        connection = self._ask(
            origin,
            method,
            target,
            headers,
            body,
            content_length=len(body),
            limits=limits or self._limits,
            deadline=deadline,
        )
        reader = connection.reader
        try:
            while not reader.complete:
                connection.receive()
        except BaseException:
            connection.close()
            raise
        response = RawResponse(reader.status, reader.reason, reader.headers, reader.take())
        self._release(connection)
        return response

    def stream(
        self,
        origin: Origin,
        method: bytes,
        target: bytes,
        headers: RawHeaders = (),
        body: bytes | Iterable[bytes] = b"",
        *,
        content_length: int | None = None,
        limits: Limits | None = None,
        deadline: HasEnd | None = None,
    ) -> RawStream:
        """One request, the answer's body as it comes.

        A `body` that is no `bytes` is sent as it is produced: with its `content_length`, which it must keep, or
        chunked when that is None.
        """
        pieces: bytes | Iterable[bytes]
        if isinstance(body, bytes):
            content_length, pieces = len(body), body
        elif content_length is None:
            pieces = chunked(body)
        else:
            pieces = exactly(body, content_length)
        connection = self._ask(
            origin,
            method,
            target,
            headers,
            pieces,
            content_length=content_length,
            limits=limits or self._limits,
            deadline=deadline,
        )
        return RawStream(self, connection)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """httpx's interface. Extensions: "timeout" (httpx's own), "deadline" (has `at`), "idempotent" (bool)."""
        url = request.url
        body: bytes | Iterable[bytes]
        try:
            body, content_length = request.content, None
        except httpx.RequestNotRead:
            assert isinstance(request.stream, httpx.SyncByteStream)
            body, length = request.stream, request.headers.get("content-length")
            content_length = int(length) if length is not None else None
        stream = self.stream(
            self._origin(url.scheme, url.raw_host, url.port),
            request.method.encode("ascii"),
            url.raw_path,
            request.headers.raw,
            body,
            content_length=content_length,
            limits=self._limits_of(request.extensions),
            deadline=request.extensions.get("deadline"),
        )
        return httpx.Response(
            stream.status,
            headers=stream.headers,
            stream=stream,
            extensions={"http_version": b"HTTP/1.1", "reason_phrase": stream.reason},
        )

    def close(self) -> None:
        """End every idle connection. Calls under way finish; later ones work, but keep nothing alive."""
        self._closed.set()
        with self._pools_lock:
            pools = list(self._pools)
        for pool in pools:
            for idle in list(pool.idle.values()):
                _drain(idle)

    def _origin(self, scheme: str, raw_host: bytes, port: int | None) -> Origin:
        key = (scheme, raw_host, port)
        origin = self._origins.get(key)
        if origin is None:
            try:
                origin = Origin(scheme, raw_host.decode("ascii"), port)
            except ValueError as error:
                raise failure(httpx.UnsupportedProtocol, str(error), sent=False) from error
            if len(self._origins) >= _MAX_ORIGINS_REMEMBERED:
                self._origins.clear()
            self._origins[key] = origin
        return origin

    def _limits_of(self, extensions: dict[str, Any]) -> Limits:
        timeout = extensions.get("timeout")
        idempotent = bool(extensions.get("idempotent", self._limits.idempotent))
        if timeout is None:
            return replace(self._limits, idempotent=idempotent)
        return replace(
            self._limits,
            connect=timeout.get("connect"),
            read=timeout.get("read"),
            write=timeout.get("write"),
            idempotent=idempotent,
        )

    def _ask(
        self,
        origin: Origin,
        method: bytes,
        target: bytes,
        headers: RawHeaders,
        body: bytes | Iterable[bytes],
        *,
        content_length: int | None,
        limits: Limits,
        deadline: HasEnd | None,
    ) -> Connection:
        """A connection on which the request was sent and the head of its answer has come."""
        head = request_head(origin, method, target, headers, content_length)
        if deadline is not None and deadline.at <= time.monotonic():
            raise failure(httpx.PoolTimeout, "the time was over before the request was sent", sent=False)
        connection = self._take(origin)
        kept = connection is not None
        while True:
            if connection is None:
                connection = Connection(origin, self._context(origin), limits, deadline)
            reader = connection.reader
            try:
                connection.send(head, body, limits, deadline, head_only=method == b"HEAD")
                while not reader.headers_done:
                    connection.receive()
                return connection
            except (httpx.ReadError, httpx.WriteError):
                connection.close()
                dead_before_use = not reader.started and (
                    not connection.sent or (limits.idempotent and isinstance(body, bytes))
                )
                if not (kept and dead_before_use):
                    raise
                kept, connection = False, None
            except BaseException:
                connection.close()
                raise

    def _take(self, origin: Origin) -> Connection | None:
        idle = self._pool().idle.get(origin.key)
        while idle:
            try:
                connection = idle.pop()
            except IndexError:  # `close` in another thread was faster.
                return None
            if connection.usable():
                return connection
            connection.close()
        return None

    def _release(self, connection: Connection) -> None:
        reader = connection.reader
        if connection.spent or not (reader.complete and reader.reusable):
            connection.close()
            return
        keep = self._max_idle
        if reader.idle_timeout is not None:
            # A second earlier than the server: what it closes while a request travels is lost.
            keep = min(keep, reader.idle_timeout - 1)
        if keep <= 0:
            connection.close()
            return
        connection.idle_until = time.monotonic() + keep
        idle = self._pool().idle.setdefault(connection.key, [])
        if len(idle) >= _MAX_IDLE_PER_ORIGIN:
            connection.close()
            return
        idle.append(connection)
        if (
            self._closed.is_set()
        ):  # Asked last: closed while we were adding, this is seen by us or by `close`.
            _drain(idle)

    def _pool(self) -> _ThreadPool:
        pool: _ThreadPool | None = getattr(self._local, "pool", None)
        if pool is None or pool.pid != os.getpid():
            # After a fork the sockets are the parent's: two processes must not talk on one connection.
            pool = self._local.pool = _ThreadPool()
            with self._pools_lock:
                self._pools.add(pool)
        return pool

    def _context(self, origin: Origin) -> ssl.SSLContext | None:
        if not origin.secure:
            return None
        with self._tls_lock:
            if self._tls is None:
                self._tls = tls_context()
            return self._tls


def _drain(idle: list[Connection]) -> None:
    while idle:
        try:
            idle.pop().close()
        except IndexError:
            return
