"""A role wants to see its keys refused, and the relay fails in every way it can when a key is tried."""

from __future__ import annotations

import pytest
from tests.faults.bench import Bench
from tests.faults.relay_table import DISTINCT, ONE_OF_EACH_KIND, Fault
from tests.sidecar_stack import eventually


def check(bench: Bench, fault: Fault, *, lasting: bool) -> None:
    # Where nobody can be asked the relay's promise counts, which is then to be over soon.
    bench.control.settings(effective_within_ms=0 if lasting else 5000)
    lease_id, key_id = bench.lease("checked")
    with bench.fault(fault, "probe", lasting=lasting):
        bench.allowed(fault, "probe", bench.revoke(lease_id), lasting=lasting)
    eventually(lambda: bench.ended(lease_id, key_id), seconds=20, what="the end of the lease")


@pytest.mark.parametrize("name", DISTINCT)
def test_what_is_not_the_relays_word_on_the_key_is_asked_again(bench: Bench, name: str) -> None:
    check(bench, DISTINCT[name], lasting=False)


@pytest.mark.parametrize("kind", ONE_OF_EACH_KIND)
def test_when_nobody_can_be_asked_the_relays_own_bound_counts(bench: Bench, kind: str) -> None:
    check(bench, ONE_OF_EACH_KIND[kind], lasting=True)


def test_afterwards_everything_has_recovered_without_a_restart(bench: Bench) -> None:
    bench.control.settings(effective_within_ms=None)
    bench.recovered()
