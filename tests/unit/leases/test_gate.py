"""A relay in trouble is asked rarely, one that asks for patience gets it, and one that is back is used at once."""

from __future__ import annotations

import pytest

from aikeys.backoff import Backoff
from aikeys.leases.gate import Gate
from aikeys.leases.settings import LeaseSettings

SETTINGS = LeaseSettings(trip=3, probe=15.0, hasten=30.0)


@pytest.fixture
def gate() -> Gate:
    return Gate(SETTINGS, rng=lambda: 1.0)


def test_a_healthy_relay_is_asked_without_limit(gate: Gate) -> None:
    assert gate.admits(0.0, 1000)
    assert not gate.wants_probe(0.0)


def test_some_failures_stop_nobody(gate: Gate) -> None:
    gate.failed(0.0, away=True)
    gate.failed(0.0, away=True)
    assert gate.admits(0.0, 30)


def test_failures_in_a_row_leave_one_lease_to_try_at_growing_intervals(gate: Gate) -> None:
    now, pauses = 0.0, []
    for _ in range(8):
        gate.failed(now, away=True)
        start = now
        while not gate.admits(now, 0):
            now += 0.5
        pauses.append(now - start)
        assert gate.admits(now, 0)
        assert not gate.admits(now, 1) or not gate.tripped
    assert pauses == [0, 0, 1, 2, 4, 8, 15, 15]


def test_one_success_opens_it_for_all_and_calls_those_that_failed(gate: Gate) -> None:
    for _ in range(5):
        gate.failed(0.0, away=True)
    assert gate.succeeded(10.0) is True
    assert gate.admits(10.0, 100)
    assert gate.succeeded(10.0) is False, "once"


def test_a_lease_that_always_fails_is_not_called_at_every_success_of_another(gate: Gate) -> None:
    calls = 0
    for second in range(300):
        gate.failed(float(second), away=False)
        calls += gate.succeeded(float(second))
    assert calls == 10


def test_a_rate_limit_holds_everybody_and_nobody_longer(gate: Gate) -> None:
    gate.rate_limited(0.0, 8.0)
    gate.rate_limited(0.0, 2.0)
    assert not gate.admits(7.9, 0)
    assert gate.admits(8.0, 100)


def test_a_relay_that_was_away_is_looked_for_every_probe_interval(gate: Gate) -> None:
    gate.failed(0.0, away=True)
    looks = [second for second in range(60) if gate.wants_probe(float(second))]
    assert looks == [0, 15, 30, 45]
    gate.succeeded(60.0)
    assert not gate.wants_probe(100.0)


def test_a_lease_of_its_own_trouble_starts_no_search(gate: Gate) -> None:
    gate.failed(0.0, away=False)
    assert not gate.wants_probe(20.0)


def test_the_first_waits_are_vaults_and_no_wait_passes_the_cap() -> None:
    backoff = Backoff()
    bounds = [(backoff.wait(n, lambda: 0.0), backoff.wait(n, lambda: 1.0)) for n in range(1, 5)]
    assert bounds == [(10, 30), (20, 60), (40, 120), (80, 240)]
    assert backoff.wait(10_000, lambda: 1.0) == backoff.longest == 450
