"""Every fault of the simulator's plan, with the relay's own books as the judge.

What the driver calls "not applied" must not be in them, and what it calls unknown is resolved by the same intent to
exactly one key.
"""

from __future__ import annotations

import re
import time
from dataclasses import replace
from typing import Any

import pytest
from tests.contract.holysheep_driver.bench import PREFIX, Bench, failing, soon

from aikeys.framework.deadline import Deadline
from aikeys.redaction import SecretString
from aikeys.relay_simulator.process import RelaySimulatorProcess
from aikeys.relays.interface import (
    DriverError,
    KeyRef,
    Kind,
    Minted,
    MintIntent,
    Outcome,
    Probe,
)
from aikeys.relays.registry import make_driver

FAULTS: list[tuple[str, dict[str, Any], Kind, Outcome, bool]] = [
    # kind of fault, parameters, the driver's kind and outcome, whether the relay has the key
    ("refuse", {}, Kind.TIMEOUT, Outcome.UNKNOWN, False),
    ("close", {}, Kind.TIMEOUT, Outcome.UNKNOWN, False),
    ("commit_then_drop", {"rst": True}, Kind.TIMEOUT, Outcome.UNKNOWN, True),
    ("commit_then_drop", {"rst": False}, Kind.TIMEOUT, Outcome.UNKNOWN, True),
    ("commit_then_500", {}, Kind.UNAVAILABLE, Outcome.UNKNOWN, True),
    ("commit_then_500", {"status": 502}, Kind.UNAVAILABLE, Outcome.UNKNOWN, True),
    ("commit_then_500", {"status": 504}, Kind.UNAVAILABLE, Outcome.UNKNOWN, True),
    ("commit_then_truncate", {"framing": "full"}, Kind.PROTOCOL, Outcome.UNKNOWN, True),
    ("commit_then_truncate", {"framing": "short"}, Kind.PROTOCOL, Outcome.UNKNOWN, True),
    ("commit_then_truncate", {"framing": "short", "bytes": 0}, Kind.PROTOCOL, Outcome.UNKNOWN, True),
    ("html", {"status": 200}, Kind.PROTOCOL, Outcome.UNKNOWN, False),
    ("html", {"status": 200, "commit": True}, Kind.PROTOCOL, Outcome.UNKNOWN, True),
    ("html", {"status": 502, "commit": True}, Kind.UNAVAILABLE, Outcome.UNKNOWN, True),
    ("redirect", {}, Kind.CONFIG, Outcome.UNKNOWN, False),
    ("redirect", {"status": 307, "commit": True}, Kind.CONFIG, Outcome.UNKNOWN, True),
    ("rate_limit", {"retry_after": 7}, Kind.RATE_LIMITED, Outcome.NOT_APPLIED, False),
    ("rate_limit", {"retry_after": None}, Kind.RATE_LIMITED, Outcome.NOT_APPLIED, False),
    ("unavailable", {"not_applied": True}, Kind.UNAVAILABLE, Outcome.NOT_APPLIED, False),
    ("unavailable", {"not_applied": False}, Kind.UNAVAILABLE, Outcome.UNKNOWN, False),
    ("unavailable", {"not_applied": False, "commit": True}, Kind.UNAVAILABLE, Outcome.UNKNOWN, True),
    ("error", {"status": 500}, Kind.UNAVAILABLE, Outcome.UNKNOWN, False),
    ("error", {"status": 500, "commit": True}, Kind.UNAVAILABLE, Outcome.UNKNOWN, True),
    ("error", {"status": 403}, Kind.FORBIDDEN, Outcome.NOT_APPLIED, False),
    ("latency", {"seconds": 3.0, "when": "after"}, Kind.TIMEOUT, Outcome.UNKNOWN, True),
    ("latency", {"seconds": 3.0, "when": "before"}, Kind.TIMEOUT, Outcome.UNKNOWN, False),
    ("slow_body", {"seconds": 3.0}, Kind.TIMEOUT, Outcome.UNKNOWN, True),
    ("content_type", {}, Kind.PROTOCOL, Outcome.UNKNOWN, True),
    ("echo_key", {"status": 500, "commit": True}, Kind.UNAVAILABLE, Outcome.UNKNOWN, True),
    ("echo_key", {"status": 400}, Kind.INVALID_REQUEST, Outcome.NOT_APPLIED, False),
]
NAMES = [" ".join((kind, *(f"{name}={value}" for name, value in more.items()))) for kind, more, *_ in FAULTS]


@pytest.mark.parametrize(("fault", "parameters", "kind", "outcome", "made"), FAULTS, ids=NAMES)
def test_a_faulty_mint_is_called_what_it_is_and_the_same_intent_leaves_one_key(
    bench: Bench, fault: str, parameters: dict[str, Any], kind: Kind, outcome: Outcome, made: bool
) -> None:
    bench.driver.check(soon())  # A kept connection, as in use.
    intent = bench.intent()
    bench.control.fault(fault, method="POST", path="/v1/keys", **parameters)
    error = failing(bench.driver.mint, intent, Deadline.after(1))
    assert (error.kind, error.outcome) == (kind, outcome)
    assert bool(bench.live()) is made or "latency" in fault
    assert len(bench.control.calls("POST", "/v1/keys")) == 1, "no mint is repeated blindly"
    if outcome is Outcome.NOT_APPLIED:
        assert not made, "what was called not applied was not"
    bench.control.clear_faults()
    minted = _settled(bench, intent)
    assert [key["id"] for key in bench.live()] == [minted.ref.key_id]
    assert bench.driver.probe(minted.secret, soon()) is Probe.ACCEPTED


def _settled(bench: Bench, intent: MintIntent) -> Minted:
    """The same intent once more, and again while the first call is still running."""
    for _ in range(50):
        try:
            return bench.driver.mint(intent, soon())
        except DriverError as error:
            running = (error.upstream_code, error.kind, error.outcome, error.retry_after)
        assert running == ("idempotency_in_progress", Kind.UNAVAILABLE, Outcome.UNKNOWN, 1.0)
        time.sleep(0.2)
    pytest.fail("the first call never ended")


def test_a_mint_delivered_twice_by_the_network_is_one_key(bench: Bench) -> None:
    bench.control.fault("duplicate", method="POST", path="/v1/keys")
    minted = bench.mint()
    assert [key["id"] for key in bench.live()] == [minted.ref.key_id]


def test_a_rate_limit_tells_how_long_to_wait(bench: Bench) -> None:
    bench.control.fault("rate_limit", method="POST", path="/v1/keys", retry_after=7)
    assert failing(bench.driver.mint, bench.intent(), soon()).retry_after == 7.0


@pytest.mark.parametrize(
    ("fault", "parameters"),
    [
        ("commit_then_drop", {}),
        ("commit_then_500", {}),
        ("commit_then_truncate", {}),
        ("html", {"commit": True}),
        ("redirect", {"commit": True}),
        ("unavailable", {"not_applied": False, "commit": True}),
        ("slow_body", {"seconds": 2.0}),
    ],
)
def test_a_faulty_revocation_is_never_a_success_and_can_be_repeated(
    bench: Bench, fault: str, parameters: dict[str, Any]
) -> None:
    minted = bench.mint()
    bench.control.fault(fault, method="DELETE", path="/v1/keys/*", count=None, **parameters)
    assert failing(bench.driver.revoke, minted.ref, Deadline.after(1)).outcome is Outcome.UNKNOWN
    bench.control.clear_faults()
    assert bench.driver.revoke(minted.ref, soon()).already_gone


def test_a_relay_that_does_not_know_a_key_and_shows_it_is_not_believed(bench: Bench) -> None:
    """A node that has not heard of the key yet, or a relay that lies: the key lives."""
    minted = bench.mint()
    bench.control.fault("error", method="DELETE", path="/v1/keys/*", status=404)
    error = failing(bench.driver.revoke, minted.ref, soon())
    assert (error.kind, bench.driver.probe(minted.secret, soon())) == (Kind.PROTOCOL, Probe.ACCEPTED)
    assert not bench.driver.revoke(minted.ref, soon()).already_gone


@pytest.mark.parametrize("path", ["/v1/keys/*", "/v1/auth/verify"])
@pytest.mark.parametrize("status", [404, 401, 500])
def test_a_key_is_not_absent_while_the_look_at_it_fails(bench: Bench, path: str, status: int) -> None:
    minted = bench.mint()
    absent = replace(minted.ref, key_id="key_00000000000000000000000000")
    bench.control.fault("error", method="GET", path=path, status=status, count=None)
    kind = failing(bench.driver.revoke, absent, soon()).kind
    assert (kind is Kind.NOT_FOUND) is ((path, status) == ("/v1/keys/*", 404))


@pytest.mark.parametrize(
    "fault", ["html", "error", "rate_limit", "redirect", "refuse", "commit_then_truncate"]
)
def test_a_faulty_probe_is_unknown(bench: Bench, fault: str) -> None:
    minted = bench.mint()
    bench.control.fault(fault, method="GET", path="/v1/keys/validate", count=None)
    assert bench.driver.probe(minted.secret, Deadline.after(1)) is Probe.UNKNOWN


def test_no_error_shows_a_key_that_the_relay_echoes(bench: Bench) -> None:
    for method, call in (
        ("POST", bench.mint),
        ("GET", lambda: bench.driver.check(soon())),
        ("DELETE", lambda: bench.driver.revoke(KeyRef("holysheep", "", "key_01", PREFIX), soon())),
    ):
        bench.control.fault("echo_key", method=method, path="/v1/*", commit=method == "POST")
        error = failing(call)
        shown = f"{error} {vars(error)} {error.__cause__!r} {error.__context__!r}"
        assert bench.process.management_key not in shown
        # The hint that the relay shows of every key ends after four characters.
        assert not re.search(r"sk-holysheep-[A-Za-z0-9-]{5,}", shown)
        assert "redacted" in error.safe_message


def test_a_relay_that_is_not_there_was_not_asked(bench: Bench) -> None:
    with RelaySimulatorProcess() as process:
        driver = make_driver(bench.config(base_url=process.base_url))
        process.kill()
        error = failing(driver.mint, bench.intent(), soon())
        assert (error.kind, error.outcome) == (Kind.UNAVAILABLE, Outcome.NOT_APPLIED)
        assert driver.probe(SecretString("sk-holysheep-" + "x" * 32), soon()) is Probe.UNKNOWN
        driver.close()
