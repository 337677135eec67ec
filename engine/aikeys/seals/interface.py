"""A seal wraps the data key that encrypts what the store keeps, and is the only thing that can unwrap it."""

from __future__ import annotations

from typing import Protocol


class Seal(Protocol):
    """Raises `aikeys.errors.SealError` with what to do when it cannot."""

    name: str

    def wrap(self, data_key: bytes) -> bytes: ...

    def unwrap(self, wrapped: bytes) -> bytes: ...
