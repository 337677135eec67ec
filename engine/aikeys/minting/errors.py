"""What a caller of `creds/<role>` is told when no key can be handed out.

Go clients repeat a 5xx, so a permanent reason is a 400, and a 5xx is used only where trying again can help and
whatever may have been made is on record.
"""

from __future__ import annotations

import math

from aikeys.framework.durations import format_duration
from aikeys.framework.request import Mount
from aikeys.framework.response import (
    EngineError,
    InvalidRequest,
    QuotaExceeded,
    RelayRateLimited,
    Unavailable,
)
from aikeys.relays.interface import DriverError, Kind
from aikeys.storage.records import LimitReached

_UNAVAILABLE = frozenset({Kind.UNAVAILABLE, Kind.TIMEOUT, Kind.CANCELLED, Kind.PROTOCOL})

_WHAT_TO_DO = {
    Kind.AUTH: "the relay does not accept the management key: write a valid one to this mount's config",
    Kind.FORBIDDEN: "the management key may not make this key: give it the scopes it needs at the relay",
    Kind.CONFIG: "the relay does not know the address that was asked: look at base_url in this mount's config",
    Kind.QUOTA: "the relay's account allows no further key: revoke leases or have the limit raised",
}


class MintRefused(InvalidRequest):
    """The relay refused for a reason that lasts; nothing was made."""


class MintRateLimited(RelayRateLimited):
    """The relay takes no more requests for now; nothing was made."""


class MintUnavailable(Unavailable):
    """The relay could not be reached; nothing was made."""


class MintUnsettled(Unavailable):
    """The relay may have made a key and the answer is lost; it is on record and will be revoked."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the relay's answer is missing or unusable ({reason}). Nothing is lost: the attempt is on record, "
            "and any key it made will be revoked. Try again"
        )


class MintNotRecorded(Unavailable):
    """The store could not write, so no key was asked for, or the one just made is being revoked."""


class MintOverLimit(QuotaExceeded):
    """The role allows no further key for now; the relay was not asked."""


def over_limit(error: LimitReached, mount: Mount, role: str) -> MintOverLimit:
    """In the words of Vault's quotas (quotas.ErrRateLimitQuotaExceeded and its sibling), and what can be done."""
    where, limits = f'request path "{mount.path}creds/{role}"', error.limits
    if error.retry_after is None:
        return MintOverLimit(
            f"{where}: lease count quota exceeded: the role's max_leases is {limits.leases}; revoke a lease, or wait "
            "until one has ended"
        )
    after = math.ceil(error.retry_after)
    return MintOverLimit(
        f"{where}: rate limit quota exceeded: the role's issue_limit is {limits.issues} in "
        f"{format_duration(limits.period)}; try again in {format_duration(after)}",
        after,
    )


def refusal(error: DriverError) -> EngineError:
    """The answer to a mint that surely was not applied."""
    text = error.safe_message
    if error.kind is Kind.RATE_LIMITED:
        after = None if error.retry_after is None else math.ceil(error.retry_after)
        hint = "" if after is None else f"; try again in {after} s"
        return MintRateLimited(f"the relay's rate limit for key management is reached: {text}{hint}", after)
    if error.kind in _UNAVAILABLE:
        return MintUnavailable(f"the relay cannot be reached, no key was made: {text}")
    advice = _WHAT_TO_DO.get(error.kind)
    return MintRefused(f"the relay refused to make a key: {text}" + (f" ({advice})" if advice else ""))
