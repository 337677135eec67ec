"""Any client's requests about leases get the answers that a server's own engine gives, of OpenBao and of Vault.

`AIKEYS_DIFFERENTIAL_STEPS` is how many steps of the machine are tried at each product (`make differential`: 10,000,
drawn anew each time); without it 240 fixed ones. What differs is shrunk to the fewest steps that still do.
"""

from __future__ import annotations

import math
import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from tests.differential.allowed import ALLOWED
from tests.differential.driver import Driver
from tests.differential.examples import OF_ALLOWED, WITHOUT, Example
from tests.differential.machine import Leases
from tests.differential.pair import Pair

STEPS = int(os.environ.get("AIKEYS_DIFFERENTIAL_STEPS", "240"))
LONG = "AIKEYS_DIFFERENTIAL_STEPS" in os.environ
STEPS_OF_AN_EXAMPLE = 40
# With ten examples and more hypothesis spends most of them on variations of what it has had.
EXAMPLES_AT_ONCE = 9


@pytest.mark.timeout(0 if LONG else 300)
def test_leases_are_those_of_the_servers_own_engine(pair: Pair, capsys: pytest.CaptureFixture[str]) -> None:
    compared, exact, spoiled, applied = pair.compared, pair.exact, pair.spoiled, pair.applied.copy()

    class OfThisPair(Leases):
        pass

    OfThisPair.pair = pair
    left = math.ceil(STEPS / STEPS_OF_AN_EXAMPLE)
    while left > 0:
        run_state_machine_as_test(
            OfThisPair,
            settings=settings(
                max_examples=min(left, EXAMPLES_AT_ONCE),
                stateful_step_count=STEPS_OF_AN_EXAMPLE,
                derandomize=not LONG,
                database=None,
                deadline=None,
                report_multiple_bugs=False,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )
        left -= EXAMPLES_AT_ONCE
    assert pair.compared - compared >= STEPS / 2, "too little was compared to say anything"
    if LONG:
        with capsys.disabled():
            print(
                f"\n{pair.product}: {pair.compared - compared} requests compared, {pair.exact - exact} of them with "
                f"no leeway; {pair.spoiled - spoiled} examples ended early"
            )
            print(_report(pair.applied - applied))


def _report(applied: Counter[str]) -> str:
    seen = [f"  {count:6} {name}" for name, count in applied.most_common()]
    never = [f"   never {entry.name}" for entry in ALLOWED if not applied[entry.name]]
    return "\n".join(["allowed differences:", *seen, *never])


@pytest.mark.parametrize("name", OF_ALLOWED)
def test_what_is_allowed_still_differs(pair: Pair, name: str) -> None:
    """Otherwise the entry has to go: it would let through what nobody has looked at."""
    entry = next(entry for entry in ALLOWED if entry.name == name)
    before = pair.applied[name]
    _run(OF_ALLOWED[name], pair)
    assert (pair.applied[name] > before) == (entry.only in {"", pair.product})


@pytest.mark.parametrize("name", WITHOUT)
def test_this_is_all_the_same(pair: Pair, name: str) -> None:
    _run(WITHOUT[name], pair)


def test_every_allowed_difference_has_its_example() -> None:
    assert list(OF_ALLOWED) == [entry.name for entry in ALLOWED]


def _run(example: Example, pair: Pair) -> None:
    at = Driver(pair)
    try:
        example(at)
    finally:
        at.close()
