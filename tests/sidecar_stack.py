"""A Vault, a relay and a running sidecar between them, set up as `aikeys dev` sets them up: what client tests talk to."""

from __future__ import annotations

import contextlib
import itertools
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import CompletedProcess
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import hvac
import requests
from tests import canaries
from tests.realparts.process import ChildProcess, clean_environment, free_port
from tests.realparts.server import Server

from aikeys.dev.provision import MORE_POLICY, SIDECAR, SIDECAR_POLICY, Credentials, Provisioner, dev_folder
from aikeys.policy.folder import Folder
from aikeys.policy.parse import parse_policy
from aikeys.relay_simulator.control import SimulatorControl
from aikeys.relay_simulator.process import RelaySimulatorProcess

MOUNT = "ai-keys"
#: Other paths that tests may enable our engine at: the sidecar's own policy covers them too.
MORE_MOUNTS = ("team-keys", "moved-keys", "nested/ai/keys")
REQUEST_SECONDS = 40.0

#: What an operator of the engine and its leases may do; not root, so that every check is a real one.
OPERATOR = """
path "*" { capabilities = ["create", "read", "update", "patch", "delete", "list", "sudo"] }
path "sys/leases/lookup" { capabilities = ["update", "list", "sudo"] }
path "sys/leases/lookup/*" { capabilities = ["list", "sudo"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
path "sys/internal/ui/resultant-acl" { capabilities = ["read"] }
"""
#: What an app may do that reads the keys of one role.
READER = 'path "ai-keys/creds/{role}" {{ capabilities = ["read"] }}\n'

T = TypeVar("T")

_names = itertools.count(1)


def unique(prefix: str = "t") -> str:
    """A name that no other test of this run has."""
    return f"{prefix}-{next(_names)}"


def eventually(probe: Callable[[], T], *, seconds: float = 10.0, what: str = "", pause: float = 0.05) -> T:
    """The first true answer of `probe`; fails with the last one after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        answer = probe()
        if answer:
            return answer
        assert time.monotonic() < end, f"{what or 'it'} did not happen within {seconds:g} s: {answer!r}"
        time.sleep(pause)


@dataclass(frozen=True, slots=True)
class Token:
    token: str
    accessor: str


class SidecarStack:
    """A context manager around a server that already runs: a relay simulator and a sidecar, provisioned.

    Attributes: `upstream`, `relay`, `control` (of the relay), `address` (the sidecar's), `root_token`, `app` (the
    demo AppRole), `folder` (the logs). Roles: `demo` (60 s, 180 s) and `short` (8 s, 20 s), as `aikeys dev` makes
    them. `settings` are further settings of `aikeys serve`, by their environment names.
    """

    def __init__(self, upstream: Server, folder: Path, *, settings: Mapping[str, str] | None = None) -> None:
        self.upstream = upstream
        self.folder = folder
        self.settings = dict(settings or {})
        self.root_token = upstream.root_token
        self.provisioner = Provisioner(MOUNT)
        self.relay = RelaySimulatorProcess(log=folder / "relay.log")
        self._sidecar: ChildProcess | None = None
        self._port = 0
        # One for all: making a client costs more than most requests.
        self._client = httpx.Client(trust_env=False)
        self._last_call = 0
        self._asked: set[str] = set()

    # -- life ---------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.relay.start()
        try:
            self.control = SimulatorControl(self.relay.address)
            self._http = httpx.Client(base_url=self.relay.base_url, timeout=10, trust_env=False)
            upstream = self.hvac(address=self.upstream.address)
            self.provisioner.logins(upstream, _folder())
            identity = self.provisioner.credentials(upstream, SIDECAR)
            self._secret_id_file = self.folder / "secret-id"
            self._secret_id_file.touch(mode=0o600)
            self._secret_id_file.write_text(identity.secret_id.reveal())
            self._role_id = identity.role_id
            canaries.learn(identity.secret_id.reveal(), "the sidecar's secret id")
            canaries.learn(self.root_token, "a root token")
            self.start_sidecar()
            client = self.hvac()
            self.provisioner.engine(
                client, relay_url=self.relay.base_url, management_key=self.relay.management_key
            )
            self.app: Credentials = self.provisioner.credentials(upstream, "demo")
            canaries.learn(self.app.secret_id.reveal(), "an app's secret id")
        except BaseException:
            self.stop()
            raise
        return self

    def start_sidecar(self) -> None:
        """Start it (again): at the same port and with the same data."""
        self._port = self._port or free_port()
        sidecar = ChildProcess(
            [sys.executable, "-m", "aikeys", "serve"],
            folder=self.folder,
            name="sidecar",
            env=clean_environment(
                **{
                    "AIKEYS_LISTEN": f"127.0.0.1:{self._port}",
                    "AIKEYS_UPSTREAM_ADDR": self.upstream.address,
                    "AIKEYS_DATA_DIR": str(self.folder / "data"),
                    "AIKEYS_AUTH_METHOD": "approle",
                    "AIKEYS_AUTH_ROLE_ID": self._role_id,
                    "AIKEYS_AUTH_SECRET_ID_FILE": str(self._secret_id_file),
                    # What a test damages, the requests it makes must find, not the comparison from time to time.
                    "AIKEYS_RECONCILE_INTERVAL": "3600",
                    **self.settings,
                }
            ),
        )
        sidecar.start(self._ready, deadline=30)
        self._sidecar = sidecar

    def stop_sidecar(self) -> None:
        if self._sidecar is not None:
            for log in (self.folder / "data").glob("*-wal"):
                # An orderly end takes it away, and what stood in it is to be searched for secrets.
                with contextlib.suppress(FileNotFoundError):
                    shutil.copy(log, self.folder / "wal-before-the-end")
            self._sidecar.stop()
            self._sidecar = None

    def stop(self) -> None:
        self.stop_sidecar()
        self.relay.stop()
        for name in ("control", "_http", "_client"):
            if hasattr(self, name):
                getattr(self, name).close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.address}/aikeys/health", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def is_vault(self) -> bool:
        """HashiCorp's product, not OpenBao."""
        return self.upstream.program == "vault"

    @property
    def sidecar_pid(self) -> int:
        assert self._sidecar is not None
        return self._sidecar.pid

    @property
    def log(self) -> str:
        """What the sidecar said since it was last started."""
        return "" if self._sidecar is None else self._sidecar.log()

    # -- clients ------------------------------------------------------------------------------------------------

    def hvac(self, token: str | None = None, *, address: str | None = None) -> hvac.Client:
        """hvac at the sidecar (or at `address`) with the root token unless `token` is another ("" for none)."""
        session = requests.Session()
        session.trust_env = False
        given = self.root_token if token is None else token
        return hvac.Client(
            url=address or self.address, token=given or None, session=session, timeout=REQUEST_SECONDS
        )

    def cli(
        self, *arguments: str, token: str | None = None, check: bool = True, stdin: str = ""
    ) -> CompletedProcess[str]:
        """The server's own command line client, at the sidecar."""
        return self.upstream.cli(*arguments, address=self.address, token=token, check=check, stdin=stdin)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        address: str | None = None,
        timeout: float = REQUEST_SECONDS,
    ) -> httpx.Response:
        """One call below ``/v1/`` as it stands, at the sidecar (or at `address`); the path is not normalised.

        With the root token unless `token` is another ("" for none). `body` is sent as JSON, `content` as it is.
        """
        given = self.root_token if token is None else token
        sent = {**({"X-Vault-Token": given} if given else {}), **(headers or {})}
        extra = {"json": body} if content is None and body is not None else {"content": content}
        client = self._client
        # httpx would resolve dots and encode again: the request line is to be exactly what the test says.
        target = {"target": f"/v1/{path}".encode("latin-1")}
        request = client.build_request(
            method,
            f"{address or self.address}/v1/",
            headers=sent,
            timeout=timeout,
            extensions=target,
            **extra,
        )
        answer = client.send(request)
        if address is None and answer.status_code >= 300:
            with (self.folder / "refusals.log").open("ab") as refusals:
                refusals.write(
                    f"{method} {answer.status_code} {answer.headers!r}\n".encode() + answer.content
                )
        return answer

    def direct(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        """The same at the upstream itself."""
        return self.request(method, path, body, address=self.upstream.address, **options)

    # -- callers ------------------------------------------------------------------------------------------------

    def token(self, policy: str | Sequence[str] = (), **options: Any) -> Token:
        """A token with `policy` (HCL, stored under a name of its own; or names); `options` of auth/token/create.

        Made at the upstream, so that it does not depend on what is tested.
        """
        names = list(policy)
        if isinstance(policy, str):
            names = [unique("test-policy")]
            self.upstream.request("PUT", f"sys/policies/acl/{names[0]}", {"policy": policy})
        made = self.upstream.request(
            "POST", "auth/token/create", {"policies": names, "ttl": "10m", **options}
        )
        canaries.learn(made["auth"]["client_token"], "a token")
        return Token(made["auth"]["client_token"], made["auth"]["accessor"])

    def reader(self, role: str = "demo", **options: Any) -> Token:
        """A token that may read the keys of one role."""
        return self.token(READER.format(role=role), **options)

    def read_key(self, role: str = "demo", token: str | None = None) -> dict[str, Any]:
        """A new key's whole envelope."""
        answer = self.request("GET", f"{MOUNT}/creds/{role}", token=token)
        assert answer.status_code == 200, answer.text
        secret: dict[str, Any] = answer.json()
        return secret

    # -- the relay, which judges --------------------------------------------------------------------------------

    def key_status(self, api_key: str) -> int:
        """What the relay answers to one use of the key: 200, or 401 when it is dead."""
        answer = self._http.post(
            "/chat/completions",
            headers={"Authorization": f"Bearer {api_key}"},
            json={"model": "gpt-4.1-mini", "max_tokens": 1, "messages": [{"role": "user", "content": "hi"}]},
        )
        return answer.status_code

    def works(self, api_key: str) -> bool:
        """Whether the relay accepts the key; one that used up its requests per minute is accepted all the same."""
        status = self.key_status(api_key)
        assert status in {200, 401, 429}, status
        return status != 401

    def dies(self, api_key: str, *, seconds: float = 5.0) -> float:
        """Wait until the relay refuses the key; how long that took."""
        start = time.monotonic()
        eventually(lambda: not self.works(api_key), seconds=seconds, what="the end of the key")
        return time.monotonic() - start

    def key_truth(self, key_id: str) -> dict[str, Any]:
        """What the relay holds of a key, dead or alive."""
        return next(key for key in self.control.keys("") if key["id"] == key_id)

    def key_ids(self) -> set[str]:
        """Of all keys there ever were."""
        return {key["id"] for key in self.control.keys("")}

    def live_keys(self) -> set[str]:
        """The ids of all keys that the relay accepts."""
        return {key["id"] for key in self.control.keys(status="active")}

    def mints(self) -> int:
        """How many keys were asked of the relay."""
        return len(self.control.calls("POST", "/v1/keys"))

    def new_mints(self) -> int:
        """How many keys were asked of the relay since this was last asked, repetitions of the same order apart."""
        return len(self._new_orders()[0])

    def _new_orders(self) -> tuple[set[str], bool]:
        """The idempotency keys of orders that are new since the last look, and whether older ones were repeated."""
        calls = self.control.calls(since=self._last_call)
        self._last_call = max([self._last_call, *(call["number"] for call in calls)])
        orders = {
            str(call["idempotency_key"])
            for call in calls
            if (call["method"], call["path"]) == ("POST", "/v1/keys")
        }
        new = orders - self._asked
        self._asked |= new
        return new, bool(orders - new)

    @contextmanager
    def nothing_minted(self) -> Iterator[None]:
        """Fails when the relay was asked for a key meanwhile, or has one that it did not have before.

        An order from before may be repeated meanwhile: that is how the sidecar settles a mint whose answer was lost,
        perhaps by another test's doing, and what it makes it revokes.
        """
        self.new_mints()
        known = self.key_ids()
        yield
        new, settled = self._new_orders()
        assert not new, "the relay was asked for a key"
        assert settled or self.key_ids() <= known, "the relay has a key more"


def _folder() -> Folder:
    """What `aikeys dev` has, with the sidecar's block about the mount repeated for the tests' other mounts and no more."""
    made = dev_folder()
    shipped = made.policy(SIDECAR_POLICY)
    assert shipped is not None
    blocks = re.findall(rf'^path "[^"]*{MOUNT}[^"]*" {{.*?^}}$', shipped.text, re.DOTALL | re.MULTILINE)
    assert blocks, "the shipped policy has no block about the mount"
    text = "\n".join(block.replace(MOUNT, other) for other in MORE_MOUNTS for block in blocks)
    more = parse_policy(text, name=MORE_POLICY, file="more")
    return replace(
        made, policies=tuple(more if policy.name == MORE_POLICY else policy for policy in made.policies)
    )
