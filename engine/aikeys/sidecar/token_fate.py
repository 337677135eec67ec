"""What the upstream's answer about a token's accessor says of the token, and when to ask again. No IO.

Leases end by this, so only the words with which both products tell that there is no such token count as its death.
Everything else, from a refusal of our own policy to the answer of some other server, says nothing.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any

from aikeys.sidecar.exchange import Reply

LOOKUP = "auth/token/lookup-accessor"
# Vault: token_store.go, handleUpdateLookupAccessor; OpenBao 2.7 and Vault 1.21 alike, also for a token that is past
# its end and still waits for its revocation.
UNKNOWN_ACCESSOR = (400, ["1 error occurred:\n\t* invalid accessor\n\n"])
LACKS_POLICY = f'the sidecar\'s own policy lacks path "{LOOKUP}" {{ capabilities = ["update"] }}: give it policies/sidecar.hcl'
# Seconds after a token's end: so late it is gone, and so soon it is noticed.
AFTER_END = 1.0


class Fate(enum.Enum):
    LIVES = "lives"
    DEAD = "dead"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Answer:
    """`ttl` is in whole seconds, None for a token that lives and never ends. `problem` is set where nothing was learnt."""

    fate: Fate
    ttl: int | None = None
    problem: str = ""


DEAD = Answer(Fate.DEAD)


def unknown(problem: str) -> Answer:
    return Answer(Fate.UNKNOWN, problem=problem)


def fate_of(accessor: str, reply: Reply) -> Answer:
    """From the answer to a look-up of this accessor with the sidecar's own token."""
    if (reply.status, reply.errors) == UNKNOWN_ACCESSOR:
        return DEAD
    if reply.status == 403:
        return unknown(LACKS_POLICY)
    parsed = reply.json()
    data = parsed.get("data") if reply.status == 200 and isinstance(parsed, dict) else None
    if not isinstance(data, dict):
        return unknown(f"{LOOKUP} was answered {reply.status} {'; '.join(reply.errors)[:200]}".rstrip())
    if data.get("accessor") != accessor:
        return unknown(f"{LOOKUP} told of another accessor than it was asked for")
    if spent(data):
        return DEAD
    ttl = data.get("ttl")
    if data.get("expire_time") is None:
        return Answer(Fate.LIVES)
    if not isinstance(ttl, int) or isinstance(ttl, bool) or ttl < 0:
        return unknown(f"{LOOKUP} told of no ttl")
    return Answer(Fate.LIVES, ttl)


def spent(data: dict[str, Any]) -> bool:
    """Whether a token's `data` says that its last use was spent: it is refused from then on and revoked a moment later
    (Vault: tokenRevocationPending in token_store.go)."""
    uses = data.get("num_uses")
    return isinstance(uses, int) and uses < 0


def next_look(answer: Answer, interval: float) -> float:
    """Seconds until a token that lives is to be asked about again: after its end, and every `interval` at the latest.

    Counted by the upstream's own `ttl`: its clock need not be ours.
    """
    return interval if answer.ttl is None else min(interval, answer.ttl + AFTER_END)
