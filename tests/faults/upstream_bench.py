"""A sidecar whose Vault is reached through a proxy that can fail, and what is to be seen of it from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from tests.integration.faulty_proxy import FaultyProxy
from tests.realparts.server import ServerProcess
from tests.sidecar_stack import MOUNT, SidecarStack, eventually

OTHER = "team-keys"
DONE = frozenset({200, 204})
# A request to the upstream is given up after so long (seconds); one of ours may make several.
GIVEN_UP = 1.0
SETTINGS = {
    "AIKEYS_UPSTREAM_TIMEOUT": str(GIVEN_UP),
    "AIKEYS_UPSTREAM_IDLE_TIMEOUT": str(GIVEN_UP),
    "AIKEYS_UPSTREAM_CONNECT_TIMEOUT": "1",
    # Nothing of the caller is known from before.
    "AIKEYS_IDENTITY_CACHE": "0",
}


class UpstreamBench:
    """A sidecar whose upstream is reached through a proxy that can fail."""

    def __init__(self, stack: SidecarStack, proxy: FaultyProxy) -> None:
        self.stack = stack
        self.proxy = proxy
        self.control = stack.control
        self.ok("POST", f"{MOUNT}/roles/plain", {"ttl": 600, "max_ttl": 1200})

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> httpx.Response:
        return self.stack.request(method, path, body, headers=headers)

    def ok(self, method: str, path: str, body: Any = None, **headers: str) -> dict[str, Any]:
        answer = self.ask(method, path, body, **headers)
        assert answer.status_code in DONE, f"{method} {path}: {answer.status_code} {answer.text}"
        decoded: dict[str, Any] = answer.json() if answer.content else {}
        return decoded

    def settled(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """The answer once it is no 503 any more: a marker that the failure took away is put back when it is missed."""
        found = eventually(
            lambda: (answer := self.ask(method, path, body)).status_code != 503 and (answer,),
            seconds=20,
            what=f"an answer to {method} {path}",
        )
        assert isinstance(found, tuple)
        answer: httpx.Response = found[0]
        return answer

    def lease(self, role: str = "plain", mount: str = MOUNT) -> tuple[str, str]:
        """A lease's id and its key's."""
        secret = self.ok("GET", f"{mount}/creds/{role}")
        return secret["lease_id"], secret["data"]["key_id"]

    def known(self, lease_id: str) -> bool:
        return self.ask("PUT", "sys/leases/lookup", {"lease_id": lease_id}).status_code == 200

    def lives(self, key_id: str) -> bool:
        return key_id in self.stack.live_keys()

    def enable(self) -> None:
        self.ok("POST", f"sys/mounts/{OTHER}", {"type": "ai-keys"})

    def configure(self) -> None:
        relay = self.stack.relay
        config = {"base_url": relay.base_url, "management_key": relay.management_key}
        assert self.settled("POST", f"{OTHER}/config", config).status_code == 204
        assert self.settled("POST", f"{OTHER}/roles/plain", {"ttl": 60}).status_code == 204

    def disable(self) -> None:
        """However often it takes."""
        eventually(
            lambda: self.ask("DELETE", f"sys/mounts/{OTHER}").status_code == 204,
            seconds=30,
            what="the unmount",
        )

    def forget_other(self) -> None:
        """What a failed test has left of the other mount."""
        if self.ask("GET", f"sys/mounts/{OTHER}").status_code == 200:
            self.ask("PUT", f"sys/leases/revoke-force/{OTHER}")
            self.disable()

    def orphans(self) -> list[dict[str, Any]]:
        """Keys that live at the relay and that no lease knows."""
        query = f"{MOUNT}/leases?state=active,revoking&limit=1000"
        shown = self.settled("GET", query).json()["data"]["lease_info"]
        return self.control.orphans([str(info["key_id"]) for info in shown.values()])

    # -- failing --------------------------------------------------------------------------------------------------

    @property
    def server(self) -> ServerProcess:
        assert isinstance(self.stack.upstream, ServerProcess)
        return self.stack.upstream

    @contextmanager
    def away(self) -> Iterator[None]:
        self.proxy.refuse = True
        self.proxy.drop_connections()
        try:
            yield
        finally:
            self.proxy.behave()

    @contextmanager
    def silent(self) -> Iterator[None]:
        self.proxy.hang = True
        try:
            yield
        finally:
            self.proxy.behave()
            self.proxy.drop_connections()

    @contextmanager
    def sealed(self) -> Iterator[None]:
        self.server.seal()
        try:
            yield
        finally:
            self.server.unseal()

    @contextmanager
    def killed(self) -> Iterator[None]:
        self.server.kill()
        try:
            yield
        finally:
            self.server.start()

    def revoke_own_token(self) -> None:
        """Of the sidecar, by somebody with the right to: all that logged in by an AppRole, so no app may have."""
        for accessor in self.server.request("LIST", "auth/token/accessors")["data"]["keys"]:
            found = self.server.request("POST", "auth/token/lookup-accessor", {"accessor": accessor})["data"]
            if found["path"] == "auth/approle/login":
                self.server.request("POST", "auth/token/revoke-accessor", {"accessor": accessor})

    def serves(self) -> None:
        """Wait until the sidecar's health says so."""
        eventually(
            lambda: httpx.get(f"{self.stack.address}/aikeys/health", trust_env=False).status_code == 200,
            seconds=40,
            what="the sidecar's health",
        )
