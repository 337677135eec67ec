"""A client that sends whatever bytes it is given, and says what came back."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import httptools


@dataclass
class Answer:
    """`status` 0: the connection ended without an answer. `closed`: it can carry no other request."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    closed: bool = False

    @property
    def text(self) -> str:
        return self.body[:300].decode(errors="replace")


class Unanswered(Exception):
    """The server neither answered nor closed the connection in time."""


class _Reading:
    """What httptools calls."""

    def __init__(self, head_only: bool) -> None:
        self.answer = Answer()
        self.done = False
        self._head_only = head_only
        self.parser = httptools.HttpResponseParser(self)

    def on_message_begin(self) -> None:
        self.answer = Answer()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self.answer.status = self.parser.get_status_code()
        self.answer.closed = not self.parser.should_keep_alive()
        if self._head_only and self.answer.status >= 200:
            # The length that is told is not that of a body that follows.
            self.answer.closed = self.done = True

    def on_body(self, data: bytes) -> None:
        self.answer.body += data

    def on_message_complete(self) -> None:
        self.done = self.done or self.answer.status >= 200


class Client:
    """One connection at a time, kept as long as the server keeps it. Times in seconds."""

    def __init__(self, address: str, timeout: float) -> None:
        parts = urlsplit(address)
        self._peer = (parts.hostname or "", parts.port or 80)
        self._timeout = timeout
        self._socket: socket.socket | None = None

    def ask(self, raw: bytes, *, head_only: bool = False, last: bool = False) -> Answer:
        """The first answer to these bytes; `last`: close afterwards. Raises `Unanswered`.

        A kept connection that the server has closed meanwhile is replaced once, as every client does.
        """
        kept = self._socket is not None
        answer = self._ask(raw, head_only)
        if kept and answer.status == 0:
            self.close()
            answer = self._ask(raw, head_only)
        if last or answer.closed or answer.status == 0:
            self.close()
        return answer

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, raw: bytes, head_only: bool) -> Answer:
        reading = _Reading(head_only)
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._peer, self._timeout)
            self._socket.sendall(raw)
            while not reading.done:
                data = self._socket.recv(65536)
                if not data:
                    # Go ends some refusals with the connection.
                    reading.answer.closed = True
                    break
                reading.parser.feed_data(data)
        except TimeoutError:
            self.close()
            raise Unanswered from None
        except ConnectionError:
            reading.answer.closed = True
        return reading.answer
