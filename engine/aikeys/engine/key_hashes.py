"""What a key is found by when somebody has found it, without being kept: two keyed hashes. No IO.

One is of its fingerprint, which whoever holds the key can compute and send instead of it; the other of its first
characters, which is what logs and scanners show of one. Both are worth nothing without the store's own key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass

# The fixed beginning of a relay's keys ("sk-holysheep-") and at least seven characters of chance.
PREFIX_LENGTH = 20
FINGERPRINT = re.compile(r"[0-9a-f]{64}")

KeyedHash = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class KeyHashes:
    """Hex; "" is not asked for."""

    key: str = ""
    prefix: str = ""


def fingerprint_of(key: str) -> str:
    """The SHA-256 of the key, in hex: `printf %s "$key" | sha256sum`."""
    return hashlib.sha256(key.encode()).hexdigest()


def by_fingerprint(fingerprint: str, keyed_hash: KeyedHash) -> KeyHashes:
    """`fingerprint` is lower-case hex."""
    return KeyHashes(key=_short(keyed_hash(f"key fingerprint\n{fingerprint}")))


def by_prefix(text: str, keyed_hash: KeyedHash) -> KeyHashes:
    """`text` is what a key begins with, of which only the first characters count."""
    return KeyHashes(prefix=_short(keyed_hash(f"key prefix\n{text[:PREFIX_LENGTH]}")))


def hashes_of(key: str, keyed_hash: KeyedHash) -> KeyHashes:
    """Both, for the lease of a new key."""
    by_key = by_fingerprint(fingerprint_of(key), keyed_hash)
    return KeyHashes(by_key.key, by_prefix(key, keyed_hash).prefix)


def _short(digest: str) -> str:
    # 128 bits of it: no two keys meet in them, and every lease has two.
    return digest[:32]
