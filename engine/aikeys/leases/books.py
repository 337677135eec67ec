"""What a mount's leases are at, for whoever looks after them: nothing here changes anything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from aikeys.errors import StorageError
from aikeys.framework.clock import Clock
from aikeys.framework.response import Unavailable
from aikeys.storage.interface import Store
from aikeys.storage.records import EndedLease, ForcedKey, IntentRecord, LeaseRecord

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Counts:
    """Of one mount, or of one role of it. `revoking` are over and the relay has not confirmed it; `failing` are those
    of them whose revocation has failed at least once."""

    active: int
    revoking: int
    failing: int
    given_up: int
    open_mints: int


class LeaseBooks:
    """Safe for many threads. Raises `Unavailable` when the store cannot be read."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def counts(self, mount_uuid: str, role: str = "") -> Counts:
        def read() -> Counts:
            store = self._store
            revoking = store.count_leases(mount_uuid, role, over=self._clock.now())
            return Counts(
                active=max(0, store.count_leases(mount_uuid, role) - revoking),
                revoking=revoking,
                failing=store.count_leases(mount_uuid, role, failing=True),
                given_up=len(_of(role, store.forced_keys(mount_uuid))),
                open_mints=len(_of(role, store.intents(mount_uuid))),
            )

        return _stored(read)

    def living(self, mount_uuid: str, *, over: bool, role: str, limit: int) -> list[LeaseRecord]:
        """Those that are over, or those that are not; the next to be tried, or to end, first."""
        now = self._clock.now()
        return _stored(lambda: self._store.leases_by_end(mount_uuid, now, over=over, role=role, limit=limit))

    def given_up(self, mount_uuid: str, role: str, limit: int) -> list[ForcedKey]:
        """Keys whose leases were revoked by force and that the relay may still accept, the longest first."""
        return _of(role, _stored(lambda: self._store.forced_keys(mount_uuid)))[:limit]

    def ended(self, mount_uuid: str, role: str, limit: int) -> list[EndedLease]:
        """The latest first."""
        return _stored(lambda: self._store.latest_ended(mount_uuid, role, limit))


K = TypeVar("K", ForcedKey, IntentRecord)


def _of(role: str, records: list[K]) -> list[K]:
    return [record for record in records if not role or record.role == role]


def _stored(work: Callable[[], T]) -> T:
    """`work` on the store; a failing store is a 503 with its reason."""
    try:
        return work()
    except StorageError as error:
        raise Unavailable(str(error)) from error
