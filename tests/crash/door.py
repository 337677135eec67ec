"""`aikeys serve` on a folder of its own, to be killed and started again, and the clients that are busy meanwhile."""

from __future__ import annotations

import contextlib
import os
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from tests.crash.books import Promises, check, settled
from tests.crash.children import Child
from tests.realparts.process import clean_environment, free_port
from tests.realparts.server import Server
from tests.sidecar_stack import eventually

from aikeys.cli.serve import _run
from aikeys.framework.clock import SystemClock
from aikeys.policy.folder import shipped_policy
from aikeys.relay_simulator.control import SimulatorControl
from aikeys.relay_simulator.process import RelaySimulatorProcess
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.settings import load_settings
from aikeys.storage import SqlStore, open_store

BUSY_CLIENTS = 8


def serve(environment: dict[str, str]) -> None:
    """What `aikeys serve` does."""
    os.environ.clear()
    os.environ.update(environment)
    _run(load_settings())


class Door:
    """`path(...)` are paths that its policy covers; `half_open` one at which it may read how it is mounted, no more."""

    def __init__(self, upstream: Server, relay: RelaySimulatorProcess, folder: Path) -> None:
        self.upstream = upstream
        self.relay = relay
        self.folder = folder
        self.prefix = f"c-{secrets.token_hex(4)}"
        self.busy = f"{self.prefix}-busy"
        self.half_open = f"half-{self.prefix}"
        self.promises = Promises()
        self.mortal = ""
        self._instances: set[str] = set()
        self._child: Child | None = None
        self._starts = 0
        self._http = httpx.Client(trust_env=False, timeout=60)
        self._token = self._own_token()

    def _own_token(self) -> Path:
        more = f"""
path "{self.prefix}-*" {{ capabilities = ["create", "read", "update", "delete", "list"] }}
path "sys/mounts/{self.prefix}-*" {{ capabilities = ["read"] }}
path "sys/mounts/{self.half_open}/tune" {{ capabilities = ["read"] }}
"""
        self.upstream.request(
            "PUT", f"sys/policies/acl/{self.prefix}", {"policy": shipped_policy("sidecar").text + more}
        )
        body = {"policies": [self.prefix], "no_parent": True, "period": "1h"}
        made = self.upstream.request("POST", "auth/token/create", body)
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self.folder / "own-token"
        place.write_text(made["auth"]["client_token"])
        return place

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self, points: str = "") -> None:
        self.kill()
        self._starts += 1
        port = free_port()
        self.address = f"http://127.0.0.1:{port}"
        environment = clean_environment(
            AIKEYS_LISTEN=f"127.0.0.1:{port}",
            AIKEYS_UPSTREAM_ADDR=self.upstream.address,
            AIKEYS_DATA_DIR=str(self.folder / "data"),
            AIKEYS_TOKEN_SWEEP_INTERVAL="1",
            AIKEYS_AUTH_METHOD="token_file",
            AIKEYS_AUTH_TOKEN_FILE=str(self._token),
        )
        said = self.folder / f"sidecar-{self._starts}.log"
        self._child = Child(serve, environment, points=points, said=said)
        eventually(self._listens, seconds=60, what=f"the start of the sidecar ({said})")

    def _listens(self) -> bool:
        assert self._child is not None
        assert self._child.alive, self._child.read()[-3000:]
        with contextlib.suppress(httpx.TransportError):
            return self._http.get(f"{self.address}/aikeys/health", timeout=5).status_code == 200
        return False

    def died(self) -> bool:
        """Whether the process that serves has been killed; the one above it starts another."""
        return self._child is not None and "was sent SIGKILL" in self._child.read()

    def kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child = None

    def close(self) -> None:
        self.kill()
        self._http.close()

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    @property
    def said(self) -> str:
        return "" if self._child is None else self._child.read()

    # -- asking -------------------------------------------------------------------------------------------------

    def path(self, name: str = "target") -> str:
        return f"{self.prefix}-{name}"

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str = "",
        upstream: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response | None:
        """The answer, None when the connection breaks."""
        base = self.upstream.address if upstream else self.address
        sent = {"X-Vault-Token": token or self.upstream.root_token, **(headers or {})}
        try:
            return self._http.request(method, f"{base}/v1/{path}", json=body, headers=sent)
        except httpx.TransportError:
            return None

    def ok(self, method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        answer = self.ask(method, path, body, **options)
        assert answer is not None, f"{method} {path}: no answer; {self.said[-2000:]}"
        assert answer.status_code < 300, (method, path, answer.status_code, answer.text)
        decoded: dict[str, Any] = answer.json() if answer.content else {}
        return decoded

    def token(self, policy: str) -> str:
        name = f"{self.prefix}-{secrets.token_hex(3)}"
        self.upstream.request("PUT", f"sys/policies/acl/{name}", {"policy": policy})
        made = self.upstream.request("POST", "auth/token/create", {"policies": [name], "no_parent": True})
        return str(made["auth"]["client_token"])

    def mount(self, path: str) -> None:
        """Enable and configure, with a role whose leases last and one whose leases do not."""
        self.ok("POST", f"sys/mounts/{path}", {"type": "ai-keys"})
        self.configure(path)

    def configure(self, path: str) -> None:
        relay = {"base_url": self.relay.base_url, "management_key": self.relay.management_key}
        self.ok("POST", f"{path}/config", {"relay": "holysheep", **relay})
        self.ok("POST", f"{path}/roles/demo", {"ttl": "10m", "max_ttl": "1h", "permissions": ["chat"]})
        self.remember()

    def key(self, path: str) -> tuple[str, str]:
        """A new lease and its key."""
        got = self.ok("GET", f"{path}/creds/demo")
        return str(got["lease_id"]), str(got["data"]["api_key"])

    def works(self, api_key: str) -> bool:
        answer = self._http.get(
            f"{self.relay.base_url}/models", headers={"Authorization": f"Bearer {api_key}"}
        )
        assert answer.status_code in {200, 401, 403}, answer.text
        return answer.status_code == 200

    def mounted(self, path: str) -> dict[str, Any] | None:
        """The mount at the path as the upstream has it."""
        entry: dict[str, Any] | None = self.ok("GET", "sys/mounts", upstream=True)["data"].get(f"{path}/")
        return entry

    def shown(self, path: str) -> str:
        """The type of the mount at the path as the sidecar shows it, "" for none."""
        return str(self.ok("GET", "sys/mounts")["data"].get(f"{path}/", {}).get("type", ""))

    # -- what is on record --------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def store(self) -> Any:
        data = self.folder / "data"
        store: SqlStore = open_store(
            data / "aikeys.db", KeyFileSeal(data / "aikeys.key"), clock=SystemClock()
        )
        try:
            yield store
        finally:
            store.close()

    def lease_ids(self) -> set[str]:
        with self.store() as store:
            return set(store.lease_ids_with_prefix(""))

    def remember(self) -> None:
        """The owner marks of all mounts there are: their keys are looked for even when the mounts are gone."""
        with self.store() as store:
            self._instances |= {mount.instance for mount in store.mounts()}

    def judge(self, control: SimulatorControl, within: float = 30.0) -> None:
        """Clean in time, and the books agree."""
        with self.store() as store:
            self._instances |= {mount.instance for mount in store.mounts()}
            eventually(lambda: settled(store), seconds=within, what="the end of all that was left")
            check(store, control, self._instances, self.promises)


class Clients:
    """Clients with keys of one mount, until the connection breaks or they are told to stop: they renew them, and with
    `restless` they read and revoke keys too, so that some are always on their way.

    On entry each of them has a key.
    """

    def __init__(self, door: Door, *, restless: bool) -> None:
        self._door = door
        self._restless = restless
        self._stop = threading.Event()
        self._begun = threading.Barrier(BUSY_CLIENTS + 1)
        self._threads = [
            threading.Thread(target=self._live, args=(number,), daemon=True) for number in range(BUSY_CLIENTS)
        ]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        self._begun.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _live(self, number: int) -> None:
        lease_id = self._issue()
        self._begun.wait(60)
        while lease_id and not self._stop.is_set():
            if self._ask("sys/leases/renew", {"lease_id": lease_id}) is None:
                return
            if self._restless:
                number += 1
                if number % 3 and not self._revoke(lease_id, sync=number % 3 == 1):
                    return
                lease_id = self._issue()

    def _issue(self) -> str:
        got = self._door.ask("GET", f"{self._door.busy}/creds/demo")
        if got is None or got.status_code != 200:
            return ""
        lease_id = str(got.json()["lease_id"])
        self._door.promises.keys[lease_id] = got.json()["data"]["key_id"]
        return lease_id

    def _revoke(self, lease_id: str, *, sync: bool) -> bool:
        self._door.promises.ending.add(lease_id)
        done = self._ask("sys/leases/revoke", {"lease_id": lease_id, "sync": sync})
        if done is None or done.status_code != 204:
            return False
        self._door.promises.ended.add(lease_id)
        return True

    def _ask(self, path: str, body: dict[str, Any]) -> httpx.Response | None:
        return self._door.ask("POST", path, body)
