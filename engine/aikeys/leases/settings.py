"""Every bound of leases and their end, in seconds, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

from aikeys.backoff import Backoff


@dataclass(frozen=True, slots=True)
class LeaseSettings:
    """`workers` revocations run at once in a process, and as many for a revocation that a client waits for.

    `claim` is how long a lease is left to the process that took it; a living one extends it, a dead one's work comes
    back after that. `poll` is the longest sleep: how late work is seen that another process made.
    `backoff` is the wait after a failed revocation. `trip` failures in a row pause a mount's revocations for
    `probe` seconds at most, after which one lease is tried; when it succeeds all others follow, those that failed
    before not more often than every `hasten`.
    `prefix_wait` bounds a revocation of many leases that a client waits for, `bulk_wait` one of all leases of a key or
    of a holder, whose answer tells what is still under way: well below the minute after which clients give up.
    `remember` is how long a lease is remembered after its end, and an issue that a role's rate may count.
    """

    workers: int = 96
    claim: float = 20.0
    poll: float = 1.0
    backoff: Backoff = field(default_factory=Backoff)
    trip: int = 5
    probe: float = 15.0
    hasten: float = 30.0
    prefix_wait: float = 60.0
    bulk_wait: float = 20.0
    remember: float = 30 * 24 * 3600.0
    tidy_every: float = 300.0
