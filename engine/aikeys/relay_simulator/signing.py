"""HMAC request signatures, as the server checks them."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

from aikeys.relay_simulator.errors import RelayError

TIMESTAMP_TOLERANCE_SECONDS = 300
NONCE_SECONDS = 600
MAX_NONCES_PER_KEY = 100_000
V2_PREFIX = "v2="
V2_MARK = "HS256-V2"
_NONCE = re.compile(r"[A-Za-z0-9_-]{16,64}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


def canonical_query(query: str) -> str:
    """The raw query's pairs, sorted by name then value, encoded again after RFC 3986."""
    pairs = sorted(parse_qsl(query, keep_blank_values=True))
    return "&".join(f"{quote(name, safe='-._~')}={quote(value, safe='-._~')}" for name, value in pairs)


def mac_v1(secret: str, api_key: str, timestamp: str, nonce: str, body: bytes) -> str:
    """The first scheme: hex HMAC-SHA256 over key, timestamp, nonce and body, joined by nothing."""
    message = f"{api_key}{timestamp}{nonce}".encode() + body
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def mac_v2(
    secret: str, *, method: str, path: str, query: str, timestamp: str, nonce: str, key_id: str, body: bytes
) -> str:
    """The second scheme: hex HMAC-SHA256 over eight lines joined by LF.

    `path` and `query` are as they were sent, percent-encoding untouched.
    """
    lines = (
        V2_MARK,
        method,
        path,
        canonical_query(query),
        timestamp,
        nonce,
        key_id,
        hashlib.sha256(body).hexdigest(),
    )
    return hmac.new(secret.encode(), "\n".join(lines).encode(), hashlib.sha256).hexdigest()


class NonceStore:
    """Nonces seen in the last ten minutes, per key id. Not thread-safe: the account's lock guards it."""

    def __init__(self) -> None:
        self._seen: dict[str, set[str]] = {}
        self._order: dict[str, deque[tuple[float, str]]] = {}

    def insert(self, key_id: str, nonce: str, now: float) -> None:
        """Remember `nonce`; raises ``nonce_reused`` when it is known, ``rate_limit_exceeded`` when there are too many."""
        seen = self._seen.setdefault(key_id, set())
        order = self._order.setdefault(key_id, deque())
        while order and order[0][0] + NONCE_SECONDS <= now:
            seen.discard(order.popleft()[1])
        if nonce in seen:
            raise RelayError("nonce_reused", param="X-Nonce")
        if len(seen) >= MAX_NONCES_PER_KEY:
            raise RelayError("rate_limit_exceeded", retry_after=NONCE_SECONDS)
        seen.add(nonce)
        order.append((now, nonce))


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What a signature covers, as it was received."""

    method: str
    path: str
    query: str
    body: bytes
    headers: Mapping[str, str | None]
    """``X-Timestamp``, ``X-Nonce`` and ``X-Signature``, or None."""


def check_signature(
    request: SignedRequest,
    *,
    secret: str,
    api_key: str,
    key_id: str,
    allow_v1: bool,
    nonces: NonceStore,
    now: float,
) -> None:
    """Check in the order parse, timestamp, MAC, nonce: a stranger never gets as far as the nonce store."""
    timestamp, nonce, signature = (request.headers.get(n) for n in ("X-Timestamp", "X-Nonce", "X-Signature"))
    if not (timestamp and nonce and signature):
        raise RelayError("signature_required")
    if not _TIMESTAMP.fullmatch(timestamp):
        raise RelayError("invalid_signature", param="X-Timestamp")
    if not _NONCE.fullmatch(nonce):
        raise RelayError("invalid_signature", param="X-Nonce")
    if abs(int(timestamp) - now) > TIMESTAMP_TOLERANCE_SECONDS:
        raise RelayError("timestamp_out_of_range", param="X-Timestamp")
    if signature.startswith(V2_PREFIX):
        given = signature[len(V2_PREFIX) :]
        expected = mac_v2(
            secret,
            method=request.method,
            path=request.path,
            query=request.query,
            timestamp=timestamp,
            nonce=nonce,
            key_id=key_id,
            body=request.body,
        )
    elif allow_v1:
        given, expected = signature, mac_v1(secret, api_key, timestamp, nonce, request.body)
    else:
        raise RelayError("invalid_signature", "This signature scheme is not accepted", param="X-Signature")
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise RelayError("invalid_signature", param="X-Signature")
    nonces.insert(key_id, nonce, now)
