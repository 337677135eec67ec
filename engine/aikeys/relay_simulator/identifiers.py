"""Ids and secrets: ULIDs that ascend with creation, base62 secrets; repeatable when seeded."""

from __future__ import annotations

import base64
import os
import random

from aikeys.relay_simulator.clock import Clock

CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

DATA_KEY_PREFIX = "sk-holysheep-"
MANAGEMENT_KEY_PREFIX = "sk-holysheep-admin-"
SIGNING_SECRET_PREFIX = "hs-sign-"

# Names a file to which every secret is added as it is made, one in a line: the book of a run whose output is searched
# for them afterwards.
SECRETS_FILE = "RELAY_SIMULATOR_SECRETS_FILE"

# 2026-01-01T00:00:00Z in milliseconds: where the time part of seeded ids starts, so that two runs agree.
_SEEDED_EPOCH_MS = 1_767_225_600_000
_SECRET_SPACE = 62**32


class Identifiers:
    """Makes ids and secrets. Not thread-safe: the account's lock guards it."""

    def __init__(self, clock: Clock, seed: int | None = None) -> None:
        self._clock = clock
        self._random: random.Random = random.SystemRandom() if seed is None else random.Random(seed)  # noqa: S311 - repeatable on request
        self._seeded = seed is not None
        self._last = 0

    def ulid(self) -> str:
        """26 characters, each greater than the one before, whatever the clock did meanwhile."""
        if self._seeded:
            milliseconds = max(_SEEDED_EPOCH_MS, (self._last >> 80) + 1)
        else:
            milliseconds = int(self._clock.now() * 1000)
        value = (milliseconds << 80) | self._random.getrandbits(79)
        self._last = value if value > self._last else self._last + 1
        return _crockford(self._last)

    def key_id(self) -> str:
        """Id of a data key."""
        return "key_" + self.ulid()

    def management_key_id(self) -> str:
        """Id of a management key."""
        return "mgmt_" + self.ulid()

    def lineage_id(self) -> str:
        """Id shared by a key and everything it is rotated into."""
        return "lin_" + self.ulid()

    def data_key(self) -> str:
        """Secret of a data key: 45 characters."""
        return noted(DATA_KEY_PREFIX + self._base62())

    def management_key(self) -> str:
        """Secret of a management key."""
        return noted(MANAGEMENT_KEY_PREFIX + self._base62())

    def signing_secret(self) -> str:
        """Secret that signs requests: 43 base64url characters behind the prefix."""
        raw = self._random.getrandbits(256).to_bytes(32, "big")
        return noted(SIGNING_SECRET_PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode())

    def _base62(self) -> str:
        value = self._random.getrandbits(256) % _SECRET_SPACE
        digits = []
        for _ in range(32):
            value, digit = divmod(value, 62)
            digits.append(BASE62[digit])
        return "".join(digits)


def noted(secret: str) -> str:
    """The secret, which stands in the book as well where there is one (`SECRETS_FILE`)."""
    book = os.environ.get(SECRETS_FILE)
    if book:
        descriptor = os.open(book, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            # One write each: several processes keep one book.
            os.write(descriptor, f"{secret}\n".encode())
        finally:
            os.close(descriptor)
    return secret


def _crockford(value: int) -> str:
    digits = []
    for _ in range(26):
        digits.append(CROCKFORD[value & 31])
        value >>= 5
    return "".join(reversed(digits))
