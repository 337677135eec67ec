"""Everything that is not ours goes to the upstream as it came and comes back as it was answered, streamed both ways.

Not through Flask: the cost of a passed request is two copies of bytes and a few header lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx
import structlog

from aikeys.sidecar import headers as header_rules
from aikeys.sidecar import incoming
from aikeys.sidecar.canonical import Target
from aikeys.sidecar.upstream import Upstream, UpstreamDown, down, redirect_text
from aikeys.transport import RawStream

log = structlog.get_logger(__name__)

StartResponse = Callable[..., Any]

# A body up to this size is read whole before anything is sent: no framing to keep up, one system call.
SMALL_BODY = 64 * 1024


class Passthrough:
    """A WSGI application for one upstream. Raises `UpstreamDown` as long as nothing was answered."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def __call__(
        self,
        environ: dict[str, Any],
        start_response: StartResponse,
        target: Target,
        headers: Sequence[tuple[str, str]],
    ) -> Iterable[bytes]:
        length = incoming.content_length(environ)
        body: bytes | Iterator[bytes]
        if length is not None and length <= SMALL_BODY:
            body = b"".join(incoming.body_pieces(environ)) if length else b""
        else:
            body = incoming.body_pieces(environ)
        try:
            answer = self._upstream.stream(
                str(environ["REQUEST_METHOD"]),
                _printable(target.raw),
                header_rules.forwarded(headers),
                body,
                length,
            )
        except httpx.HTTPError as error:
            raise down(error) from error
        try:
            received = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
            returned = header_rules.returned(received)
            if 300 <= answer.status < 400:
                returned = self._keep_here(answer.status, returned, str(environ.get("HTTP_HOST", "")))
            reason = answer.reason.decode("latin-1") or "Status"
            start_response(f"{answer.status} {reason}", returned)
        except BaseException:
            answer.close()
            raise
        return _Body(answer)

    def _keep_here(self, status: int, headers: Sequence[tuple[str, str]], host: str) -> list[tuple[str, str]]:
        """A redirect must not lead the client past the sidecar: to our upstream it becomes relative, else it is an error."""
        return [
            (name, self._relative(status, value, host) if name.lower() == "location" else value)
            for name, value in headers
        ]

    def _relative(self, status: int, location: str, host: str) -> str:
        parts = urlsplit(location)
        if not parts.scheme and not parts.netloc:
            return location
        here = {self._upstream.origin.host_header.decode("ascii").lower(), host.lower()}
        if parts.netloc.lower() not in here:
            raise UpstreamDown(redirect_text(status))
        return parts._replace(scheme="", netloc="").geturl() or "/"


class _Body:
    """The answer's body, with the `close` that WSGI calls at its end or when the client is gone."""

    def __init__(self, answer: RawStream) -> None:
        self._answer = answer

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._answer)

    def close(self) -> None:
        self._answer.close()


def _printable(target: str) -> str:
    """The target as it came; bytes beyond ASCII, which only careless clients send, percent-encoded."""
    if target.isascii():
        return target
    return "".join(char if char.isascii() else f"%{ord(char):02X}" for char in target)
