"""Every bound of minting and settling, in seconds, in one place."""

from __future__ import annotations

from dataclasses import dataclass, field

from aikeys.backoff import Backoff


@dataclass(frozen=True, slots=True)
class MintBounds:
    """`attempt` bounds one call, `total` all calls of one request. `slack` after that the attempt is surely over:
    total + slack is how old an intent of a dead process is when it is settled, so it stays below half a minute.

    `pause` precedes a repetition. `revoke` bounds the revocation of a key that cannot be handed out.
    `settle` bounds all calls for one intent, `claim` is how long the intent is then left to one process: longer
    than `settle`, short enough that a dead process's work comes back soon.
    `settle_window` and `looks`: how long and how often a relay without idempotency must not list the key before it
    counts as never made. `replay_life`: how long a relay keeps idempotency records (24 h, with a margin).
    `expiry_margin`: how far our clock may be ahead of the relay's, one that was set wrong by ten minutes included.
    """

    attempt: float = 12.0
    total: float = 20.0
    slack: float = 2.0
    pause: float = 0.1
    revoke: float = 10.0
    settle: float = 15.0
    claim: float = 18.0
    settlers: int = 4
    settle_window: float = 600.0
    looks: int = 3
    replay_life: float = 23 * 3600.0
    expiry_margin: float = 900.0
    backoff: Backoff = field(default_factory=lambda: Backoff(base=0.5, cap=20.0))
