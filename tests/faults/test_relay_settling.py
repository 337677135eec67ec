"""The answers of mints were lost, and the relay goes on failing, in every way, when it is asked what became of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from tests.faults.bench import Bench, told_by
from tests.faults.relay_table import CALLS, ONE_OF_EACH_KIND, Answer, Family, Fault

# Both attempts of a request are carried out and their answers lost.
LOST = Fault("commit_then_drop", Family.BROKEN)


@pytest.mark.parametrize("call", ["find", "_pages"])
def test_lost_mints_are_found_and_revoked_however_the_looks_at_them_fail(bench: Bench, call: str) -> None:
    """As many at once as there are kinds of faults; the first look at the relay meets one of them, the second the next."""
    asked = CALLS[call]
    before = bench.stack.key_ids()
    for number, fault in enumerate(ONE_OF_EACH_KIND.values(), 1):
        bench.control.fault(
            fault.kind,
            method=asked.method,
            path=asked.path.replace("{name}", "vlt-*"),
            nth=number,
            **fault.parameters,
        )
    count = len(ONE_OF_EACH_KIND)
    with bench.fault(LOST, "mint", lasting=False, times=2 * count) as seen, ThreadPoolExecutor(count) as pool:
        answers = [*pool.map(lambda _: bench.ask("GET", "creds/plain"), range(count))]
    assert {told_by(answer) for answer in answers} == {Answer.UNSETTLED}
    assert len(seen.orders) == count
    bench.settled()
    spent = {fault["kind"]: fault["fired"] for fault in bench.control.faults()}
    bench.control.clear_faults()
    assert spent == dict.fromkeys(ONE_OF_EACH_KIND, 1), "a kind that no look has met"
    made = bench.stack.key_ids() - before
    assert len(made) == count
    assert not made & bench.stack.live_keys()


def test_afterwards_everything_has_recovered_without_a_restart(bench: Bench) -> None:
    bench.recovered()
