"""The sweep in this process, at real servers. No relay stands behind its leases: only that they end is looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.realparts.server import Server
from tests.sidecar_stack import unique

from aikeys.framework.clock import SystemClock
from aikeys.framework.request import Mount
from aikeys.framework.response import Secret
from aikeys.leases.manager import LeaseManager
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.sidecar.exchange import Reply
from aikeys.sidecar.login import TokenFileLogin
from aikeys.sidecar.mount_table import MountTable
from aikeys.sidecar.own_identity import OwnIdentity
from aikeys.sidecar.shadow import Shadow
from aikeys.sidecar.token_sweep import TokenSweep
from aikeys.sidecar.upstream import Upstream
from aikeys.sidecar.witness import ENTRY, NUMBER_FIELD, Witness
from aikeys.storage import SqlStore, open_store
from aikeys.storage.records import LeaseRecord, LeaseState
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
    own: Meddled
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


class Meddled(OwnIdentity):
    """Asks as the sidecar does, with something that happens beside it."""

    before: Callable[[str, str, Any], Reply | None] = staticmethod(lambda *_: None)
    after: Callable[[str, str, Any], None] = staticmethod(lambda *_: None)

    def request(self, method: str, path: str, body: Any = None, **options: Any) -> Reply:
        reply = self.before(method, path, body)
        if reply is None:
            reply = super().request(method, path, body, **options)
        self.after(method, path, body)
        return reply


class Watches:
    """Makes them, one store for all."""

    def __init__(self, folder: Path) -> None:
        self.store = open_store(folder / "aikeys.db", KeyFileSeal(folder / "seal.key"), clock=CLOCK)
        self._folder = folder
        self._upstreams: list[Upstream] = []
        self._sweeps: list[TokenSweep] = []

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
        own, mounts = Meddled(upstream, TokenFileLogin(token_file)), MountTable(self.store)
        shadow = Shadow(own, lambda _mount: ())
        leases = LeaseManager(self.store, CLOCK, NoRelay(), mounts.by_uuid)
        witness = Witness(self.store, own, mounts, shadow, clock=CLOCK, interval=interval)
        sweep = TokenSweep(self.store, leases, own, witness, clock=CLOCK, interval=interval, rate=rate)
        self._sweeps.append(sweep)
        return Watch(server, self.store, mounts, mount or _NOWHERE, own, shadow, witness, sweep)

    def close(self) -> None:
        for sweep in self._sweeps:
            sweep.stop()
        for upstream in self._upstreams:
            upstream.close()
        self.store.close()


_NOWHERE = Mount(uuid="", path="", accessor="", instance="", default_lease_ttl=0, max_lease_ttl=0)
