"""All data keys, indexed so that no request scans them, and what ends by itself.

Invariants: ids ascend with creation; `live` holds exactly the ids of keys that have not ended; an end is never
taken back; a tombstone stays for 90 days.
"""

from __future__ import annotations

import heapq
from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterator

from aikeys.relay_simulator.keys import Key

TOMBSTONE_SECONDS = 90 * 86_400


class KeyRegistry:
    """Not thread-safe: the account's lock guards it."""

    def __init__(self) -> None:
        self._by_id: dict[str, Key] = {}
        self._by_secret: dict[bytes, Key] = {}
        self._by_name: dict[str, list[Key]] = {}
        self._ids: list[str] = []
        self._live: list[str] = []
        self._due: list[tuple[float, str]] = []
        self._tombstones: deque[Key] = deque()

    def __iter__(self) -> Iterator[Key]:
        return iter(self._by_id.values())

    @property
    def live_count(self) -> int:
        """Keys that have not ended."""
        return len(self._live)

    def add(self, key: Key) -> None:
        """A new key; its id is greater than every other."""
        self._by_id[key.id] = key
        self._by_secret[key.secret_sha256] = key
        namesakes = self._by_name.setdefault(key.name, [])
        namesakes[:] = [other for other in namesakes if other.ended_as is None]
        namesakes.append(key)
        insort(self._ids, key.id)
        insort(self._live, key.id)
        self.reschedule(key)

    def reschedule(self, key: Key) -> None:
        """Its expiry or retirement changed."""
        if key.ends_at is not None:
            heapq.heappush(self._due, (key.ends_at, key.id))

    def end(self, key: Key, state: str, at: float) -> None:
        """`key` ends in the terminal `state` at that moment."""
        key.ended_as, key.ended_at = state, at
        if state == "revoked":
            key.revoked_at = at
        key.version += 1
        position = bisect_left(self._live, key.id)
        del self._live[position]
        self._tombstones.append(key)

    def settle(self, now: float) -> None:
        """End what is due by `now`, forget tombstones that are old enough."""
        while self._due and self._due[0][0] <= now:
            due, key_id = heapq.heappop(self._due)
            key = self._by_id.get(key_id)
            if key is None or key.ended_as is not None or key.ends_at != due:
                continue
            self.end(key, key.retires_into if key.retires_at == due else "expired", due)
        while self._tombstones and (self._tombstones[0].ended_at or 0.0) + TOMBSTONE_SECONDS <= now:
            self._forget(self._tombstones.popleft())

    def get(self, key_id: str) -> Key | None:
        """By id, tombstones too."""
        return self._by_id.get(key_id)

    def by_secret(self, digest: bytes) -> Key | None:
        """By the SHA-256 of the secret, tombstones too."""
        return self._by_secret.get(digest)

    def by_name(self, name: str, now: float) -> Key | None:
        """The key of that name that lives (the youngest, where a rotation kept the name), else the last that did.

        A key the list does not show yet has no name yet either.
        """
        namesakes = [key for key in self._by_name.get(name, ()) if key.visible_from <= now]
        living = [key for key in namesakes if key.ended_as is None]
        candidates = living or namesakes
        return candidates[-1] if candidates else None

    def name_holder(self, name: str) -> Key | None:
        """The live key that has `name`, whatever a list shows."""
        holders = [key for key in self._by_name.get(name, ()) if key.ended_as is None]
        return holders[-1] if holders else None

    def page(self, after: str | None, *, terminal: bool) -> Iterator[Key]:
        """Keys in order of id, those behind `after`; ended ones only when `terminal`."""
        ids = self._ids if terminal else self._live
        for position in range(bisect_right(ids, after) if after else 0, len(ids)):
            yield self._by_id[ids[position]]

    def _forget(self, key: Key) -> None:
        del self._by_id[key.id]
        self._by_secret.pop(key.secret_sha256, None)
        del self._ids[bisect_left(self._ids, key.id)]
        namesakes = self._by_name.get(key.name, [])
        if key in namesakes:
            namesakes.remove(key)
        if not namesakes:
            self._by_name.pop(key.name, None)
