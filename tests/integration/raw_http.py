"""HTTP/1.1 to the byte: for requests that no client library would send, and answers that none would show."""

from __future__ import annotations

import socket
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class RawReply:
    status: int
    reason: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]


def connect(address: str, timeout: float = 20.0) -> socket.socket:
    parts = urlsplit(address)
    assert parts.hostname is not None
    return socket.create_connection((parts.hostname, parts.port or 80), timeout)


def head(method: str, target: str | bytes, headers: list[tuple[str, str]]) -> bytes:
    raw = target if isinstance(target, bytes) else target.encode("latin-1")
    lines = [method.encode() + b" " + raw + b" HTTP/1.1", b"Host: vault.test"]
    lines += [f"{name}: {value}".encode("latin-1") for name, value in headers]
    return b"\r\n".join([*lines, b"", b""])


def ask(
    address: str,
    method: str,
    target: str | bytes,
    headers: list[tuple[str, str]] | None = None,
    body: bytes = b"",
) -> RawReply:
    """One request on a connection of its own; `Content-Length` is added when there is a body."""
    sent = list(headers or [])
    if body and not any(name.lower() in {"content-length", "transfer-encoding"} for name, _ in sent):
        sent.append(("Content-Length", str(len(body))))
    with connect(address) as connection:
        connection.sendall(head(method, target, [*sent, ("Connection", "close")]) + body)
        return read_reply(connection, head_only=method == "HEAD")


def converse(address: str, raw: bytes, *, half_closed: bool = False) -> tuple[list[RawReply], bool]:
    """Everything that is answered to these bytes, and whether the server closed the connection afterwards.

    Waits for the close, so end with a request that asks for it, or with something that no server goes on after.
    `half_closed`: end our side after the bytes, as a client that breaks off does.
    """
    data = b""
    with connect(address) as connection:
        try:
            connection.sendall(raw)
            if half_closed:
                connection.shutdown(socket.SHUT_WR)
            while piece := connection.recv(65536):
                data += piece
        except TimeoutError:
            return split(data), False
        except ConnectionError:
            # Closed while bytes of ours were still under way.
            pass
    return split(data), True


def split(data: bytes) -> list[RawReply]:
    """Answers that stand one after another, none to a HEAD; interim ones left out."""
    found = []
    while data:
        top, _, rest = data.partition(b"\r\n\r\n")
        reply = parse(top + b"\r\n\r\n", head_only=True)
        length = reply.header("Content-Length")
        if "chunked" in (reply.header("Transfer-Encoding") or ""):
            reply.body, data = _joined(rest)
        elif length is not None or reply.status in {100, 204, 304}:
            reply.body, data = rest[: int(length or 0)], rest[int(length or 0) :]
        else:
            reply.body, data = rest, b""
        if reply.status != 100:
            found.append(reply)
    return found


def read_reply(connection: socket.socket, *, head_only: bool = False) -> RawReply:
    """The answer up to the end of the connection, chunks joined."""
    data = b""
    while piece := connection.recv(65536):
        data += piece
    return parse(data, head_only=head_only)


def parse(data: bytes, *, head_only: bool = False) -> RawReply:
    top, _, body = data.partition(b"\r\n\r\n")
    lines = top.decode("latin-1").split("\r\n")
    _, status, *reason = lines[0].split(" ", 2)
    headers = []
    for line in lines[1:]:
        name, _, value = line.partition(":")
        headers.append((name, value.strip()))
    reply = RawReply(int(status), " ".join(reason), headers)
    chunked = "chunked" in (reply.header("Transfer-Encoding") or "")
    reply.body = b"" if head_only else (_joined(body)[0] if chunked else body)
    return reply


def _joined(body: bytes) -> tuple[bytes, bytes]:
    """A chunked body (without trailers), and what stands behind it."""
    whole = b""
    while True:
        size, _, rest = body.partition(b"\r\n")
        length = int(size.split(b";")[0], 16)
        if length == 0:
            return whole, rest[2:]
        whole += rest[:length]
        body = rest[length + 2 :]
