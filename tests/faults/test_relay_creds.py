"""A key is asked for, and the relay fails in every way it can: at most one key is made, and none that nobody knows."""

from __future__ import annotations

import pytest
from tests.faults.bench import Bench
from tests.faults.relay_table import FAULTS, Answer

TOLD_MINUTE = {1: "1", 30: "30", None: None}


@pytest.mark.parametrize("name", FAULTS)
def test_a_mint_is_answered_as_documented_and_leaves_one_key_or_none(bench: Bench, name: str) -> None:
    fault = FAULTS[name]
    for lasting in (False, True):
        with bench.fault(fault, "mint", lasting=lasting) as seen:
            answer = bench.ask("GET", "creds/plain")
        told = bench.allowed(fault, "mint", answer, lasting=lasting)
        assert len(seen.orders) == 1, "whatever was repeated was the same order"
        if told is Answer.KEY:
            secret = answer.json()
            assert seen.made == {secret["data"]["key_id"]}
            assert bench.stack.works(secret["data"]["api_key"])
            continue
        if told is Answer.LIMITED:
            assert answer.headers.get("Retry-After") == TOLD_MINUTE[fault.parameters["retry_after"]]
        bench.settled()
        made = bench.stack.key_ids() & seen.made
        assert len(made) <= 1, "made twice"
        assert not made & bench.stack.live_keys(), "a key that nobody has"
        if told is not Answer.UNSETTLED:
            assert not made, "it said that nothing was made"
    assert bench.orphans() == []
    bench.lease()


def test_afterwards_everything_has_recovered_without_a_restart(bench: Bench) -> None:
    bench.recovered()
