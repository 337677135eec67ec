"""When tokens are looked up, and how fast."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from tests.integration.faulty_proxy import FaultyProxy
from tests.integration.token_deaths.watch import CLOCK, Watch, Watches
from tests.integration.token_deaths.world import answer
from tests.realparts.server import Server
from tests.sidecar_stack import eventually

from aikeys.sidecar.token_sweep import AT_ONCE, HOPELESS


def test_a_token_s_end_is_noticed_when_it_comes_though_the_interval_is_long(watch: Watch) -> None:
    lease_id = watch.lease(watch.token(ttl="3s")["accessor"])
    other = watch.lease(watch.token()["accessor"])
    eventually(lambda: not watch.active(lease_id), what="the end of the lease")
    assert watch.active(other)


def test_a_token_that_was_renewed_is_looked_up_at_its_new_end(watch: Watch) -> None:
    made = watch.token(ttl="3s")
    lease_id = watch.lease(made["accessor"])
    first = watch.store.next_token_due()
    eventually(lambda: watch.store.next_token_due() != first, what="the first look")
    renewed = time.monotonic()
    watch.server.request("POST", "auth/token/renew-self", {"increment": "4s"}, token=made["client_token"])
    eventually(lambda: not watch.active(lease_id), seconds=20, what="the end of the lease")
    assert time.monotonic() - renewed > 3.5


def test_a_token_that_died_while_its_key_was_made_is_noticed_soon_though_the_interval_is_long(
    watch: Watch,
) -> None:
    made = watch.token()
    watch.revoke(made)
    lease_id = watch.lease(made["accessor"])
    eventually(lambda: not watch.active(lease_id), what="the end of the lease")


def test_a_lease_of_a_batch_token_ends_with_its_parent(watch: Watch) -> None:
    parent, other = watch.token(), watch.token()
    batch: dict[str, Any] = {"token_type": "batch", "token_orphan": False}
    lease_id = watch.lease(parent_accessor=parent["accessor"], **batch)
    of_another = watch.lease(parent_accessor=other["accessor"], **batch)
    watch.revoke(parent)
    eventually(lambda: not watch.active(lease_id), what="the end of the lease")
    assert watch.active(of_another)


def test_every_token_is_looked_up_again_after_an_interval(watches: Watches, server: Server) -> None:
    watch = watches.at(server, interval=2)
    watch.sweep.start()
    made = watch.token()
    lease_id = watch.lease(made["accessor"], issued=CLOCK.now() - timedelta(seconds=60))
    eventually(lambda: (due := watch.store.next_token_due()) is not None and due > CLOCK.now())
    watch.revoke(made)
    eventually(lambda: not watch.active(lease_id), what="the end of the lease")


# -- how fast -----------------------------------------------------------------------------------------------------


def test_no_more_tokens_are_looked_up_in_a_second_than_allowed(watches: Watches, openbao: Server) -> None:
    watch = watches.at(openbao, rate=40)
    long_ago = CLOCK.now() - timedelta(seconds=60)
    for _ in range(120):
        watch.lease(watch.token()["accessor"], issued=long_ago)
    start = time.monotonic()
    while (due := watch.store.next_token_due()) is not None and due <= CLOCK.now():
        watch.sweep.run_once()
    assert time.monotonic() - start > 119 / 40 - 0.1


def test_an_upstream_that_answers_nothing_useful_is_asked_a_few_times_and_then_left_alone(
    watches: Watches, openbao: Server
) -> None:
    with FaultyProxy(openbao.address) as proxy:
        watch = watches.at(openbao, proxy.address, interval=30)
        long_ago = CLOCK.now() - timedelta(seconds=60)
        for _ in range(60):
            watch.lease(watch.token()["accessor"], issued=long_ago)
        before = len(proxy.requests)
        proxy.answer = answer(503, b'{"errors":["Vault is sealed"]}')
        pauses = [watch.sweep.run_once()]
        time.sleep(pauses[0])
        pauses.append(watch.sweep.run_once())
        # Those under way when the third had failed, and a question after the witness, twice.
        assert len(proxy.requests) - before <= 2 * (HOPELESS + AT_ONCE + 1)
        assert pauses[0] >= 1.0
        assert pauses[1] > pauses[0]


def test_revocations_in_quick_succession_make_all_tokens_due_once_a_second(
    watches: Watches, openbao: Server
) -> None:
    watch = watches.at(openbao)
    made = watch.token()
    watch.lease(made["accessor"], token_orphan=False, issued=CLOCK.now() - timedelta(seconds=60))
    for _ in range(20):
        watch.sweep.ask(orphans=False)
        watch.sweep.run_once()
        if watch.sweep.asked:
            break
    assert watch.sweep.asked, "asked again within a second"
    due = watch.store.next_token_due()
    assert due is not None
    assert due > CLOCK.now() + timedelta(seconds=60)
