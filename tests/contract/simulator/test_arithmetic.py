"""Rates, periods, ids and faults, computed without a server."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aikeys.relay_simulator.budgets import Budget, Spending, money, period_bounds
from aikeys.relay_simulator.clock import Clock
from aikeys.relay_simulator.errors import REFUSALS
from aikeys.relay_simulator.faults import KINDS, FaultPlan
from aikeys.relay_simulator.identifiers import Identifiers
from aikeys.relay_simulator.limits import SlidingWindow, TokenBucket
from aikeys.relay_simulator.settings import AccountPolicy

STEPS = st.lists(st.tuples(st.floats(0, 45), st.integers(1, 8)), max_size=60)


@given(steps=STEPS, limit=st.integers(8, 30))
def test_no_minute_wherever_it_starts_holds_more_than_the_limit(
    steps: list[tuple[float, int]], limit: int
) -> None:
    window, now, granted = SlidingWindow(), 0.0, deque[tuple[float, int]]()
    for pause, amount in steps:
        now += pause
        if window.wait(amount, limit, now) == 0:
            window.charge(amount, now)
            granted.append((now, amount))
    for start, _ in granted:
        assert sum(amount for at, amount in granted if start <= at < start + 60) <= limit


@given(steps=STEPS, limit=st.integers(8, 30), amount=st.integers(1, 8))
def test_after_the_wait_it_fits_and_before_it_does_not(
    steps: list[tuple[float, int]], limit: int, amount: int
) -> None:
    window, now = SlidingWindow(), 0.0
    for pause, charged in steps:
        now += pause
        if window.wait(charged, limit, now) == 0:
            window.charge(charged, now)
    wait = window.wait(amount, limit, now)
    if wait > 0.01:
        assert window.wait(amount, limit, now + wait - 0.01) > 0
    assert window.wait(amount, limit, now + wait + 0.001) == 0


def test_what_never_fits_waits_a_whole_window() -> None:
    assert SlidingWindow().wait(11, 10, 5.0) == 60.0


def test_a_bucket_gives_its_burst_and_then_one_per_interval() -> None:
    bucket = TokenBucket()
    assert [bucket.take(60, 3, 100.0) for _ in range(3)] == [0.0] * 3
    assert bucket.take(60, 3, 100.0) == pytest.approx(1.0)
    assert bucket.take(60, 3, 100.4) == pytest.approx(0.6)
    assert bucket.remaining(60, 3, 100.4) == 0
    assert bucket.reset_seconds(60, 100.0) == 3
    assert bucket.take(60, 3, 101.0) == 0.0
    assert bucket.take(60, 3, 101.0) > 0


@pytest.mark.parametrize(
    ("moment", "period", "start", "end"),
    [
        ("2026-12-31T23:59:59", "day", "2026-12-31", "2027-01-01"),
        ("2026-12-31T23:59:59", "month", "2026-12-01", "2027-01-01"),
        ("2028-02-29T12:00:00", "month", "2028-02-01", "2028-03-01"),
        ("2026-03-01T00:00:00", "day", "2026-03-01", "2026-03-02"),
    ],
)
def test_periods_are_utc_days_and_months(moment: str, period: str, start: str, end: str) -> None:
    def seconds(text: str) -> int:
        return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())

    assert period_bounds(period, seconds(moment)) == (seconds(start), seconds(end))


def test_money_has_no_exponent_and_no_rounding() -> None:
    spending = Spending()
    for _ in range(10):
        spending.charge(Decimal("0.0000001"), 0.0)
    assert money(spending.spent("total", 0.0)) == "0.0000010"
    assert Budget(Decimal("5.00")).render(spending, 0.0)["remaining"] == "4.9999990"


def test_a_changed_period_counts_what_was_spent_before() -> None:
    spending = Spending()
    spending.charge(Decimal(1), 1000.0)
    assert (
        spending.spent("day", 1000.0) == spending.spent("month", 1000.0) == spending.spent("total", 9e8) == 1
    )
    assert spending.spent("day", 1000.0 + 86_400) == 0


def test_ids_ascend_within_a_millisecond_and_when_the_clock_steps_back() -> None:
    clock = Clock()
    identifiers = Identifiers(clock)
    clock.advance(3600)
    ids = [identifiers.ulid() for _ in range(2000)]
    clock.reset()
    ids += [identifiers.ulid() for _ in range(2000)]
    assert ids == sorted(ids)
    assert len(set(ids)) == 4000


def test_a_seed_repeats_ids_and_secrets_and_another_does_not() -> None:
    def made(seed: int | None) -> list[str]:
        source = Identifiers(Clock(), seed)
        return [source.key_id(), source.data_key(), source.management_key(), source.signing_secret()]

    assert made(7) == made(7)
    assert not set(made(7)) & set(made(8))
    assert not set(made(None)) & set(made(None))


def test_the_clock_only_moves_forward() -> None:
    with pytest.raises(ValueError, match="forward"):
        Clock().advance(-1)


def test_the_error_table_is_the_published_one() -> None:
    by_status: dict[int, set[str]] = {}
    for code, refusal in REFUSALS.items():
        by_status.setdefault(refusal.status, set()).add(code)
    assert by_status == {
        400: {"invalid_request", "unknown_field", "invalid_permission", "invalid_model", "invalid_expiry"},
        401: {
            "missing_api_key", "invalid_api_key", "signature_required", "invalid_signature",
            "timestamp_out_of_range", "nonce_reused",
        },
        402: {"budget_exceeded"},
        403: {"insufficient_scope", "model_not_allowed", "management_key_not_allowed"},
        404: {"key_not_found", "not_found"},
        409: {"name_conflict", "already_rotated", "key_revoked", "idempotency_in_progress"},
        412: {"etag_mismatch"},
        413: {"body_too_large"},
        415: {"unsupported_media_type"},
        422: {"idempotency_key_reused", "account_key_limit"},
        429: {"rate_limit_exceeded"},
        500: {"internal_error"},
        502: {"upstream_error"},
        503: {"unavailable"},
        504: {"upstream_timeout"},
    }  # fmt: skip
    types = {status: {REFUSALS[code].type for code in codes} for status, codes in by_status.items()}
    assert types == {
        **{status: {"invalid_request_error"} for status in (400, 413, 415)},
        **{status: {"conflict_error"} for status in (409, 412)},
        **{status: {"server_error"} for status in (500, 502, 503, 504)},
        401: {"authentication_error"},
        402: {"budget_error"},
        403: {"permission_error"},
        404: {"not_found_error"},
        422: {"invalid_request_error", "quota_error"},
        429: {"rate_limit_error"},
    }


def test_a_fault_hits_the_nth_match_and_as_many_as_it_says() -> None:
    plan = FaultPlan()
    plan.add({"kind": "refuse", "method": "POST", "path": "/v1/keys", "nth": 2, "count": 2})
    hits = [bool(plan.take("POST", "/v1/keys", 0)) for _ in range(5)]
    assert hits == [False, True, True, False, False]
    assert not plan.armed


def test_a_fault_counts_only_what_it_matches() -> None:
    plan = FaultPlan()
    plan.add({"kind": "refuse", "method": "DELETE", "path": "/v1/keys/*", "node": 1, "count": None})
    assert not plan.take("GET", "/v1/keys/x", 1)
    assert not plan.take("DELETE", "/v1/keys", 1)
    assert not plan.take("DELETE", "/v1/keys/x", 0)
    for _ in range(3):
        assert plan.take("DELETE", "/v1/keys/x", 1)
    assert plan.list()[0]["fired"] == 3
    assert plan.clear() == 1
    assert not plan.armed
    assert not plan.take("DELETE", "/v1/keys/x", 1)


@pytest.mark.parametrize(
    "description",
    [
        {},
        {"kind": "explode"},
        {"kind": "refuse", "nth": 0},
        {"kind": "refuse", "count": 0},
        {"kind": "refuse", "node": 2},
        {"kind": "refuse", "method": 1},
        {"kind": "refuse", "seconds": 1},
        {"kind": "latency"},
        {"kind": "latency", "seconds": "1"},
        {"kind": "latency", "seconds": 1, "when": "never"},
        {"kind": "commit_then_truncate", "framing": "odd"},
        {"kind": "error", "status": 99},
    ],
    ids=str,
)
def test_a_fault_that_means_nothing_is_refused(description: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        FaultPlan().add(description)


def test_every_kind_of_fault_tells_its_story() -> None:
    assert all(kind.story and set(kind.needs) <= set(kind.defaults) for kind in KINDS.values())


@pytest.mark.parametrize(
    "changes",
    [
        {"nonsense": 1},
        {"management_rpm": -1},
        {"strict_fields": 1},
        {"revoke_lag_ms": [1]},
        {"revoke_lag_ms": "x"},
        {"max_live_keys": 1.5},
    ],
    ids=str,
)
def test_a_setting_that_means_nothing_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        AccountPolicy().changed(changes)


def test_a_deletion_promises_the_slowest_node_unless_told_otherwise() -> None:
    policy = AccountPolicy()
    assert policy.promised_within_ms == 500
    assert policy.changed({"revoke_lag_ms": [0, 9000]}).promised_within_ms == 9000
    assert policy.changed({"revoke_lag_ms": 9000, "effective_within_ms": 1}).promised_within_ms == 1
