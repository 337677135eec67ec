"""A sidecar whose sight of a real, durable server passes a proxy, and tokens with keys whose end nobody tells it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.faulty_proxy import FaultyProxy
from tests.realparts.server import ServerProcess
from tests.sidecar_stack import MOUNT, SidecarStack, eventually, unique

from aikeys.sidecar.token_fate import LOOKUP
from aikeys.sidecar.witness import ENTRY, NUMBER_FIELD

#: Keys of this role outlive every test.
ROLE = "lasting"
READ = f'path "{MOUNT}/creds/{ROLE}" {{ capabilities = ["read"] }}\n'
PARENT = READ + 'path "auth/token/create" { capabilities = ["update"] }\n'
LOOKED_UP = re.compile(rb"POST /v1/" + LOOKUP.encode())


@dataclass(frozen=True, slots=True)
class Holder:
    """A token, and a key that was read with it."""

    token: str
    accessor: str
    api_key: str
    lease_id: str


def answer(status: int, body: bytes) -> bytes:
    """A whole answer to any request, as a proxy would give it."""
    head = (
        f"HTTP/1.1 {status} Whatever\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class World:
    """`stack.upstream` is asked past the proxy: what is done there the sidecar does not see."""

    def __init__(self, stack: SidecarStack, server: ServerProcess, proxy: FaultyProxy) -> None:
        self.stack = stack
        self.server = server
        self.proxy = proxy

    def holder(self, policy: str = READ, **options: Any) -> Holder:
        made = self.stack.token(policy, **{"no_parent": True, **options})
        return self.reads_key(made.token, made.accessor)

    def child(self, parent: Holder, **options: Any) -> Holder:
        auth = self.server.request("POST", "auth/token/create", {"ttl": "10m", **options}, token=parent.token)
        return self.reads_key(auth["auth"]["client_token"], auth["auth"]["accessor"])

    def reads_key(self, token: str, accessor: str) -> Holder:
        secret = self.stack.read_key(ROLE, token)
        return Holder(token, accessor, secret["data"]["api_key"], secret["lease_id"])

    def ends(self, holder: Holder, name: str = "it") -> None:
        """The relay refuses its key, and the lease is gone."""
        what = f"the end of the key: {name}"
        eventually(lambda: not self.stack.works(holder.api_key), seconds=20, what=what)
        eventually(lambda: not self._leased(holder), what=f"the end of the lease: {name}")

    def stays(self, holder: Holder) -> bool:
        return self._leased(holder) and self.stack.works(holder.api_key)

    def stays_at_the_relay(self, *holders: Holder) -> None:
        for holder in holders:
            assert self.stack.works(holder.api_key)

    def witness(self) -> int:
        """The number that the upstream shows."""
        return int(self.server.request("GET", f"{MOUNT}/{ENTRY}")["data"][NUMBER_FIELD])

    def _leased(self, holder: Holder) -> bool:
        body = {"lease_id": holder.lease_id}
        return self.stack.request("PUT", "sys/leases/lookup", body).status_code == 200

    def look_ups(self, holder: Holder) -> int:
        """How often the sidecar has asked about its token."""
        seen = self.proxy.requests
        return sum(LOOKED_UP.match(head) is not None and holder.accessor.encode() in head for head in seen)

    def are_looked_up_again(self, *holders: Holder) -> None:
        """Twice: the first of them may have been under way."""
        wanted = {holder: self.look_ups(holder) + 2 for holder in holders}
        eventually(
            lambda: all(self.look_ups(holder) >= count for holder, count in wanted.items()),
            seconds=20,
            what="another look at the tokens",
        )

    def says(self, text: str, *, more_than: int = 0) -> int:
        """Wait until the sidecar's log has this text more often than so many times; how often it has."""
        return eventually(
            lambda: found if (found := self.stack.log.count(text)) > more_than else 0, what=text, seconds=20
        )

    @contextmanager
    def hindered(self, begin: Callable[[], object], end: Callable[[], object]) -> Iterator[None]:
        """Sight is lost; within, the sidecar has tried and failed."""
        before = self.stack.log.count("tokens_not_looked_up")
        begin()
        try:
            yield
            self.says("tokens_not_looked_up", more_than=before + 1)
        finally:
            end()


@contextmanager
def run(server: ServerProcess, folder: Path, **settings: str) -> Iterator[World]:
    """With two processes and a sweep every second, unless `settings` say otherwise."""
    with server, FaultyProxy(server.address) as proxy:
        given = {
            "AIKEYS_UPSTREAM_ADDR": proxy.address,
            "AIKEYS_WORKERS": "2",
            "AIKEYS_TOKEN_SWEEP_INTERVAL": "1",
            **settings,
        }
        with SidecarStack(server, folder, settings=given) as stack:
            role = {"ttl": "20m", "max_ttl": "1h", "permissions": ["chat"]}
            assert stack.request("POST", f"{MOUNT}/roles/{ROLE}", role).status_code < 300
            yield World(stack, server, proxy)


def user_of_a_method(world: World) -> tuple[str, Holder]:
    """A userpass method of its own and one who logged in there."""
    name = unique("users")
    request = world.server.request
    request("POST", f"sys/auth/{name}", {"type": "userpass"})
    request("PUT", f"sys/policies/acl/{name}", {"policy": READ})
    request("POST", f"auth/{name}/users/app", {"password": "of-a-test", "token_policies": name})
    auth = request("POST", f"auth/{name}/login/app", {"password": "of-a-test"})["auth"]
    return name, world.reads_key(auth["client_token"], auth["accessor"])
