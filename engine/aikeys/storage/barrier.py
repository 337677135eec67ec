"""The barrier between memory and disk: every `sealed_*` column passes here (Vault: vault/barrier_aes_gcm.go).

A box is one byte of key version, a random 96-bit nonce and AES-256-GCM's output. Its additional data names the
table, the row and the column, so a box moved to another row does not open. The data key lies in the database,
wrapped by a seal; keyed hashes use a second key derived from it. Random nonces bound one data key to 2^32 boxes
(NIST SP 800-38D, 8.3): 40 days of 1,200 leases a second without a pause.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from aikeys.errors import StorageError

KEY_BYTES = 32
NONCE_BYTES = 12


def new_data_key() -> bytes:
    return os.urandom(KEY_BYTES)


class Barrier:
    """Seals and opens values under one data key. Safe for many threads."""

    def __init__(self, data_key: bytes, version: int = 1) -> None:
        if len(data_key) != KEY_BYTES:
            raise StorageError(
                f"the data key has {len(data_key)} bytes instead of {KEY_BYTES}: the seal returned something else"
            )
        self._aead = AESGCM(data_key)
        self._prefix = bytes([version])
        self._hash_key = HKDF(SHA256(), KEY_BYTES, salt=None, info=b"aikeys keyed hash").derive(data_key)

    def seal(self, plain: bytes, table: str, row: str, column: str) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return self._prefix + nonce + self._aead.encrypt(nonce, plain, _place(table, row, column))

    def open(self, box: bytes, table: str, row: str, column: str) -> bytes:
        """StorageError when the box was changed, moved or sealed under another key."""
        if box[:1] != self._prefix:
            raise StorageError(f"{table}.{column} of {row}: sealed under an unknown version of the data key")
        start = 1 + NONCE_BYTES
        try:
            return self._aead.decrypt(box[1:start], box[start:], _place(table, row, column))
        except (InvalidTag, ValueError):
            # ValueError: too short to hold a nonce.
            raise StorageError(
                f"{table}.{column} of {row} does not open: it was changed or moved in the database file; restore a backup"
            ) from None

    def seal_json(self, value: dict[str, Any], table: str, row: str, column: str) -> bytes:
        return self.seal(json.dumps(value, separators=(",", ":")).encode(), table, row, column)

    def open_json(self, box: bytes, table: str, row: str, column: str) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.open(box, table, row, column))
        return value

    def keyed_hash(self, value: str) -> str:
        """HMAC-SHA256 in hex: the same here always, worth nothing to a reader of the disk."""
        return hmac.new(self._hash_key, value.encode(), hashlib.sha256).hexdigest()


def _place(table: str, row: str, column: str) -> bytes:
    # Lengths in front: no two places yield the same bytes.
    return b"".join(
        len(part).to_bytes(4, "big") + part for part in (table.encode(), row.encode(), column.encode())
    )
