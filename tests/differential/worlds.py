"""The two worlds: a server with its `database` engine on PostgreSQL, and a server with a sidecar in front.

Both get the same requests, at mounts of the same path, so that answers can be compared as they stand. Where the two
engines name a thing differently, the words are ours and the reference translates: its `default_ttl` is our `ttl`, its
PATCH of a role is a write, and its credentials are only read.
"""

from __future__ import annotations

import enum
import itertools
import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from tests.realparts.postgres import PostgresProcess
from tests.realparts.server import Server
from tests.sidecar_stack import SidecarStack

REQUEST_SECONDS = 60.0
ROOT = "@root@"
#: What one name stands for differs between the worlds: `@lease-3@` is a lease id, `@token-1@` a token.
NAME = re.compile(r"@[a-z]+(?:-\d+)?(?:\.[a-z]+)?@")
#: How long a PostgreSQL role is good for is its own affair here: the lease is what is compared.
CREATION = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}';"
UNKNOWN_ROLE = "nobody-has-this-name"
#: What a merge patch unsets, a write to the database engine has to set to its default.
UNSET = 0


class Kind(enum.Enum):
    """What a request is about, as far as the two engines need translation for it."""

    SYSTEM = "system"
    MOUNT = "mount"
    ROLE = "role"
    CREDS = "creds"


class About(enum.Enum):
    """What the asker knows of the moment, for those differences that are there on purpose then and at no other time."""

    NOTHING = ""
    FAILED_REVOCATION = "a lease whose revocation has been made to fail"
    LAPSED_WRAPPING = "a lease whose wrapping token has ended unread"
    LAST_USE = "the last use of the token"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request in the words of both worlds. `body` is sent as JSON; None is no body.

    `past` goes to the server itself where there is a sidecar. `about` is what is special about the moment. `makes` is
    a name such as `lease-3`: what the answer hands out is known by it from then on, as `World.learn` says.
    """

    method: str
    path: str
    body: Any = None
    token: str = ROOT
    kind: Kind = Kind.SYSTEM
    headers: Mapping[str, str] = field(default_factory=dict)
    makes: str = ""
    past: bool = False
    about: About = About.NOTHING

    def __str__(self) -> str:
        shown = "" if self.body is None else f" {json.dumps(self.body)}"
        by = "" if self.token == ROOT else f" by {self.token or 'nobody'}"
        past = " past the sidecar" if self.past else ""
        return f"{self.method} {self.path}{shown}{dict(self.headers) or ''}{by}{past}"


@dataclass(frozen=True, slots=True)
class Answer:
    """As it came. `started` and `ended` are seconds since the epoch, of the clock that the servers read too."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    started: float
    ended: float

    @property
    def json(self) -> Any:
        """The body, or None where there is none."""
        return json.loads(self.content) if self.content else None

    def __str__(self) -> str:
        return f"{self.status} {self.content.decode().strip()}"


class Names:
    """What the common names stand for in one world."""

    def __init__(self) -> None:
        self._actual: dict[str, str] = {}
        self._lasting: dict[str, str] = {}

    def __getitem__(self, name: str) -> str:
        return self._actual[name]

    def __contains__(self, name: str) -> bool:
        return name in self._actual

    def bind(self, name: str, actual: str) -> None:
        assert NAME.fullmatch(name), name
        self._actual[name] = actual

    def keep(self) -> None:
        """What has a name by now has it for good."""
        self._lasting = dict(self._actual)

    def forget(self) -> None:
        """Everything else."""
        self._actual = dict(self._lasting)

    def actual(self) -> set[str]:
        """Everything that has a name."""
        return set(self._actual.values())

    def resolve(self, value: Any) -> Any:
        """`value` with every name replaced, however deep it stands."""
        if isinstance(value, str):
            return NAME.sub(lambda found: self._actual[found[0]], value)
        if isinstance(value, Mapping):
            return {self.resolve(key): self.resolve(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        return value

    def hide(self, text: str) -> str:
        """`text` with everything that has a name replaced by it, the longest first."""
        if len(text) < _SHORTEST:
            return text
        for name, actual in sorted(self._actual.items(), key=lambda item: -len(item[1])):
            # The root token is an ordinary word.
            if len(actual) >= _SHORTEST:
                text = text.replace(actual, name)
        return text


_SHORTEST = 20


class World:
    """One side. `engine` is what it calls its engine's type, `ttl` what a role there calls the TTL of its leases."""

    name: str
    engine: str
    ttl: str

    def __init__(self, address: str, root_token: str, *, server_address: str = "") -> None:
        self.names = Names()
        self.names.bind(ROOT, root_token)
        self._http = httpx.Client(trust_env=False, timeout=REQUEST_SECONDS)
        self._address = address
        self._server_address = server_address or address

    def send(self, ask: Ask) -> Answer:
        """The request in this world's words, exactly as it stands: no path is normalised, nothing is sent twice."""
        told = self.translated(ask)
        headers = {name: self.names.resolve(value) for name, value in told.headers.items()}
        if told.token:
            headers["X-Vault-Token"] = self.names.resolve(told.token)
        content = None if told.body is None else json.dumps(self.names.resolve(told.body)).encode()
        target = f"/v1/{self.names.resolve(told.path)}".encode("latin-1")
        request = self._http.build_request(
            told.method,
            f"{self._server_address if ask.past else self._address}/v1/",
            headers=headers,
            content=content,
            extensions={"target": target},
        )
        started = time.time()
        answer = self._http.send(request)
        return Answer(answer.status_code, dict(answer.headers), answer.content, started, time.time())

    def must(self, method: str, path: str, body: Any = None) -> Any:
        """A request of the set-up, with the root token; the answer's body."""
        answer = self.send(Ask(method, path, body))
        assert answer.status < 400, f"{self.name}: {method} {path} got {answer}"
        return answer.json

    def learn(self, makes: str, answer: Answer) -> None:
        """Name what was handed out: a lease or a token `@<makes>@`, a token's `@<makes>.accessor@`, a wrapping token
        `@<makes>.wrap@` and its `@<makes>.key@`."""
        body = answer.json if answer.status == 200 else None
        if not makes or not isinstance(body, dict):
            return
        wrap, auth = body.get("wrap_info") or {}, body.get("auth") or {}
        found = {
            f"@{makes}@": body.get("lease_id") or auth.get("client_token"),
            f"@{makes}.accessor@": auth.get("accessor"),
            f"@{makes}.wrap@": wrap.get("token"),
            f"@{makes}.key@": wrap.get("accessor"),
        }
        for name, actual in found.items():
            if actual:
                self.names.bind(name, actual)

    def translated(self, ask: Ask) -> Ask:
        return ask

    def enable(self, path: str) -> None:
        """Mount the engine there, ready for roles."""
        raise NotImplementedError

    def alive(self, path: str) -> int:
        """How many credentials that were handed out at a mount still work, as the one who made them says."""
        raise NotImplementedError

    def revocations_fail(self, path: str, role: str, *, fail: bool) -> None:
        """What makes the credentials of this role takes none back any more, or does again."""
        raise NotImplementedError

    def close(self) -> None:
        self._http.close()


class Reference(World):
    name = "the reference"
    engine = "database"
    ttl = "default_ttl"

    def __init__(self, server: Server, postgres: PostgresProcess) -> None:
        super().__init__(server.address, server.root_token)
        self._postgres = postgres

    def translated(self, ask: Ask) -> Ask:
        if ask.kind is Kind.CREDS and "/creds/" in ask.path and ask.method in {"PUT", "POST"}:
            return replace(ask, method="GET", body=None)
        if ask.kind is not Kind.ROLE or not isinstance(ask.body, Mapping):
            return ask
        fields = dict(ask.body)
        if ask.method == "PATCH":
            fields = {name: UNSET if value is None else value for name, value in fields.items()}
        if "ttl" in fields:
            fields["default_ttl"] = fields.pop("ttl")
        own = {"db_name": "postgres", "creation_statements": [CREATION]}
        method = "PUT" if ask.method == "PATCH" else ask.method
        headers = {name: value for name, value in ask.headers.items() if name != "Content-Type"}
        return replace(ask, method=method, body=own | fields, headers=headers)

    def enable(self, path: str) -> None:
        self.must("POST", f"sys/mounts/{path}", {"type": "database"})
        self.must(
            "POST",
            f"{path}/config/postgres",
            {
                "plugin_name": "postgresql-database-plugin",
                "allowed_roles": "*",
                "connection_url": self._postgres.connection_url,
                "username": "postgres",
                "password": self._postgres.password,
                "max_open_connections": 2,
                # So that the roles it makes can be counted by the mount.
                "username_template": f"{path}-{{{{random 20}}}}",
            },
        )

    def alive(self, path: str) -> int:
        with self._postgres.connect() as connection:
            found = connection.execute(
                "SELECT count(*) FROM pg_roles WHERE rolname LIKE %s", [f"{path}-%"]
            ).fetchone()
        assert found is not None
        return int(found[0])

    def revocations_fail(self, path: str, role: str, *, fail: bool) -> None:
        statements = [f'DROP ROLE "{UNKNOWN_ROLE}"'] if fail else []
        self.must("POST", f"{path}/roles/{role}", {"revocation_statements": statements})


class Ours(World):
    name = "ours"
    engine = "ai-keys"
    ttl = "ttl"

    def __init__(self, stack: SidecarStack) -> None:
        super().__init__(stack.address, stack.root_token, server_address=stack.upstream.address)
        self._stack = stack

    def enable(self, path: str) -> None:
        self.must("POST", f"sys/mounts/{path}", {"type": "ai-keys"})
        relay = self._stack.relay
        self.must(
            "POST", f"{path}/config", {"base_url": relay.base_url, "management_key": relay.management_key}
        )

    def alive(self, path: str) -> int:
        mount = f"{path}/"
        keys = self._stack.control.keys(status="active")
        return sum(key["metadata"].get("aikeys_mount") == mount for key in keys)

    def revocations_fail(self, path: str, role: str, *, fail: bool) -> None:
        self._stack.control.clear_faults()
        if fail:
            self._stack.control.fault("error", status=500, path="/v1/keys/*", method="DELETE", count=None)


_paths = itertools.count(1)


def fresh_path() -> str:
    """A mount's path that neither world has seen."""
    return f"ai-keys-{next(_paths)}"
