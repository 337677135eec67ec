"""Idempotency keys: an equal request is answered again, another one under the same key is refused.

Only a committed success is recorded. A call that was refused, or failed before it committed, leaves nothing, so
that it may be corrected and sent again.
"""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aikeys.relay_simulator.errors import RelayError

RECORD_SECONDS = 24 * 3600
PLAINTEXT_SECONDS = 10 * 60
KEY_FIELDS = ("key", "api_key", "new_api_key", "signing_secret")

Scope = tuple[str, str, str]
"""Management key id, path, idempotency key."""


@dataclass(frozen=True, slots=True)
class Replay:
    """The recorded answer, to be sent again."""

    status: int
    body: dict[str, Any]


@dataclass(slots=True)
class _Record:
    digest: bytes
    status: int | None = None
    body: str | None = None
    completed_at: float = 0.0


def body_digest(body: Mapping[str, Any]) -> bytes:
    """SHA-256 of the body in canonical form: order of fields and white space do not count."""
    try:
        canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    except RecursionError as error:
        raise RelayError("invalid_request", "The request body is nested too deeply") from error
    return hashlib.sha256(canonical.encode()).digest()


class IdempotencyRecords:
    """Not thread-safe: the account's lock guards it."""

    def __init__(self) -> None:
        self._records: dict[Scope, _Record] = {}
        self._completed: deque[tuple[float, Scope]] = deque()

    def begin(self, scope: Scope, digest: bytes, now: float) -> Replay | None:
        """None when the call is new and may run; what to replay when it is done.

        Raises ``idempotency_in_progress`` or ``idempotency_key_reused``.
        """
        self._forget(now)
        record = self._records.get(scope)
        if record is None:
            self._records[scope] = _Record(digest)
            return None
        if record.digest != digest:
            raise RelayError("idempotency_key_reused", param="Idempotency-Key")
        if record.status is None or record.body is None:
            raise RelayError("idempotency_in_progress", retry_after=1)
        body = json.loads(record.body)
        if now >= record.completed_at + PLAINTEXT_SECONDS:
            body.update({name: None for name in KEY_FIELDS if name in body})
            body["key_available"] = False
            # The secret is forgotten for good, and the late answer is a plain 200: nothing was created by it.
            record.status, record.body = 200, json.dumps(body)
        return Replay(record.status, body)

    def complete(self, scope: Scope, status: int, body: Mapping[str, Any], now: float) -> None:
        """The call committed with this answer."""
        record = self._records[scope]
        record.status, record.body, record.completed_at = status, json.dumps(body), now
        self._completed.append((now, scope))

    def abandon(self, scope: Scope) -> None:
        """The call did not commit."""
        self._records.pop(scope, None)

    def _forget(self, now: float) -> None:
        while self._completed and self._completed[0][0] + RECORD_SECONDS <= now:
            self._records.pop(self._completed.popleft()[1], None)
