"""One address in front of several servers, as a load balancer is: each connection goes to the next of them."""

from __future__ import annotations

import contextlib
import itertools
import selectors
import socket
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Balancer:
    """Passes bytes both ways. `connections` counts those taken."""

    def __init__(self, servers: Sequence[str]) -> None:
        """`servers` are base URLs."""
        parts = [urlsplit(server) for server in servers]
        self._turns = itertools.cycle([(str(part.hostname), int(part.port or 80)) for part in parts])
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.2)
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join(5)
        self._listener.close()

    def _accept(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(TimeoutError):
                client, _ = self._listener.accept()
                with self._lock:
                    self.connections += 1
                    server = next(self._turns)
                threading.Thread(target=self._serve, args=(client, server), daemon=True).start()

    def _serve(self, client: socket.socket, server: tuple[str, int]) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(server, 10) as behind:
            others = {client: behind, behind: client}
            with selectors.DefaultSelector() as selector:
                for end in others:
                    selector.register(end, selectors.EVENT_READ)
                while not self._stopping.is_set():
                    for key, _ in selector.select(0.2):
                        source = key.fileobj
                        assert isinstance(source, socket.socket)
                        data = source.recv(65536)
                        if not data:
                            return
                        others[source].sendall(data)
