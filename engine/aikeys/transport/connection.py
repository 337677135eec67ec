"""One socket that carries requests one after another. It is used by one thread at a time."""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import time
from collections.abc import Iterable

import httpx

from aikeys.transport.dial import dial
from aikeys.transport.failures import failure
from aikeys.transport.limits import HasEnd, Limits, wait_milliseconds
from aikeys.transport.origin import Origin
from aikeys.transport.wire import ResponseReader

# More than a TLS record, which holds 16 KiB at most.
_RECEIVE = 64 * 1024
_WANT_READ = (BlockingIOError, ssl.SSLWantReadError)
_IN = select.POLLIN
_OUT = select.POLLOUT


class _EarlyAnswer(Exception):
    """The server answers before it has read the whole request; never leaves this module."""


class Connection:
    """`sent`: a byte of the current request may have left. `spent`: no further request may follow on it."""

    __slots__ = (
        "_deadline",
        "_limits",
        "_poller",
        "_secure",
        "_sock",
        "idle_until",
        "key",
        "reader",
        "sent",
        "spent",
    )

    def __init__(
        self, origin: Origin, context: ssl.SSLContext | None, limits: Limits, deadline: HasEnd | None
    ) -> None:
        self._sock: socket.socket = dial(origin, context, limits, deadline)
        self._secure = isinstance(self._sock, ssl.SSLSocket)
        self._poller = select.poll()
        self._poller.register(self._sock, _IN)
        self._limits = limits
        self._deadline = deadline
        self.reader = ResponseReader()
        self.key = origin.key
        self.sent = False
        self.spent = False
        self.idle_until = 0.0

    def __del__(self) -> None:
        # A thread that ends leaves its idle connections behind.
        if hasattr(self, "_sock"):
            self.close()

    def close(self) -> None:
        self.reader.drop()
        self._sock.close()

    def usable(self) -> bool:
        """Whether an idle connection may carry another request: open, silent, and not idle for too long."""
        if time.monotonic() > self.idle_until:
            return False
        if not self._poller.poll(0):
            return True
        if not self._secure:
            return False  # Closed by the server, or it talks without being asked.
        try:
            self._sock.recv(1)
        except ssl.SSLWantReadError:
            return True  # Only TLS itself had something to say, such as a session ticket.
        except OSError:
            return False
        return False

    def send(
        self,
        head: bytes,
        body: bytes | Iterable[bytes],
        limits: Limits,
        deadline: HasEnd | None,
        *,
        head_only: bool,
    ) -> None:
        """Raises `httpx.WriteError` or `httpx.WriteTimeout`. A server that answers early ends it quietly."""
        self._limits = limits
        self._deadline = deadline
        self.sent = False
        self.reader.start(head_only=head_only, max_header=limits.max_header, max_body=limits.max_body)
        try:
            if not isinstance(body, bytes):
                self._send_all(head)
                for piece in body:
                    if piece:
                        self._send_all(piece)
            elif len(body) <= _RECEIVE:
                self._send_all(head + body if body else head)
            else:
                self._send_all(head)
                self._send_all(body)
        except _EarlyAnswer:
            self.spent = True

    def receive(self) -> None:
        """Feed the reader once. Raises `httpx.ReadError`, `ReadTimeout` or `RemoteProtocolError`."""
        while True:
            # Over TLS too: one receive takes a whole record, so nothing decrypted is ever left behind.
            self._wait_readable()
            try:
                data = self._sock.recv(_RECEIVE)
            except _WANT_READ:
                continue
            except OSError as error:
                raise failure(
                    httpx.ReadError, f"the connection broke while waiting ({_name(error)})", sent=self.sent
                ) from error
            if data:
                self.reader.feed(data)
            else:
                self.reader.eof()
            return

    def _wait_readable(self) -> None:
        if not self._poller.poll(wait_milliseconds(self._limits.read, self._deadline)):
            raise failure(httpx.ReadTimeout, "the server did not answer in time", sent=self.sent)

    def _send_all(self, data: bytes) -> None:
        view: bytes | memoryview = data
        while True:
            try:
                if self._secure:
                    self.sent = True  # How much of a TLS record left before an error is not ours to know.
                count = self._sock.send(view)
            except BlockingIOError:
                self._wait_writable()
                continue
            except ssl.SSLWantWriteError:
                self._wait_writable()
                continue
            except ssl.SSLWantReadError:
                self._wait_readable()
                continue
            except OSError as error:
                if self.sent and self._answer_is_there():
                    raise _EarlyAnswer from error
                raise failure(
                    httpx.WriteError, f"the connection broke while sending ({_name(error)})", sent=self.sent
                ) from error
            self.sent = True
            if count == len(view):
                return
            view = memoryview(view)[count:]

    def _answer_is_there(self) -> bool:
        with contextlib.suppress(OSError, ValueError):
            return not self._secure and bool(self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        return False

    def _wait_writable(self) -> None:
        poller = select.poll()
        # TLS is readable for reasons of its own, so only plain text can tell an answer that comes early.
        watch_answer = self.sent and not self._secure
        poller.register(self._sock, _IN | _OUT if watch_answer else _OUT)
        events = poller.poll(wait_milliseconds(self._limits.write, self._deadline))
        if not events:
            raise failure(httpx.WriteTimeout, "the server did not read the request in time", sent=self.sent)
        if watch_answer and not events[0][1] & _OUT:
            raise _EarlyAnswer


def _name(error: OSError) -> str:
    return error.strerror or type(error).__name__
