"""Our answers behind the upstream's wrapping tokens: kept sealed in the store, found by a keyed hash of the token.

The upstream wrapped the shadow's marker; what is kept here takes the marker's place when the token is unwrapped
through the sidecar.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from aikeys.storage.interface import Store
from aikeys.storage.records import WrappedRecord

_VAULT_INNER = re.compile(rb"hvs\.[A-Za-z0-9]{24}")


def canonical_token(token: str) -> str:
    """One text for every form in which a wrapping token may come back.

    `X-Vault-Wrap-Format: jwt` hides the token in the claim `jti`; Vault's long service tokens hold the short one
    that the server accepts as well.
    """
    parts = token.split(".")
    if len(parts) == 3 and token.startswith("eyJ"):
        claims = _decoded(parts[1])
        try:
            found = json.loads(claims).get("jti")
        except (ValueError, AttributeError):
            return token
        return canonical_token(found) if isinstance(found, str) and found != token else token
    if token.startswith("hvs.") and len(token) > 28:
        inner = _VAULT_INNER.search(_decoded(token[4:]))
        if inner is not None:
            return inner.group().decode()
    return token


def _decoded(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError):
        return b""


class WrappedAnswers:
    """Put at the time of wrapping, taken once by whoever serves `sys/wrapping/unwrap`."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def put(self, wrap_info: Mapping[str, Any], envelope: dict[str, Any], lease_id: str = "") -> None:
        """`wrap_info` as the upstream gave it; `envelope` is the whole answer that an unwrap is to yield."""
        created = datetime.fromisoformat(str(wrap_info["creation_time"]))
        accessor = str(wrap_info.get("accessor") or "")
        self._store.put_wrapped(
            WrappedRecord(
                token_hash=self.hash(str(wrap_info["token"])),
                accessor_hash=self._store.keyed_hash(accessor) if accessor else "",
                envelope=envelope,
                lease_id=lease_id,
                expires_at=created + timedelta(seconds=int(wrap_info["ttl"])),
            )
        )

    def hash(self, token: str) -> str:
        """Under which the answer behind this token lies, whatever form of it is given."""
        return self._store.keyed_hash(canonical_token(token))

    def peek(self, token: str) -> WrappedRecord | None:
        return self._store.wrapped(self.hash(token))

    def take(self, token: str) -> WrappedRecord | None:
        """Read and remove, once."""
        return self._store.take_wrapped(self.hash(token))
