"""httpx's own exceptions, with the one fact that decides what a failed call may have done: did bytes leave?"""

from __future__ import annotations

import httpx


def failure(kind: type[httpx.TransportError], message: str, *, sent: bool) -> httpx.TransportError:
    """A `kind` with the attribute `request_sent`: whether any byte of the request may have reached the server."""
    error = kind(message)
    error.request_sent = sent  # type: ignore[attr-defined]
    return error


def request_was_sent(error: httpx.TransportError) -> bool:
    """Whether the server may have seen the request. True for exceptions that do not say: the careful answer."""
    return bool(getattr(error, "request_sent", True))
