"""How long a lease lasts, in whole seconds, exactly as Vault computes it. No IO, no clock.

Follows `CalculateTTL` (sdk/framework/lease.go), `Register` and `Renew` (vault/expiration.go). All moments are cut
to the second first, since clients compare `lease_duration` with what they saw before: a difference of one second
makes them fetch new credentials without end.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from aikeys.framework.durations import format_duration

_HALF_SECOND = timedelta(milliseconds=500)
_SECOND = timedelta(seconds=1)


class PastMaxTTL(Exception):
    """The lease has lived as long as it may; the text is Vault's."""

    def __init__(self, text: str = "past the max TTL, cannot renew") -> None:
        super().__init__(text)


class NegativeTTL(PastMaxTTL):
    """The mount was tuned to a TTL below zero, as the servers let one: a lease of it would be over at once."""


@dataclass(frozen=True, slots=True)
class TTLResult:
    """`ttl` is what the client is told. `expire_time` is when the lease ends and never passes issue plus maximum.
    `hard_end` is the whole second by which every lease of this issue has ended, however often it is renewed: the
    end to set at the relay.
    """

    ttl: int
    expire_time: datetime
    hard_end: datetime
    warnings: list[str] = field(default_factory=list)


def effective_max(role_max: int, mount_max: int) -> int:
    """The cap in seconds: the mount's, or the role's where it sets a smaller one (0 = it sets none)."""
    return role_max if 0 < role_max < mount_max else mount_max


def calculate_ttl(
    *,
    increment: int,
    role_ttl: int,
    role_max: int,
    mount_default: int,
    mount_max: int,
    issue_time: datetime,
    now: datetime,
    token_expire_time: datetime | None = None,
) -> TTLResult:
    """The life of a lease from `now`; at issue `now` is `issue_time`. Durations in seconds, 0 = not set.

    `increment` counts from now and may shorten. `token_expire_time` is the end of a batch token, None for any
    other: it caps without a warning, rounded at issue and cut at renewal, as Vault reports it. Raises `PastMaxTTL`, and
    `NegativeTTL` for what no lease can be issued with; a renewal with a negative TTL ends the lease.
    """
    maximum = effective_max(role_max, mount_max)
    ttl = increment or role_ttl or mount_default
    if maximum <= 0:
        raise NegativeTTL("max TTL must be greater than zero")
    if ttl < 0 and now == issue_time:
        raise NegativeTTL("ttl duration must not be less than zero")
    left = _whole(issue_time) + timedelta(seconds=maximum) - _whole(now)
    left_seconds = left // _SECOND
    if left_seconds <= 0:
        raise PastMaxTTL
    warnings = []
    if ttl > left_seconds:
        warnings.append(
            f'TTL of "{format_duration(ttl)}" exceeded the effective max_ttl of "{format_duration(left_seconds)}"; '
            "TTL value is capped accordingly"
        )
        ttl = left_seconds
    last = issue_time + timedelta(seconds=maximum)
    # Cutting to seconds can leave a fraction beyond the maximum; the promise is the maximum.
    expire_time = min(now + timedelta(seconds=ttl), last)
    if token_expire_time is not None:
        last = min(last, token_expire_time)
        if token_expire_time < expire_time:
            if token_expire_time <= now:
                raise PastMaxTTL
            expire_time = token_expire_time
            remaining = token_expire_time - now
            ttl = (remaining + _HALF_SECOND if now == issue_time else remaining) // _SECOND
    return TTLResult(ttl=ttl, expire_time=expire_time, hard_end=_next_whole(last), warnings=warnings)


def remaining_ttl(expire_time: datetime, now: datetime) -> int:
    """The `ttl` of a look-up: cut toward zero, `now` rounded to the second (leaseEntry.ttl); negative once past."""
    left = expire_time - _whole(now + _HALF_SECOND)
    return left // _SECOND if left >= timedelta() else -(-left // _SECOND)


def _whole(moment: datetime) -> datetime:
    return moment.replace(microsecond=0)


def _next_whole(moment: datetime) -> datetime:
    return moment if moment.microsecond == 0 else _whole(moment) + _SECOND
