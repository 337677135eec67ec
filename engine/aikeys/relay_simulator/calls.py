"""The call log: who asked what, when, and what became of it; never a secret."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

MAX_CALLS = 20_000
_SECRET_HEADERS = frozenset(
    {"HTTP_AUTHORIZATION", "HTTP_X_SIGNATURE", "HTTP_COOKIE", "HTTP_PROXY_AUTHORIZATION"}
)
REDACTED = "[redacted]"
_KEY = re.compile(r"sk-holysheep-[A-Za-z0-9-]+|hs-sign-[A-Za-z0-9_-]+")


@dataclass(slots=True)
class LoggedCall:
    """One call; `status` is None where no status line was sent."""

    number: int
    method: str
    path: str
    query: str
    raw_headers: tuple[tuple[str, str], ...]
    at: float
    node: int
    request_id: str
    principal_id: str | None = None
    status: int | None = None
    faults: tuple[str, ...] = ()

    def render(self) -> dict[str, Any]:
        """The entry of ``GET /_sim/calls``."""
        headers = {name: blank_keys(value) for name, value in self.raw_headers}
        return {
            "number": self.number,
            "method": self.method,
            "path": blank_keys(self.path),
            "query": blank_keys(self.query),
            "headers": headers,
            "idempotency_key": headers.get("idempotency-key"),
            "time": self.at,
            "node": self.node,
            "request_id": self.request_id,
            "principal_id": self.principal_id,
            "status": self.status,
            "faults": list(self.faults),
        }


def blank_keys(text: str) -> str:
    """`text` without anything that looks like a key of this relay, wherever the client put it."""
    return _KEY.sub(REDACTED, text)


def loggable_headers(environ: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Headers by lower-case name; what proves an identity is blanked."""
    headers = [
        (name[5:].replace("_", "-").lower(), REDACTED if name in _SECRET_HEADERS else value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    ]
    if environ.get("CONTENT_TYPE"):
        headers.append(("content-type", environ["CONTENT_TYPE"]))
    if environ.get("CONTENT_LENGTH"):
        headers.append(("content-length", environ["CONTENT_LENGTH"]))
    return tuple(headers)


class CallLog:
    """The last 20,000 calls. Appending is atomic; no lock is needed."""

    def __init__(self) -> None:
        self._calls: deque[LoggedCall] = deque(maxlen=MAX_CALLS)

    def add(self, call: LoggedCall) -> None:
        """Keep `call`."""
        self._calls.append(call)

    def __iter__(self) -> Iterator[LoggedCall]:
        return iter(list(self._calls))

    def clear(self) -> None:
        """Forget all."""
        self._calls.clear()
