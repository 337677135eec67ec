"""HMAC signatures of requests, as the holysheep key API defines them. Pure but for the nonce.

v2 covers method, path, query, time, nonce, the key's id and the body. v1 covers only key, time, nonce and body, with
nothing between them: it exists for relays that know no better.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from urllib.parse import parse_qsl, quote

from aikeys.redaction import SecretString

VERSIONS = ("v2", "v1")
_MARK_V2 = "HS256-V2"


def new_nonce() -> str:
    """128 random bits as 32 hex characters."""
    return secrets.token_hex(16)


def canonical_query(query: str) -> str:
    """The pairs sorted by name, then value, encoded again after RFC 3986."""
    pairs = sorted(parse_qsl(query, keep_blank_values=True))
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)


def mac_v1(
    signing_secret: SecretString, *, api_key: SecretString, timestamp: int, nonce: str, body: bytes
) -> str:
    """Hex HMAC-SHA256 over key, time, nonce and body, one right after the other."""
    return _mac(signing_secret, f"{api_key.reveal()}{timestamp}{nonce}".encode() + body)


def mac_v2(
    signing_secret: SecretString,
    *,
    method: str,
    path: str,
    query: str,
    timestamp: int,
    nonce: str,
    key_id: str,
    body: bytes,
) -> str:
    """Hex HMAC-SHA256 over eight lines. `path` and `query` are as they are sent, percent-encoding untouched."""
    lines = (
        _MARK_V2,
        method,
        path,
        canonical_query(query),
        str(timestamp),
        nonce,
        key_id,
        hashlib.sha256(body).hexdigest(),
    )
    return _mac(signing_secret, "\n".join(lines).encode())


class Signer:
    """Signs requests with one secret. ValueError for a version that there is not."""

    def __init__(self, version: str, signing_secret: SecretString, api_key: SecretString) -> None:
        if version not in VERSIONS:
            raise ValueError(f"signature version {version!r} is unknown: allowed are {', '.join(VERSIONS)}")
        self.version = version
        self._secret = signing_secret
        self._api_key = api_key

    def headers(
        self, *, method: str, path: str, query: str, timestamp: int, nonce: str, key_id: str, body: bytes
    ) -> Sequence[tuple[bytes, bytes]]:
        """The three headers for these very bytes. A repeated request needs a new nonce, and so new headers."""
        if self.version == "v1":
            signature = mac_v1(
                self._secret, api_key=self._api_key, timestamp=timestamp, nonce=nonce, body=body
            )
        else:
            signature = "v2=" + mac_v2(
                self._secret,
                method=method,
                path=path,
                query=query,
                timestamp=timestamp,
                nonce=nonce,
                key_id=key_id,
                body=body,
            )
        return (
            (b"X-Timestamp", str(timestamp).encode()),
            (b"X-Nonce", nonce.encode()),
            (b"X-Signature", signature.encode()),
        )


def _mac(signing_secret: SecretString, message: bytes) -> str:
    return hmac.new(signing_secret.reveal().encode(), message, hashlib.sha256).hexdigest()
