"""A relay that costs next to nothing: each answer comes after a fixed time, from one thread.

The simulator keeps the whole contract and a mint costs it more CPU than the sidecar's share of a revocation; as the
peer of thousands of revocations a second it would measure itself. This one keeps a count, and every key it was asked for.
``python -m tests.bench.fast_relay PORT DELAY_MS``
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from typing import Any

MANAGEMENT_ID = "mk_bench"
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_DELETED = re.compile(rb"DELETE /v1/keys/(\S+) ")


class Books:
    """What was done, for ``GET /counts``."""

    def __init__(self) -> None:
        self.minted = 0
        self.deleted: set[bytes] = set()


class Connection(asyncio.Protocol):
    """Requests come one after the other on a connection, as HTTP/1.1 clients without pipelining send them."""

    def __init__(self, books: Books, delay: float) -> None:
        self._books = books
        self._delay = delay
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, blank, body = self._received.partition(b"\r\n\r\n")
        found = _LENGTH.search(head)
        if not blank or len(body) < (int(found[1]) if found else 0):
            return
        self._received = b""
        status, answer = self._answer(head, body)
        text = json.dumps(answer).encode()
        line = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        delay = 0.0 if head.startswith(b"GET /counts") else self._delay
        asyncio.get_running_loop().call_later(delay, self._send, line.encode() + text)

    def _send(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def _answer(self, head: bytes, body: bytes) -> tuple[str, dict[str, Any]]:
        if deleted := _DELETED.match(head):
            self._books.deleted.add(deleted[1])
            return "200 OK", {"id": deleted[1].decode(), "deleted": True, "effective_within_ms": 0}
        if head.startswith(b"POST /v1/keys "):
            self._books.minted += 1
            order = json.loads(body)
            number = self._books.minted
            shown = {name: order[name] for name in order if name != "auto_rotate"}
            return "201 Created", {
                **shown,
                "id": f"key_fast{number:09d}",
                "key": f"sk-fast-not-a-secret-{number:09d}",
                "status": "active",
                "created_at": int(time.time()),
            }
        if head.startswith(b"GET /counts"):
            return "200 OK", {"minted": self._books.minted, "deleted": len(self._books.deleted)}
        if head.startswith(b"GET /v1/auth/verify"):
            scopes = ["keys:read", "keys:write"]
            return "200 OK", {"kind": "management", "id": MANAGEMENT_ID, "scopes": scopes}
        if head.startswith(b"GET /v1/keys"):
            return "200 OK", {"data": [], "has_more": False}
        return "404 Not Found", {"error": {"code": "not_found", "message": "not served here"}}


async def serve(port: int, delay: float) -> None:
    books = Books()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(books, delay), "127.0.0.1", port, backlog=1024
    )
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1000))
