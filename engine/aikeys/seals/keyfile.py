"""The key file seal: the key that wraps the data key lies in a file beside the program. For development.

Whoever reads both the file and the database reads every secret in it, so keep them on different disks or use a
seal whose key never leaves its home.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from aikeys.durable import sync_names
from aikeys.errors import SealError

_HEADER = "aikeys-seal-key-v1:"
_PURPOSE = b"aikeys data key"
_FINGERPRINT_BYTES = 8
_NONCE_BYTES = 12


class KeyFileSeal:
    """Wraps with AES-256-GCM under the key in `path`.

    `wrap` makes the file (0600) when it is absent: it is asked once, when a new database gets its data key.
    `unwrap` never makes one, since a new key could not open what an old one closed.
    """

    name = "keyfile"

    def __init__(self, path: Path) -> None:
        self.path = path

    def wrap(self, data_key: bytes) -> bytes:
        if not self.path.exists():
            self._create()
        key = self._read()
        try:
            # Before anything is wrapped under it; also where an earlier process has made it and was ended.
            sync_names(self.path.parent)
        except OSError as error:
            raise SealError(f"the key file {self.path} cannot be made sure of: {error.strerror}") from None
        nonce = os.urandom(_NONCE_BYTES)
        return _fingerprint(key) + nonce + AESGCM(key).encrypt(nonce, data_key, _PURPOSE)

    def unwrap(self, wrapped: bytes) -> bytes:
        key = self._read()
        fingerprint, rest = wrapped[:_FINGERPRINT_BYTES], wrapped[_FINGERPRINT_BYTES:]
        if fingerprint != _fingerprint(key):
            raise SealError(
                f"the key file {self.path} is not the one this database was made with: "
                "put the original key file back, or start with an empty data directory"
            )
        try:
            return AESGCM(key).decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], _PURPOSE)
        except InvalidTag:
            raise SealError(
                "the wrapped data key in the database was changed: restore the database from a backup"
            ) from None

    def _create(self) -> None:
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = _HEADER + base64.b64encode(os.urandom(32)).decode() + "\n"
            # Whole or not at all.
            draft = self.path.with_name(self.path.name + ".new")
            draft.unlink(missing_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(self.path)
        except OSError as error:
            raise SealError(f"the key file {self.path} cannot be made: {error.strerror}") from None

    def _read(self) -> bytes:
        try:
            with self.path.open() as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                text = file.read(256)
        except FileNotFoundError:
            raise SealError(
                f"the key file {self.path} is missing, and without it the database cannot be read: "
                "put the original file back, or start with an empty data directory"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            raise SealError(f"the key file {self.path} cannot be read: {error}") from None
        if mode & 0o077:
            raise SealError(
                f"the key file {self.path} can be read by others (mode {mode:04o}): run chmod 600 on it, "
                "and think of its content as known to them"
            )
        try:
            key = base64.b64decode(text.strip().removeprefix(_HEADER), validate=True)
        except binascii.Error:
            key = b""
        if not text.startswith(_HEADER) or len(key) != 32:
            raise SealError(f"{self.path} is no key file of aikeys: put the original file back")
        return key


def _fingerprint(key: bytes) -> bytes:
    return hashlib.sha256(_PURPOSE + key).digest()[:_FINGERPRINT_BYTES]
