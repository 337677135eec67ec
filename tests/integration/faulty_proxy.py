"""A TCP proxy between the sidecar and a real server, that can be made to fail on purpose and remembers what it saw."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class FaultyProxy:
    """Passes bytes both ways until told otherwise.

    `hang`: takes connections and requests, and never answers. `refuse`: closes every connection at once. `answer`:
    these bytes are the answer to every request instead of the server's. `cut_after`: so many bytes of the next
    answers, then the connection is closed. `delay`: seconds before every request reaches the server. `passes`: so many
    more requests reach it, and of the next one the connection is closed ("refuse"), no answer comes ("hang"), or the
    server's answer is lost ("lose"), as `then` says; so it goes on until `behave`, and `tripped` tells that it began.
    `requests` are the heads of the requests seen.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (str(parts.hostname), int(parts.port or 80))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.requests: list[bytes] = []
        self._open: set[socket.socket] = set()
        self._stopping = threading.Event()
        self._counting = threading.Lock()
        self.behave()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def behave(self) -> None:
        self.hang = False
        self.refuse = False
        self.answer: bytes | None = None
        self.cut_after: int | None = None
        self.delay = 0.0
        self.passes: int | None = None
        self.then = "refuse"
        self.tripped = False

    def drop_connections(self) -> None:
        """Close what is open, kept-alive connections too."""
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()
        self._thread.join(5)

    def _accept(self) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client:
            if self.refuse:
                return
            self._open.add(client)
            try:
                with socket.create_connection(self._upstream, 10) as server:
                    self._open.add(server)
                    try:
                        self._relay(client, server)
                    finally:
                        self._open.discard(server)
            except OSError:
                pass
            finally:
                self._open.discard(client)

    def _fate(self) -> str:
        """What becomes of one request, "" for nothing."""
        with self._counting:
            if self.passes is None:
                return ""
            self.passes -= 1
            if self.passes >= 0:
                return ""
            self.tripped = True
            return self.then

    def _relay(self, client: socket.socket, server: socket.socket) -> None:
        returned = 0
        with selectors.DefaultSelector() as selector:
            selector.register(client, selectors.EVENT_READ)
            selector.register(server, selectors.EVENT_READ)
            while not self._stopping.is_set():
                for key, _ in selector.select(0.2):
                    source = key.fileobj
                    assert isinstance(source, socket.socket)
                    data = source.recv(65536)
                    if not data:
                        return
                    if source is client:
                        returned = 0
                        self.requests.append(data)
                        self._stopping.wait(self.delay)
                        fate = self._fate()
                        if fate == "refuse":
                            return
                        if self.hang or fate == "hang":
                            continue
                        if fate == "lose":
                            server.sendall(data)
                            server.recv(65536)
                            return
                        if self.answer is not None:
                            client.sendall(self.answer)
                            return
                        server.sendall(data)
                        continue
                    if self.cut_after is not None:
                        data = data[: max(0, self.cut_after - returned)]
                        client.sendall(data)
                        returned += len(data)
                        if returned >= self.cut_after:
                            return
                        continue
                    client.sendall(data)
