"""TTL arithmetic against a second model, written from Vault's Go source in integers of nanoseconds.

The model follows `CalculateTTL` line by line with Go's rules (durations are int64 nanoseconds, `Truncate` cuts toward
zero, integer division does too); the code under test is written in datetimes. They share nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from aikeys.leases.arithmetic import PastMaxTTL, calculate_ttl, effective_max, remaining_ttl

SECOND = 1_000_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def nanos(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1) * 1000


def truncate(value: int) -> int:
    return value - value % SECOND


def human(duration: int) -> str:
    """humanDuration over Go's Duration.String, for whole seconds."""
    seconds = duration // SECOND
    if seconds == 0:
        return "0s"
    text = ""
    if seconds >= 3600:
        text += f"{seconds // 3600}h"
    if seconds >= 60:
        text += f"{seconds % 3600 // 60}m"
    text += f"{seconds % 60}s"
    if text.endswith("m0s"):
        text = text[:-2]
    index = text.find("h0m")
    return text[: index + 1] + text[index + 3 :] if index > 0 else text


@dataclass
class Model:
    ttl: int
    warning: str | None
    past: bool = False


def model(
    increment: int, role_ttl: int, role_max: int, default: int, maximum: int, start: int, now: int
) -> Model:
    start, now = truncate(start), truncate(now)
    cap = maximum * SECOND
    if 0 < role_max * SECOND < cap:
        cap = role_max * SECOND
    if increment > 0:
        ttl = increment * SECOND
    elif role_ttl > 0:
        ttl = role_ttl * SECOND
    else:
        ttl = default * SECOND
    left = start + cap - now
    if left <= 0:
        return Model(0, None, past=True)
    if left - ttl < 0:
        text = f'TTL of "{human(ttl)}" exceeded the effective max_ttl of "{human(left)}"; TTL value is capped accordingly'
        return Model(left // SECOND, text)
    return Model(ttl // SECOND, None)


moments = st.datetimes(datetime(2020, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))
durations = st.one_of(st.just(0), st.integers(1, 120), st.integers(1, 40 * 86400))
set_durations = st.one_of(st.integers(1, 120), st.integers(1, 40 * 86400))
ages = st.one_of(
    st.timedeltas(timedelta(), timedelta(minutes=3)), st.timedeltas(timedelta(), timedelta(days=41))
)


@given(durations, durations, durations, set_durations, set_durations, moments, ages)
@example(
    0, 3600, 0, 3600, 58, datetime(2026, 1, 1, microsecond=999_999, tzinfo=UTC), timedelta(microseconds=1)
)
def test_the_ttl_and_the_warning_are_vaults(
    increment: int, role_ttl: int, role_max: int, default: int, maximum: int, issue: datetime, age: timedelta
) -> None:
    now = issue + age
    expected = model(increment, role_ttl, role_max, default, maximum, nanos(issue), nanos(now))
    arguments: dict[str, Any] = {
        "increment": increment,
        "role_ttl": role_ttl,
        "role_max": role_max,
        "mount_default": default,
        "mount_max": maximum,
    }
    if expected.past:
        with pytest.raises(PastMaxTTL, match=r"^past the max TTL, cannot renew$"):
            calculate_ttl(**arguments, issue_time=issue, now=now)
        return
    result = calculate_ttl(**arguments, issue_time=issue, now=now)
    assert result.ttl == expected.ttl
    assert result.warnings == ([] if expected.warning is None else [expected.warning])


@given(durations, durations, durations, set_durations, set_durations, moments, ages)
def test_no_lease_outlives_its_maximum_nor_the_relays_end(
    increment: int, role_ttl: int, role_max: int, default: int, maximum: int, issue: datetime, age: timedelta
) -> None:
    try:
        result = calculate_ttl(
            increment=increment,
            role_ttl=role_ttl,
            role_max=role_max,
            mount_default=default,
            mount_max=maximum,
            issue_time=issue,
            now=issue + age,
        )
    except PastMaxTTL:
        assert age >= timedelta(seconds=effective_max(role_max, maximum) - 1)
        return
    last = issue + timedelta(seconds=effective_max(role_max, maximum))
    assert result.ttl >= 1
    assert result.expire_time <= last <= result.hard_end < last + timedelta(seconds=1)
    assert result.hard_end.microsecond == 0
    # What the client was told is kept to within the second that cutting costs.
    assert abs(result.expire_time - (issue + age + timedelta(seconds=result.ttl))) < timedelta(seconds=1)


@given(set_durations, set_durations, moments, ages, st.timedeltas(timedelta(), timedelta(days=2)))
def test_a_batch_tokens_end_caps_without_a_warning(
    role_ttl: int, maximum: int, issue: datetime, age: timedelta, token_life: timedelta
) -> None:
    now = issue + age
    arguments: dict[str, Any] = {
        "increment": 0,
        "role_ttl": role_ttl,
        "role_max": 0,
        "mount_default": 1,
        "mount_max": maximum,
    }
    try:
        free = calculate_ttl(**arguments, issue_time=issue, now=now)
    except PastMaxTTL:
        assume(False)
    end = now + token_life
    if token_life == timedelta():
        with pytest.raises(PastMaxTTL):
            calculate_ttl(**arguments, issue_time=issue, now=now, token_expire_time=end)
        return
    capped = calculate_ttl(**arguments, issue_time=issue, now=now, token_expire_time=end)
    assert capped.warnings == free.warnings
    assert capped.expire_time == min(free.expire_time, end)
    assert capped.hard_end <= free.hard_end
    if end >= free.expire_time:
        assert capped.ttl == free.ttl
    elif age == timedelta():
        assert capped.ttl == (nanos(end) - nanos(now) + SECOND // 2) // SECOND, "rounded at issue"
    else:
        assert capped.ttl == (nanos(end) - nanos(now)) // SECOND, "cut at renewal"


@given(moments, st.timedeltas(timedelta(days=-2), timedelta(days=2)))
def test_a_look_up_cuts_toward_zero_from_the_rounded_now(now: datetime, left: timedelta) -> None:
    rounded = (nanos(now) + SECOND // 2) // SECOND * SECOND
    difference = nanos(now + left) - rounded
    expected = abs(difference) // SECOND * (1 if difference >= 0 else -1)
    assert remaining_ttl(now + left, now) == expected


@given(moments, st.integers(2, 40 * 86400))
def test_a_fresh_lease_is_told_its_ttl_in_full(issue: datetime, ttl: int) -> None:
    result = calculate_ttl(
        increment=0, role_ttl=ttl, role_max=0, mount_default=1, mount_max=ttl, issue_time=issue, now=issue
    )
    assert (result.ttl, result.warnings) == (ttl, [])
    assert ttl - 1 <= remaining_ttl(result.expire_time, issue) <= ttl
