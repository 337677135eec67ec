"""Whose word is believed about a token's death: that of our own Vault, which has forgotten nothing."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.faulty_proxy import FaultyProxy
from tests.integration.token_deaths.watch import CLOCK, Watch, Watches
from tests.integration.token_deaths.world import answer
from tests.realparts.server import Server
from tests.sidecar_stack import eventually

from aikeys.framework.response import Unavailable
from aikeys.sidecar.exchange import Reply
from aikeys.sidecar.shadow import sentinel_path
from aikeys.sidecar.token_fate import LOOKUP
from aikeys.sidecar.witness import ENTRY, NUMBER_FIELD, NotOurs, entry


def test_another_server_that_takes_our_token_ends_nothing(
    watches: Watches, openbao: Server, vault: Server
) -> None:
    """Both have the same root token, as servers that are set up alike may."""
    watch = watches.at(openbao)
    watch.witness.renew()
    lease_id = watch.lease(watch.token()["accessor"], issued=CLOCK.now() - timedelta(seconds=60))
    astray = watches.at_the_same(vault)
    with pytest.raises(NotOurs):
        astray.witness.believed_since()
    astray.sweep.run_once()
    assert watch.active(lease_id)
    assert watch.witness.believed_since() is None


def test_a_death_that_does_not_hold_good_when_asked_again_ends_nothing(
    watches: Watches, server: Server
) -> None:
    """As with a standby that lags behind, or an address that leads to another server for a moment."""
    watch = watches.at(server)
    lease_id = watch.lease(watch.token()["accessor"], issued=CLOCK.now() - timedelta(seconds=60))
    asked = []

    def before(_method: str, path: str, _body: Any) -> Reply | None:
        if path != LOOKUP:
            return None
        asked.append(path)
        dead = b'{"errors":["1 error occurred:\\n\\t* invalid accessor\\n\\n"]}'
        return Reply(400, dead) if len(asked) == 1 else None

    watch.own.before = before
    watch.sweep.run_once()
    assert len(asked) == 2
    assert watch.active(lease_id)


def test_before_there_is_a_witness_the_mount_itself_vouches(watch: Watch) -> None:
    assert watch.store.witness() is None
    assert watch.witness.believed_since() is None
    watch.server.request("DELETE", watch.mount.path + sentinel_path(watch.mount))
    with pytest.raises(NotOurs):
        watch.witness.believed_since()


def test_the_number_rises_and_is_the_same_on_both_sides(watches: Watches, server: Server) -> None:
    watch = watches.at(server, interval=0.01)
    numbers = []
    for _ in range(3):
        time.sleep(0.02)
        watch.witness.renew()
        known = watch.store.witness()
        assert known is not None
        assert known.number == watch.number()
        numbers.append(known.number)
    assert numbers == sorted(set(numbers))


def test_of_several_processes_one_raises_the_number(watches: Watches, openbao: Server) -> None:
    one = watches.at(openbao)
    other = watches.at_the_same(openbao, mount=one.mount)
    one.witness.renew()
    number = one.number()
    for witness in (other.witness, one.witness):
        witness.renew()
    assert one.number() == number


@pytest.mark.parametrize("how", ["older", "missing", "forged", "of-another-mount"])
def test_a_lost_number_is_a_restoration_from_then_on_and_for_every_process(
    watches: Watches, server: Server, how: str
) -> None:
    watch = watches.at(server)
    watch.witness.renew()
    known = watch.store.witness()
    assert known is not None
    place = watch.mount.path + ENTRY
    match how:
        case "older":
            watch.server.request("PUT", place, entry(watch.mount, known.number - 1))
        case "missing":
            watch.server.request("DELETE", place)
        case "forged":
            forged = entry(watch.mount, known.number - 1) | {NUMBER_FIELD: known.number + 1000}
            watch.server.request("PUT", place, forged)
        case "of-another-mount":
            other = replace(watch.mount, uuid="another")
            watch.server.request("PUT", place, entry(other, known.number + 1000))

    before = CLOCK.now()
    since = watch.witness.believed_since()
    assert since is not None
    assert before <= since <= datetime.now(UTC)
    assert watch.number() > known.number
    other_process = watches.at_the_same(server, mount=watch.mount)
    assert other_process.witness.believed_since() == since
    other_process.witness.renew()
    assert watch.witness.believed_since() == since


def test_a_new_number_does_not_cover_the_traces_of_a_restoration(watches: Watches, openbao: Server) -> None:
    watch = watches.at(openbao, interval=0.01)
    watch.witness.renew()
    watch.server.request("DELETE", watch.mount.path + ENTRY)
    time.sleep(0.02)
    watch.witness.renew()
    assert watch.witness.believed_since() is not None


def test_a_process_that_sees_the_new_number_first_knows_of_the_restoration(
    watches: Watches, openbao: Server
) -> None:
    watch = watches.at(openbao)
    other = watches.at_the_same(openbao, mount=watch.mount)
    watch.witness.renew()
    watch.server.request("DELETE", watch.mount.path + ENTRY)
    seen: list[datetime | None] = []

    def after(method: str, path: str, _body: Any) -> None:
        if (method, path) == ("PUT", watch.mount.path + ENTRY):
            seen.append(other.witness.believed_since())

    watch.own.after = after
    since = watch.witness.believed_since()
    assert since is not None
    assert seen == [since]


def test_what_was_seen_before_a_restoration_came_out_counts_as_seen_before(
    watches: Watches, openbao: Server
) -> None:
    """However long the round took in which it was looked up."""
    watch = watches.at(openbao)
    other = watches.at_the_same(openbao, mount=watch.mount)
    watch.witness.renew()
    watch.lease(watch.token()["accessor"], issued=CLOCK.now() - timedelta(seconds=60))
    since: list[datetime | None] = []

    def after(_method: str, path: str, _body: Any) -> None:
        if path == LOOKUP:
            watch.server.request("DELETE", watch.mount.path + ENTRY)
            since.append(other.witness.believed_since())

    watch.own.after = after
    watch.sweep.run_once()
    later = CLOCK.now() + timedelta(hours=1)
    [token] = watch.store.claim_tokens(later, later, later + timedelta(hours=1), 10)
    assert since[0] is not None
    assert token.seen_at < since[0]


def test_a_mount_that_is_gone_does_not_keep_the_others_from_vouching(
    watches: Watches, openbao: Server
) -> None:
    gone, watch = watches.at(openbao), watches.at(openbao)
    openbao.request("DELETE", f"sys/mounts/{gone.mount.path.rstrip('/')}")
    watch.mounts.update(gone.mount.uuid, accessor="")
    watch.witness.renew()
    known = watch.store.witness()
    assert known is not None
    assert watch.number() == known.number
    assert watch.witness.believed_since() is None


@pytest.mark.parametrize("first", ["enabled", "disabled"])
def test_a_new_mount_in_the_place_of_one_that_was_disabled_is_no_restoration(
    watches: Watches, openbao: Server, first: str
) -> None:
    old = watches.at(openbao)
    old.witness.renew()
    new = watches.at(openbao) if first == "enabled" else None
    openbao.request("DELETE", f"sys/mounts/{old.mount.path.rstrip('/')}")
    old.mounts.remove(old.mount.uuid)
    new = new or watches.at(openbao)

    assert new.witness.believed_since() is None
    known = new.store.witness()
    assert known is not None
    assert known.restored_at is None


def test_of_what_a_restored_upstream_does_not_know_only_what_was_seen_since_ends(
    watches: Watches, server: Server
) -> None:
    watch = watches.at(server)
    watch.witness.renew()
    dead, seen = watch.token(), watch.token()
    before = watch.lease(dead["accessor"], issued=CLOCK.now() - timedelta(seconds=60))
    watch.server.request("DELETE", watch.mount.path + ENTRY)
    watch.witness.believed_since()
    after = watch.lease(seen["accessor"])
    for made in (dead, seen):
        watch.revoke(made)
    eventually(lambda: watch.sweep.run_once() >= 0 and not watch.active(after), what="the end of the lease")
    assert watch.active(before)


def test_an_upstream_that_cannot_be_asked_is_no_restored_one(watches: Watches, openbao: Server) -> None:
    with FaultyProxy(openbao.address) as proxy:
        watch = watches.at(openbao, proxy.address)
        watch.witness.renew()
        for reply in (answer(500, b"{}"), answer(400, b"{}"), answer(503, b"{}")):
            proxy.answer = reply
            with pytest.raises(Unavailable):
                watch.witness.believed_since()
        proxy.behave()
        watch.witness.believed_since()
        known = watch.store.witness()
        assert known is not None
        assert known.restored_at is None
