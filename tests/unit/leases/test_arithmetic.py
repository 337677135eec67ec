"""Vault's own numbers and sentences, as observed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from aikeys.leases.arithmetic import NegativeTTL, PastMaxTTL, calculate_ttl, remaining_ttl

ISSUE = datetime(2026, 1, 2, 3, 4, 5, 900_000, tzinfo=UTC)
SYSTEM: dict[str, Any] = {"mount_default": 2_764_800, "mount_max": 2_764_800}


def after(seconds: float) -> datetime:
    return ISSUE + timedelta(seconds=seconds)


def test_a_role_without_ttls_gets_the_mounts() -> None:
    assert (
        calculate_ttl(increment=0, role_ttl=0, role_max=0, **SYSTEM, issue_time=ISSUE, now=ISSUE).ttl
        == 2_764_800
    )


@pytest.mark.parametrize(
    ("wanted", "cap", "sentence"),
    [
        (3600, 58, 'TTL of "1h" exceeded the effective max_ttl of "58s"; TTL value is capped accordingly'),
        (7200, 1800, 'TTL of "2h" exceeded the effective max_ttl of "30m"; TTL value is capped accordingly'),
        (
            3700,
            100,
            'TTL of "1h1m40s" exceeded the effective max_ttl of "1m40s"; TTL value is capped accordingly',
        ),
        (
            3605,
            1798,
            'TTL of "1h5s" exceeded the effective max_ttl of "29m58s"; TTL value is capped accordingly',
        ),
    ],
)
def test_a_wish_beyond_the_maximum_is_capped_and_said(wanted: int, cap: int, sentence: str) -> None:
    result = calculate_ttl(increment=0, role_ttl=wanted, role_max=cap, **SYSTEM, issue_time=ISSUE, now=ISSUE)
    assert (result.ttl, result.warnings) == (cap, [sentence])


def test_the_smaller_maximum_counts() -> None:
    mount: dict[str, Any] = {"mount_default": 60, "mount_max": 50}
    assert (
        calculate_ttl(increment=0, role_ttl=100, role_max=80, **mount, issue_time=ISSUE, now=ISSUE).ttl == 50
    )


def test_an_increment_counts_from_now_and_may_shorten() -> None:
    result = calculate_ttl(increment=10, role_ttl=60, role_max=180, **SYSTEM, issue_time=ISSUE, now=after(2))
    assert (result.ttl, result.expire_time, result.warnings) == (10, after(12), [])


def test_a_renewal_never_passes_issue_plus_maximum() -> None:
    result = calculate_ttl(
        increment=3600, role_ttl=60, role_max=180, **SYSTEM, issue_time=ISSUE, now=after(150.3)
    )
    # 05.900 is cut to 05, 156.2 to 156: 29 of 180 seconds are left.
    assert result.ttl == 29
    assert result.expire_time <= after(180)
    with pytest.raises(PastMaxTTL):
        calculate_ttl(increment=1, role_ttl=60, role_max=180, **SYSTEM, issue_time=ISSUE, now=after(180))


def test_the_limits_of_now_count_at_renewal() -> None:
    shrunk: dict[str, Any] = {"increment": 0, "role_ttl": 60, "role_max": 3, **SYSTEM, "issue_time": ISSUE}
    assert calculate_ttl(**shrunk, now=after(1)).ttl == 2
    with pytest.raises(PastMaxTTL):
        calculate_ttl(**shrunk, now=after(3.2))


def test_a_batch_token_rounds_at_issue_and_cuts_at_renewal() -> None:
    end = after(44.6)
    hour: dict[str, Any] = {
        "increment": 0,
        "role_ttl": 3600,
        "role_max": 0,
        **SYSTEM,
        "issue_time": ISSUE,
        "token_expire_time": end,
    }
    issued = calculate_ttl(**hour, now=ISSUE)
    assert (issued.ttl, issued.expire_time, issued.warnings) == (45, end, [])
    assert issued.hard_end == end.replace(microsecond=0) + timedelta(seconds=1)
    assert calculate_ttl(**hour, now=after(0.1)).ttl == 44


def test_a_look_up_a_moment_after_issue_shows_one_second_less() -> None:
    now = datetime(2026, 1, 1, 0, 0, 0, 600_000, tzinfo=UTC)
    assert remaining_ttl(now + timedelta(seconds=3600), now + timedelta(milliseconds=5)) == 3599
    assert remaining_ttl(now, now + timedelta(seconds=3)) == -3


@pytest.mark.parametrize(
    ("tuned", "sentence"),
    [
        ({"mount_default": -60, "mount_max": 2_764_800}, "ttl duration must not be less than zero"),
        ({"mount_default": 60, "mount_max": -1}, "max TTL must be greater than zero"),
    ],
)
def test_nothing_is_issued_on_a_mount_that_was_tuned_below_zero(tuned: dict[str, Any], sentence: str) -> None:
    with pytest.raises(NegativeTTL, match=sentence):
        calculate_ttl(increment=0, role_ttl=0, role_max=0, **tuned, issue_time=ISSUE, now=ISSUE)


def test_a_renewal_with_a_negative_default_ends_the_lease() -> None:
    tuned: dict[str, Any] = {"mount_default": -60, "mount_max": 2_764_800}
    result = calculate_ttl(increment=0, role_ttl=0, role_max=0, **tuned, issue_time=ISSUE, now=after(5))
    assert (result.ttl, result.expire_time) == (-60, after(-55))
