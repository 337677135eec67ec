"""Whether the upstream's word that it knows a token no more can be believed.

Another server knows none of our tokens, and one whose storage was restored from a backup knows none that is younger.
So the sidecar leaves an entry in its shadow, with a number that rises from one interval to the next and is kept here
too. Who shows a number as high as ours is our server and has forgotten nothing since. One that shows a lower number
or none, and still has our shadow, was restored: of the tokens that were last seen before that came out, its silence
tells nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from aikeys.framework.clock import Clock
from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Mount
from aikeys.framework.response import Unavailable
from aikeys.sidecar.mount_table import MountTable
from aikeys.sidecar.own_identity import OwnIdentity
from aikeys.sidecar.shadow import Found, Shadow, classify, is_marker, marker, sentinel_path
from aikeys.sidecar.upstream import UpstreamDown
from aikeys.storage.interface import Store
from aikeys.storage.records import WitnessRecord

log = structlog.get_logger(__name__)

# Beside the markers, which role names cannot begin like either.
ENTRY = "~aikeys-witness"
NUMBER_FIELD = "number"
_CHORE = "witness"
_RESTORED = (
    "the Vault has forgotten what it knew: leases of tokens that it knows no more run until their own end"
)
# One request, in seconds.
_PATIENCE = 5.0


class NotOurs(Unavailable):
    """The upstream has no mount of ours."""

    def __init__(self) -> None:
        super().__init__(
            "the Vault behind this sidecar has no mount of ours: it is another server, or was restored from a backup "
            "older than that; no lease ends by its word"
        )


def entry(mount: Mount, number: int) -> dict[str, Any]:
    return {**marker(mount, _signed(number)), NUMBER_FIELD: number}


def number_of(mount: Mount, parsed: Any) -> int:
    """The number that an entry shows, as it was read; 0 where it is none of ours."""
    data = parsed.get("data") if isinstance(parsed, dict) else None
    number = data.get(NUMBER_FIELD) if isinstance(data, dict) else None
    if not isinstance(number, int) or not is_marker(mount, _signed(number), data):
        return 0
    return number


def _signed(number: int) -> str:
    return f"{ENTRY}/{number}"


class Witness:
    """Raises `UpstreamDown`, `NotLoggedIn`, `StorageError`."""

    def __init__(
        self,
        store: Store,
        own: OwnIdentity,
        mounts: MountTable,
        shadow: Shadow,
        *,
        clock: Clock,
        interval: float,
    ) -> None:
        self._store = store
        self._own = own
        self._mounts = mounts
        self._shadow = shadow
        self._clock = clock
        self._interval = interval

    def believed_since(self) -> datetime | None:
        """A token that was seen after this moment (None: whenever) and is unknown to the upstream now is dead.

        Raises `NotOurs` when nothing that the upstream does not know tells anything.
        """
        known = self._store.witness()
        if known is not None and any(number >= known.number for number in self._shown(known)):
            # Read again: the number may be another process's, which found the upstream restored.
            return self._restored_at()
        if not any(self._stands(mount) for mount in self._present()):
            raise NotOurs
        if known is None or not any(mount.uuid in known.mounts for mount in self._mounts.all()):
            # Those that were given it are disabled; a new one cannot show it yet.
            return self._restored_at()
        log.error("upstream_restored", note=_RESTORED)
        # Here before there: whoever sees the new number knows of this.
        self._store.put_witness(replace(known, restored_at=self._clock.now()))
        self._raise_number()
        return self._restored_at()

    def renew(self) -> None:
        """Raise the number when it is time: one process for all."""
        now = self._clock.now()
        if self._store.claim_chore(_CHORE, now, now + timedelta(seconds=self._interval), now):
            # Not over the traces of a restoration.
            self.believed_since()
            self._raise_number()

    # -- inner --------------------------------------------------------------------------------------------------

    def _present(self) -> list[Mount]:
        """The mounts that stand upstream, as far as is known."""
        return [mount for mount in self._mounts.all() if mount.accessor]

    def _shown(self, known: WitnessRecord) -> Iterator[int]:
        for mount in self._present():
            if mount.uuid not in known.mounts:
                continue
            reply = self._own.request("GET", mount.path + ENTRY, deadline=Deadline.after(_PATIENCE))
            if classify(mount, ENTRY, reply) is not Found.MISSING:
                yield number_of(mount, reply.json())

    def _stands(self, mount: Mount) -> bool:
        return self._shadow.find(mount, sentinel_path(mount), Deadline.after(_PATIENCE)) is Found.VALID

    def _restored_at(self) -> datetime | None:
        known = self._store.witness()
        return None if known is None else known.restored_at

    def _raise_number(self) -> None:
        """There before here: a crash in between leaves a higher one there."""
        known = self._store.witness()
        number = max(0 if known is None else known.number + 1, int(self._clock.now().timestamp()))
        mounts = self._present()
        for mount in mounts:
            reply = self._own.request(
                "PUT", mount.path + ENTRY, entry(mount, number), deadline=Deadline.after(_PATIENCE)
            )
            if reply.status not in {200, 204}:
                raise UpstreamDown(f"the sidecar's entry {mount.path}{ENTRY} was answered {reply.status}")
        self._store.put_witness(WitnessRecord(number, frozenset(mount.uuid for mount in mounts)))
