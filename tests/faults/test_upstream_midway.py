"""The Vault behind the sidecar goes away in the middle of a request, after each of the requests that it takes in turn."""

from __future__ import annotations

import pytest
from tests.faults.asking import asked
from tests.faults.upstream_bench import DONE, UpstreamBench
from tests.faults.upstream_requests import KINDS

# More requests than any one of ours makes.
MOST = 40
CASES = [
    *((name, "refuse") for name in KINDS),
    *((name, "lose") for name, kind in KINDS.items() if kind.changes),
]


@pytest.mark.parametrize(("name", "then"), CASES)
def test_an_upstream_that_goes_away_after_any_request_leaves_nothing_half_done(
    upstream: UpstreamBench, name: str, then: str
) -> None:
    """After the first, the second, and so on, until none fails any more; with "lose", what failed was done there."""
    kind = KINDS[name]
    for passes in range(MOST):
        context = kind.prepare(upstream)
        # A kept connection that dies is replaced for what may be repeated; here each failure is to be one.
        upstream.proxy.drop_connections()
        upstream.proxy.then = then
        upstream.proxy.passes = passes
        answer = asked(upstream, kind, context)
        tripped = upstream.proxy.tripped
        upstream.proxy.behave()
        kind.after(upstream, context, answer)
        if not tripped:
            assert answer.status_code in DONE
            assert upstream.orphans() == []
            return
    pytest.fail("it makes more requests than there were faults")
