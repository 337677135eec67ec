"""The promises of whoever keeps what the engine keeps (`aikeys.storage.records`).

One store holds the mounts, each mount's entries (config, roles), the mint intents and the leases, so that
"the key is minted" and "the lease exists" change in one transaction. Every method is one transaction, durable
when it returns (SQLite: WAL with synchronous=FULL), and safe to call from many threads and processes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from aikeys.storage.records import (
    Enabling,
    EndedLease,
    ForcedKey,
    Holder,
    IntentRecord,
    IssueLimits,
    KnownKeys,
    LeaseRecord,
    LeaseState,
    MountRecord,
    TokenRecord,
    WitnessRecord,
    WrappedRecord,
)


class EntryStore(Protocol):
    """A mount's own key-value view (Vault: `logical.Storage`); values are JSON objects, stored sealed."""

    def get(self, key: str) -> dict[str, Any] | None: ...

    def put(self, key: str, value: dict[str, Any]) -> None: ...

    def delete(self, key: str) -> None: ...

    def list(self, prefix: str) -> list[str]:
        """Names directly below `prefix` ("roles/"), sorted."""
        ...


class Store(Protocol):
    """The one store. Claims are leases on work: a claimed row is not handed out again before `until`."""

    # mounts
    def mounts(self) -> list[MountRecord]: ...
    def put_mount(self, record: MountRecord) -> None: ...
    def delete_mount(self, uuid: str) -> None:
        """Remove the mount and its entries. Refused with StorageError while it has leases or intents."""
        ...

    def put_enabling(self, record: Enabling) -> None: ...
    def enablings(self) -> list[Enabling]: ...
    def delete_enabling(self, mark: str) -> None: ...
    def adopt_mount(self, mark: str, record: MountRecord) -> bool:
        """Store the mount and remove its enabling in one transaction; False, and nothing done, when that is gone."""
        ...

    def generation(self) -> int:
        """Changes whenever mounts or entries change, seen by every process; cheap enough for every request."""
        ...

    def entries(self, mount_uuid: str) -> EntryStore: ...

    # intents
    def put_intent(self, record: IntentRecord, limits: IssueLimits | None = None) -> str:
        """The serial it was given. With `limits`, `LimitReached` when the role has as much as it may: looked at and
        stored in one transaction, so that requests at once cannot pass a limit together, in however many processes."""
        ...

    def update_intent(self, record: IntentRecord) -> None: ...
    def delete_intent(self, intent_id: str) -> None: ...
    def intents(self, mount_uuid: str = "") -> list[IntentRecord]: ...
    def claim_intents(self, now: datetime, until: datetime, limit: int) -> list[IntentRecord]:
        """Take intents that are due; they are SETTLING from then on, so that no lease can come of them."""
        ...

    def hasten_intents(self, mount_uuid: str, now: datetime) -> None:
        """Settle all intents of a mount at once, those of mints under way included: none becomes a lease any more."""
        ...

    # leases
    def complete_intent(self, intent_id: str, lease: LeaseRecord) -> None:
        """Store the lease and remove the intent in one transaction.

        StorageError when the intent is gone or SETTLING: somebody settles it, so the key must not be handed out.
        """
        ...

    def put_lease(self, record: LeaseRecord) -> None: ...
    def lease(self, lease_id: str) -> LeaseRecord | None: ...
    def update_lease(self, record: LeaseRecord, *, expected: LeaseState) -> bool:
        """Write it if it still exists in state `expected`; False otherwise."""
        ...

    def delete_lease(self, lease_id: str, ended: EndedLease | None = None) -> bool:
        """Remove it and remember `ended` in one transaction; False when it was gone, and then nothing is remembered.

        The latest 100,000 of all mounts are remembered.
        """
        ...

    def reopen_intent(self, record: IntentRecord, lease_id: str = "") -> None:
        """Undo an issue that failed on its last step: no lease, and the intent on record again."""
        ...

    def leases_with_prefix(self, prefix: str, after: str = "", limit: int = 1000) -> list[LeaseRecord]: ...
    def lease_ids_with_prefix(self, prefix: str) -> list[str]: ...
    def lease_names(self, prefix: str) -> list[str]:
        """One level below `prefix` ("" or ending in "/"), sorted; what has more below it ends in "/"."""
        ...

    def leases_of_key(self, mount_uuid: str, key_hash: str = "", prefix_hash: str = "") -> list[LeaseRecord]:
        """Those whose key has this hash, or begins with what has that one; by issue."""
        ...

    def ended_of_key(self, mount_uuid: str, key_hash: str = "", prefix_hash: str = "") -> list[EndedLease]:
        """The same of leases that have ended and are still remembered; by end."""
        ...

    def lease_ids_of(self, mount_uuid: str, holder: Holder) -> list[str]:
        """Those of one holder, sorted."""
        ...

    def leases_by_end(
        self, mount_uuid: str, now: datetime, *, over: bool, role: str, limit: int
    ) -> list[LeaseRecord]:
        """Those that are over, or those that are not, of a role ("": of all), what is due next first."""
        ...

    def latest_ended(self, mount_uuid: str, role: str, limit: int) -> list[EndedLease]:
        """The same of remembered ones, the latest first."""
        ...

    def remembered_since(self, mount_uuid: str) -> datetime | None:
        """The end of the longest remembered lease of a mount."""
        ...

    def forget(self, before: datetime) -> int:
        """Let go of some of the leases that ended and of the issues that were noted before a moment. How many: call
        it again until there are none."""
        ...

    def failing_leases(self, mount_uuid: str = "", limit: int = 10_000) -> list[LeaseRecord]:
        """Those whose revocation has failed at least once, by expiry, then id."""
        ...

    def mark_revoking(self, lease_ids: Sequence[str], now: datetime, until: datetime | None = None) -> int:
        """ACTIVE to REVOKING, due now, in one transaction: what is decided survives a crash. How many were ACTIVE.

        With `until` they are claimed by the caller: nobody else takes them up before.
        """
        ...

    def due_mounts(self, now: datetime) -> list[str]:
        """Mounts with a lease that is due, the longest waiting first."""
        ...

    def claim_due_leases(
        self, now: datetime, until: datetime, limit: int, mount_uuid: str = ""
    ) -> list[LeaseRecord]:
        """Take leases whose end or next attempt has come, of one mount or of all; they are REVOKING from then on."""
        ...

    def extend_claims(self, lease_ids: Sequence[str], until: datetime) -> None:
        """Keep what one has claimed and still works on."""
        ...

    def hasten(self, mount_uuid: str, now: datetime, limit: int | None = None) -> int:
        """Make failing leases that wait for a later attempt due now; how many."""
        ...

    def release_stale(self, now: datetime, latest: datetime) -> int:
        """Make due now what waits for a moment later than `latest`, which none should; how many."""
        ...

    def next_due(self) -> datetime | None:
        """When the next lease, intent or wrapped answer wants attention."""
        ...

    def count_leases(
        self, mount_uuid: str = "", role: str = "", *, failing: bool = False, over: datetime | None = None
    ) -> int:
        """`over`: only those that had to end by that moment, whether somebody has begun to revoke them or not."""
        ...

    # keys, as they are known to this store
    def known_keys(self, mount_uuid: str) -> KnownKeys:
        """The names of a mount's keys that a lease or an open intent has, all of one moment."""
        ...

    def serials(self) -> dict[str, int]:
        """Of every series the last number given."""
        ...

    def gave(self, serial: str) -> bool:
        """Whether this very process gave the serial, on the database as it is now."""
        ...

    def adopt_serials(self, given: Mapping[str, int]) -> None:
        """Take these for serials of this store's own: all up to each number."""
        ...

    # work that one of all processes does
    def claim_chore(self, name: str, now: datetime, until: datetime, first: datetime) -> bool:
        """Whether the caller is to do it: it is due, and nobody else gets it before `until`.

        One that was never heard of is due at `first`.
        """
        ...

    def put_off_chore(self, name: str, due_at: datetime) -> None:
        """It is done; the next time is `due_at`."""
        ...

    # tokens
    def claim_tokens(self, now: datetime, until: datetime, latest: datetime, limit: int) -> list[TokenRecord]:
        """Take tokens that are due, the longest waiting first; those without an active lease are forgotten instead.

        One that waits for a moment beyond `latest` is due as well.
        """
        ...

    def settle_tokens(self, tokens: Sequence[TokenRecord]) -> None:
        """Write down when they were last seen and when they are due again, and give up the claim."""
        ...

    def hasten_tokens(self, now: datetime, *, orphans: bool) -> int:
        """Make all tokens due now, orphans only when they are meant too; how many were not."""
        ...

    def next_token_due(self) -> datetime | None: ...
    def active_leases_of_tokens(self, accessors: Sequence[str]) -> list[str]:
        """The ids of those that end with these tokens: their own, and those of batch tokens whose parents they are."""
        ...

    def put_batch_parent(self, token_hash: str, accessor: str, expires_at: datetime, now: datetime) -> None:
        """Remember whose child a batch token is until it ends; what has ended is forgotten."""
        ...

    def batch_parent(self, token_hash: str) -> str:
        """The parent's accessor, "" when it is not known."""
        ...

    def witness(self) -> WitnessRecord | None: ...
    def put_witness(self, record: WitnessRecord) -> None:
        """Neither the number nor the moment goes back."""
        ...

    # keys whose leases were revoked by force
    def force_lease(self, key: ForcedKey, ended: EndedLease | None = None) -> bool:
        """No lease any more, its key on record here, and `ended` remembered, in one transaction; False when it was
        gone, and then nothing is kept."""
        ...

    def forced_keys(self, mount_uuid: str = "", limit: int = 10_000) -> list[ForcedKey]:
        """The longest forced first. A mount that is deleted takes its own with it."""
        ...

    def count_forced(self, mount_uuid: str) -> int: ...
    def claim_forced(self, now: datetime, until: datetime, limit: int) -> list[ForcedKey]:
        """Take those whose next try has come."""
        ...

    def update_forced(self, key: ForcedKey) -> None:
        """Write it if it still exists, and give up the claim."""
        ...

    def delete_forced(self, lease_id: str) -> None: ...
    def hasten_forced(self, mount_uuid: str, now: datetime) -> int:
        """Make those of a mount that wait for a later try due now; how many."""
        ...

    # wrapped answers
    def put_wrapped(self, record: WrappedRecord) -> None: ...
    def wrapped(self, hash_value: str) -> WrappedRecord | None:
        """By token hash or accessor hash; read without removing."""
        ...

    def take_wrapped(self, token_hash: str) -> WrappedRecord | None:
        """Read and remove, once."""
        ...

    def lapsed_wrapped(self, now: datetime, limit: int) -> list[WrappedRecord]:
        """Remove and return those that ended unread; their leases become REVOKING in the same transaction."""
        ...

    def keyed_hash(self, value: str) -> str:
        """What a secret is found by without being kept: HMAC-SHA256, hex, under a key of this store."""
        ...

    def close(self) -> None: ...
