"""A server that does to each connection exactly what a test says, over real sockets."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType


@dataclass
class Received:
    """One request as it arrived."""

    line: str
    headers: list[tuple[str, str]]
    body: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


@dataclass
class Peer:
    """One accepted connection."""

    sock: socket.socket
    server: ScriptedServer
    _buffer: bytes = field(default=b"", repr=False)

    def request(self) -> Received | None:
        """The next request, whole; None when the client has closed."""
        head = self._until(b"\r\n\r\n")
        if head is None:
            return None
        line, *rows = head.decode("latin-1").split("\r\n")
        headers = [(key, value.strip()) for key, _, value in (row.partition(":") for row in rows)]
        received = Received(line, headers, b"")
        if received.values("Transfer-Encoding") == ["chunked"]:
            received.body = self._chunks()
        elif lengths := received.values("Content-Length"):
            received.body = self._exactly(int(lengths[0]))
        self.server.requests.append(received)
        return received

    def send(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # A client that gave up is part of many scripts.
            self.sock.sendall(data)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_for_close(self) -> bool:
        """Whether the client closed before it sent anything more."""
        self.sock.settimeout(5)
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True
        except OSError:
            return False

    def _until(self, end: bytes) -> bytes | None:
        while end not in self._buffer:
            if not self._more():
                return None
        head, _, self._buffer = self._buffer.partition(end)
        return head

    def _exactly(self, count: int) -> bytes:
        while len(self._buffer) < count and self._more():
            pass
        body, self._buffer = self._buffer[:count], self._buffer[count:]
        return body

    def _chunks(self) -> bytes:
        body = b""
        while (size := self._until(b"\r\n")) is not None:
            piece = self._exactly(int(size, 16) + 2)[:-2]
            if not piece:
                break
            body += piece
        return body

    def _more(self) -> bool:
        try:
            data = self.sock.recv(65536)
        except OSError:
            return False
        self._buffer += data
        return bool(data)


Script = Callable[[Peer], None]


class ScriptedServer:
    """The n-th connection is handled by the n-th script, the last one by all that follow."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts: Sequence[Script] = scripts
        self._tls = tls
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._peers: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.connections = 0
        self.requests: list[Received] = []

    def __enter__(self) -> ScriptedServer:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._peers:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive(), "a script did not end"

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            self._start(self._serve, sock, script)

    def _serve(self, raw: socket.socket, script: Script) -> None:
        sock = raw
        try:
            if self._tls is not None:
                sock = self._tls.wrap_socket(raw, server_side=True, do_handshake_on_connect=False)
            self._peers.append(sock)
            if isinstance(sock, ssl.SSLSocket):
                sock.do_handshake()
            script(Peer(sock, self))
        except OSError:
            pass  # The client went away, or refused our certificate.
        finally:
            sock.close()


def answer(body: bytes = b"ok", status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def always(data: bytes) -> Script:
    """Answer every request on the connection so."""

    def script(peer: Peer) -> None:
        while peer.request() is not None:
            peer.send(data)

    return script


def once(data: bytes) -> Script:
    """Answer one request so, then close."""

    def script(peer: Peer) -> None:
        if peer.request() is not None:
            peer.send(data)

    return script
