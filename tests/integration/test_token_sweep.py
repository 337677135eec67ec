"""When tokens are looked up, how fast, and whose word is believed: the sweep in this process, at real servers.

No relay stands behind these leases: that a lease is on its way to its end is what is looked at here.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.integration.faulty_proxy import FaultyProxy
from tests.integration.token_deaths.world import answer
from tests.realparts.server import Server
from tests.sidecar_stack import eventually, unique

from aikeys.framework.clock import SystemClock
from aikeys.framework.request import Mount
from aikeys.framework.response import Secret, Unavailable
from aikeys.leases.manager import LeaseManager
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.sidecar.login import TokenFileLogin
from aikeys.sidecar.mount_table import MountTable
from aikeys.sidecar.own_identity import OwnIdentity
from aikeys.sidecar.shadow import Shadow, sentinel_path
from aikeys.sidecar.token_sweep import AT_ONCE, HOPELESS, TokenSweep
from aikeys.sidecar.upstream import Upstream
from aikeys.sidecar.witness import ENTRY, NUMBER_FIELD, NotOurs, Witness, entry
from aikeys.storage import SqlStore, open_store
from aikeys.storage.interface import LeaseRecord, LeaseState
from aikeys.transport import KeepAliveTransport

CLOCK = SystemClock()


class NoRelay:
    """The leases are only marked here; whatever revokes them does not run."""

    def renew(self, secret: Secret, mount: Mount) -> Secret:
        raise AssertionError

    def revoke(self, secret: Secret, mount: Mount) -> dict[str, Any]:
        raise AssertionError


@dataclass
class Watch:
    """A mount of ours at `server`, a store, and what the sidecar makes of them."""

    server: Server
    store: SqlStore
    mounts: MountTable
    mount: Mount
    shadow: Shadow
    witness: Witness
    sweep: TokenSweep

    def token(self, **options: Any) -> dict[str, Any]:
        body = {"policies": ["default"], "ttl": "10m", "no_parent": True, **options}
        made: dict[str, Any] = self.server.request("POST", "auth/token/create", body)["auth"]
        return made

    def lease(self, accessor: str = "", *, issued: datetime | None = None, **changes: Any) -> str:
        now = issued or CLOCK.now()
        lease_id = f"{self.mount.path}creds/demo/{unique('lease')}"
        record = LeaseRecord(
            lease_id=lease_id,
            mount_uuid=self.mount.uuid,
            path=f"{self.mount.path}creds/demo",
            secret_type="api_key",
            internal={},
            issue_time=now,
            expire_time=now + timedelta(hours=1),
            due_at=now + timedelta(hours=1),
            token_accessor=accessor,
        )
        self.store.put_lease(replace(record, **changes))
        return lease_id

    def active(self, lease_id: str) -> bool:
        lease = self.store.lease(lease_id)
        return lease is not None and lease.state is LeaseState.ACTIVE

    def revoke(self, made: dict[str, Any]) -> None:
        self.server.request("POST", "auth/token/revoke", {"token": made["client_token"]})

    def number(self) -> int:
        shown: int = self.server.request("GET", self.mount.path + ENTRY)["data"][NUMBER_FIELD]
        return shown


class Watches:
    """Makes them, one store for all."""

    def __init__(self, folder: Path) -> None:
        self.store = open_store(folder / "aikeys.db", KeyFileSeal(folder / "seal.key"), clock=CLOCK)
        self._folder = folder
        self._upstreams: list[Upstream] = []

    def at(self, server: Server, address: str = "", *, interval: float = 3600, rate: float = 1000) -> Watch:
        path = unique("swept") + "/"
        server.request("POST", f"sys/mounts/{path.rstrip('/')}", {"type": "kv", "options": {"version": "1"}})
        found = server.request("GET", "sys/mounts")["data"][path]
        watch = self.at_the_same(server, address, interval=interval, rate=rate)
        watch.mount = watch.mounts.add(
            path=path,
            uuid=found["uuid"],
            accessor=found["accessor"],
            default_lease_ttl=3600,
            max_lease_ttl=7200,
        )
        watch.shadow.sync(watch.mount)
        return watch

    def at_the_same(
        self,
        server: Server,
        address: str = "",
        *,
        mount: Mount | None = None,
        interval: float = 3600,
        rate: float = 1000,
    ) -> Watch:
        """Another process's, on the same store."""
        upstream = Upstream(address or server.address, KeepAliveTransport())
        self._upstreams.append(upstream)
        token_file = self._folder / "token"
        token_file.write_text(server.root_token)
        own, mounts = OwnIdentity(upstream, TokenFileLogin(token_file)), MountTable(self.store)
        shadow = Shadow(own, lambda _mount: ())
        leases = LeaseManager(self.store, CLOCK, NoRelay(), mounts.by_uuid)
        witness = Witness(self.store, own, mounts, shadow, clock=CLOCK, interval=interval)
        sweep = TokenSweep(self.store, leases, own, witness, clock=CLOCK, interval=interval, rate=rate)
        return Watch(server, self.store, mounts, mount or _NOWHERE, shadow, witness, sweep)

    def close(self) -> None:
        for upstream in self._upstreams:
            upstream.close()
        self.store.close()


_NOWHERE = Mount(uuid="", path="", accessor="", instance="", default_lease_ttl=0, max_lease_ttl=0)


@pytest.fixture
def watches(tmp_path: Path) -> Iterator[Watches]:
    made = Watches(tmp_path)
    yield made
    made.close()


@pytest.fixture(params=["openbao", "vault"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def watch(watches: Watches, server: Server) -> Iterator[Watch]:
    made = watches.at(server)
    made.sweep.start()
    yield made
    made.sweep.stop()


# -- when ---------------------------------------------------------------------------------------------------------


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
    try:
        made = watch.token()
        lease_id = watch.lease(made["accessor"], issued=CLOCK.now() - timedelta(seconds=60))
        eventually(lambda: (due := watch.store.next_token_due()) is not None and due > CLOCK.now())
        watch.revoke(made)
        eventually(lambda: not watch.active(lease_id), what="the end of the lease")
    finally:
        watch.sweep.stop()


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
    watch.sweep.stop()


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
        watch.sweep.stop()


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
    watch.sweep.stop()


# -- whose word ---------------------------------------------------------------------------------------------------


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
    watch.sweep.stop()


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
