"""A key is to end, and the relay fails in every way it can: nothing is taken for revoked that is not, and all ends."""

from __future__ import annotations

import pytest
from tests.faults.bench import Bench, told_by
from tests.faults.relay_table import DISTINCT, ONE_OF_EACH_KIND, Answer, Family, Fault

NOT_KNOWN = Fault("error", Family.REFUSED, {"status": 404})


@pytest.mark.parametrize("name", DISTINCT)
def test_a_revocation_counts_only_when_the_relay_has_said_so(bench: Bench, name: str) -> None:
    fault = DISTINCT[name]
    for lasting in (False, True):
        lease_id, key_id = bench.lease()
        with bench.fault(fault, "revoke", lasting=lasting, key=key_id):
            answer = bench.revoke(lease_id)
            told = bench.allowed(fault, "revoke", answer, lasting=lasting)
            # Once: the background may have done it by now. While it lasts, nobody can have.
            assert bench.ended(lease_id, key_id) or told is Answer.FAILED
            if lasting and told is Answer.FAILED:
                assert bench.known(lease_id), "the lease was forgotten before the relay confirmed"


@pytest.mark.parametrize("kind", ONE_OF_EACH_KIND)
def test_a_key_that_the_relay_does_not_know_is_not_gone_while_it_lives(bench: Bench, kind: str) -> None:
    """The relay says "not found" to the deletion, and fails in another way when the key is looked at."""
    lease_id, key_id = bench.lease()
    with (
        bench.fault(NOT_KNOWN, "revoke", lasting=True, key=key_id),
        bench.fault(ONE_OF_EACH_KIND[kind], "_confirm_absent", lasting=True, key=key_id),
    ):
        assert told_by(bench.revoke(lease_id)) is Answer.FAILED
        assert bench.known(lease_id)
        assert key_id in bench.stack.live_keys()


def test_afterwards_everything_has_recovered_without_a_restart(bench: Bench) -> None:
    bench.recovered()
