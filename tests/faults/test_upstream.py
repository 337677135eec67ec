"""The Vault behind the sidecar fails before, in the middle of, and after every kind of request: a clear answer in time,
nothing minted that cannot be handed out, and when it is back nothing is half done.

That leases end meanwhile, and that answers of no Vault's prove nothing, is shown in `tests/integration`
(`test_bad_surroundings`, `test_sidecar_upstream_down`).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from tests.faults.upstream_requests import DONE, KINDS, Context, Kind, UpstreamBench
from tests.integration.faulty_proxy import FaultyProxy
from tests.realparts.openbao import OpenBaoProcess
from tests.sidecar_stack import SidecarStack, eventually

# A request to the upstream is given up after so long (seconds); one of ours may make several.
GIVEN_UP = 1.0
IN_TIME = 15.0
SETTINGS = {
    "AIKEYS_UPSTREAM_TIMEOUT": str(GIVEN_UP),
    "AIKEYS_UPSTREAM_IDLE_TIMEOUT": str(GIVEN_UP),
    "AIKEYS_UPSTREAM_CONNECT_TIMEOUT": "1",
    # Nothing of the caller is known from before.
    "AIKEYS_IDENTITY_CACHE": "0",
}
# More requests than any one of ours makes.
MOST = 40


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[UpstreamBench]:
    folder = tmp_path_factory.mktemp("upstream")
    with OpenBaoProcess(folder / "server", storage="raft") as server, FaultyProxy(server.address) as proxy:
        settings = {**SETTINGS, "AIKEYS_UPSTREAM_ADDR": proxy.address}
        with SidecarStack(server, folder, settings=settings) as stack:
            yield UpstreamBench(stack, proxy)


@pytest.fixture(autouse=True)
def well_again(bench: UpstreamBench) -> Iterator[None]:
    yield
    bench.proxy.behave()
    bench.forget_other()


def server_of(bench: UpstreamBench) -> OpenBaoProcess:
    assert isinstance(bench.stack.upstream, OpenBaoProcess)
    return bench.stack.upstream


def asked(bench: UpstreamBench, kind: Kind, context: Context) -> httpx.Response:
    """The answer, which comes in time and, when it is no success, says why; and what the relay was asked meanwhile."""
    bench.stack.new_mints()
    start = time.monotonic()
    answer = kind.ask(bench, context)
    assert time.monotonic() - start < IN_TIME
    minted = bench.stack.new_mints()
    if answer.status_code in DONE:
        return answer
    assert answer.status_code in {503, *kind.unfinished}, answer.text
    assert answer.headers["content-type"] == "application/json"
    (text,) = answer.json()["errors"]
    assert text
    assert "sk-holysheep" not in answer.text
    assert not minted, "a key was made for whom none can be handed to"
    return answer


@contextmanager
def away(bench: UpstreamBench) -> Iterator[None]:
    bench.proxy.refuse = True
    bench.proxy.drop_connections()
    try:
        yield
    finally:
        bench.proxy.behave()


@contextmanager
def silent(bench: UpstreamBench) -> Iterator[None]:
    bench.proxy.hang = True
    try:
        yield
    finally:
        bench.proxy.behave()
        bench.proxy.drop_connections()


@contextmanager
def sealed(bench: UpstreamBench) -> Iterator[None]:
    server_of(bench).seal()
    try:
        yield
    finally:
        server_of(bench).unseal()


def serves(bench: UpstreamBench) -> None:
    eventually(
        lambda: httpx.get(f"{bench.stack.address}/aikeys/health", trust_env=False).status_code == 200,
        seconds=40,
        what="the sidecar's health",
    )


@pytest.mark.parametrize("fault", [away, silent], ids=lambda fault: fault.__name__)
@pytest.mark.parametrize("name", KINDS)
def test_while_the_upstream_cannot_be_asked_nothing_is_done(
    bench: UpstreamBench, name: str, fault: type
) -> None:
    kind = KINDS[name]
    context = kind.prepare(bench)
    with fault(bench):
        answer = asked(bench, kind, context)
        assert answer.status_code == 503, answer.text
    serves(bench)
    kind.after(bench, context, answer)
    assert bench.orphans() == []


@pytest.mark.parametrize("then", ["refuse", "lose"])
@pytest.mark.parametrize("name", KINDS)
def test_an_upstream_that_goes_away_after_any_request_leaves_nothing_half_done(
    bench: UpstreamBench, name: str, then: str
) -> None:
    """After the first, the second, and so on, until none fails any more; with "lose", what failed was done there."""
    kind = KINDS[name]
    for passes in range(MOST):
        context = kind.prepare(bench)
        # A kept connection that dies is replaced for what may be repeated; here each failure is to be one.
        bench.proxy.drop_connections()
        bench.proxy.then = then
        bench.proxy.passes = passes
        answer = asked(bench, kind, context)
        tripped = bench.proxy.tripped
        bench.proxy.behave()
        serves(bench)
        kind.after(bench, context, answer)
        assert bench.orphans() == []
        if not tripped:
            assert answer.status_code in DONE
            return
    pytest.fail("it makes more requests than there were faults")


def test_a_sealed_upstream_is_its_own_answer_to_everything(bench: UpstreamBench) -> None:
    contexts = {name: kind.prepare(bench) for name, kind in KINDS.items() if name != "enable"}
    answers = {}
    with sealed(bench):
        for name, context in contexts.items():
            answers[name] = asked(bench, KINDS[name], context)
            assert answers[name].status_code == 503, name
    serves(bench)
    for name, context in contexts.items():
        KINDS[name].after(bench, context, answers[name])
    assert bench.orphans() == []


def test_an_upstream_that_restarts_is_asked_again_when_it_is_there(bench: UpstreamBench) -> None:
    """Killed while each kind of request is made again and again, and back some seconds later."""
    lease_id, key_id = bench.lease()
    server_of(bench).kill()
    try:
        for name in ("creds", "new role", "role", "leases", "a read that passes"):
            kind = KINDS[name]
            assert asked(bench, kind, {"role": "never", "was": None}).status_code == 503
    finally:
        server_of(bench).start()
    serves(bench)
    assert bench.ask("GET", f"{'ai-keys'}/roles/never").status_code == 404
    assert bench.known(lease_id)
    _ = bench.ok("PUT", "sys/leases/revoke", {"lease_id": lease_id})
    assert not bench.lives(key_id)
    assert bench.orphans() == []


@pytest.mark.parametrize("name", KINDS)
def test_a_slow_upstream_is_waited_for(bench: UpstreamBench, name: str) -> None:
    kind = KINDS[name]
    context = kind.prepare(bench)
    bench.proxy.delay = 0.1
    answer = asked(bench, kind, context)
    bench.proxy.behave()
    assert answer.status_code in DONE, answer.text
    kind.after(bench, context, answer)
