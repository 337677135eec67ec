"""A whole sidecar in this process, over real HTTP, between a real Vault or OpenBao and a relay simulator.

In this process, so that a test can also call what runs in the background, and see what is on record.
"""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import hvac
from tests.realparts.server import ServerProcess
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wsgi import get_input_stream

from aikeys.framework.request import Mount
from aikeys.policy.folder import shipped_policy
from aikeys.relay_simulator.process import RelaySimulatorProcess
from aikeys.settings import load_settings
from aikeys.sidecar.app import create_app
from aikeys.sidecar.build import close_sidecar, open_sidecar
from aikeys.sidecar.wsgi import Front

# The mounts of the tests; policies/sidecar.hcl says that its block is to be repeated for every mount.
OWN_MOUNTS = """
path "t-*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "sys/mounts/t-*" { capabilities = ["read"] }
"""


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002
        pass


@dataclass(frozen=True, slots=True)
class Key:
    """One credential as an app got it."""

    lease_id: str
    api_key: str
    lease_duration: int


class Stand:
    """`server` is the upstream, `sidecar` the composition root, `address` where clients find the sidecar."""

    def __init__(self, server: ServerProcess, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.is_vault = server.program == "vault"
        self.relay = RelaySimulatorProcess()
        self._mounts: list[str] = []
        self._shared = ""
        # One client: each makes a trust store of its own, which takes longer than a request.
        self._http_client = httpx.Client(trust_env=False, timeout=90)

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.relay.start()
        try:
            self.server.request(
                "PUT",
                "sys/policies/acl/aikeys-sidecar",
                {"policy": shipped_policy("sidecar").text + OWN_MOUNTS},
            )
            own = self.server.request(
                "POST",
                "auth/token/create",
                {"policies": ["aikeys-sidecar"], "no_parent": True, "period": "1h"},
            )
            token_file = self.folder / "own-token"
            token_file.write_text(own["auth"]["client_token"])
            settings = load_settings(
                upstream_addr=self.server.address,
                auth_method="token_file",
                auth_token_file=token_file,
                data_dir=self.folder,
                identity_cache=0,
                token_sweep_interval=3600,
            )
            self.sidecar = open_sidecar(settings)
            self.sidecar.background.start()
            self._serve()
        except BaseException:
            self.relay.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._thread.join(10)
        self._http.server_close()
        close_sidecar(self.sidecar)
        self._http_client.close()
        self.relay.stop()

    def _serve(self) -> None:
        front = Front(self.sidecar, create_app(self.sidecar))

        def application(environ: dict[str, Any], start_response: Any) -> Any:
            # As gunicorn does it: the stream ends where the body does.
            environ["wsgi.input"] = get_input_stream(environ)
            return front(environ, start_response)

        self._http = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Quiet)
        self.address = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, name="stand", daemon=True)
        self._thread.start()

    # -- asking -------------------------------------------------------------------------------------------------

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = "",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        upstream: bool = False,
    ) -> httpx.Response:
        """One request to the sidecar (or past it), with the root token unless told otherwise (None: with none)."""
        sent = dict(headers or {})
        if token is not None:
            sent["X-Vault-Token"] = token or self.server.root_token
        base = self.server.address if upstream else self.address
        body_of: dict[str, Any] = {"json": body} if content is None else {"content": content}
        return self._http_client.request(method, f"{base}/v1/{path}", headers=sent, **body_of)

    def ok(self, method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:
        """The same, which must succeed; its body."""
        answer = self.call(method, path, body, **options)
        assert answer.status_code < 300, (method, path, answer.status_code, answer.text)
        decoded: dict[str, Any] = answer.json() if answer.content else {}
        return decoded

    def hvac(self, token: str = "") -> hvac.Client:
        return hvac.Client(url=self.address, token=token or self.server.root_token)

    def cli(self, *arguments: str, token: str = "", check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.server.cli(*arguments, address=self.address, token=token or None, check=check, seconds=90)

    def token(
        self, policy: str = "", *, bound_cidrs: str = "", no_default_policy: bool = False, **options: Any
    ) -> str:
        """A token with this policy alone (and `default`), made directly at the upstream."""
        name = f"t-{secrets.token_hex(4)}"
        policies = [] if no_default_policy else ["default"]
        if policy:
            self.server.request("PUT", f"sys/policies/acl/{name}", {"policy": policy})
            policies.append(name)
        body = {"no_parent": True, "ttl": "30m", "policies": policies, "no_default_policy": no_default_policy}
        path = "auth/token/create"
        if bound_cidrs:
            # Only a role binds a token to addresses.
            role = {"token_bound_cidrs": bound_cidrs, "allowed_policies": policies, "orphan": True}
            role["token_no_default_policy"] = no_default_policy
            self.server.request("POST", f"auth/token/roles/{name}", role)
            path, body = f"{path}/{name}", {"policies": policies}
        return str(self.server.request("POST", path, {**body, **options})["auth"]["client_token"])

    # -- a mount with a role ------------------------------------------------------------------------------------

    def path(self) -> str:
        """A path that nothing was ever mounted at; disabled at the end of the test."""
        path = f"t-{secrets.token_hex(4)}"
        self._mounts.append(path)
        return path

    def mount(self, path: str = "", **role: Any) -> str:
        """Enable an engine, point it at the relay and write the role `demo`; its path without a slash."""
        path = path or self.path()
        self.ok("POST", f"sys/mounts/{path}", {"type": "ai-keys"})
        self.configure(path, **role)
        return path

    def shared_mount(self) -> str:
        """One mount with a role for every test that leaves it as it was."""
        if not self._shared:
            self._shared = f"t-{secrets.token_hex(4)}"
            self.mount(self._shared)
        return self._shared

    def configure(self, path: str, **role: Any) -> None:
        config = {
            "relay": "holysheep",
            "base_url": self.relay.base_url,
            "management_key": self.relay.management_key,
        }
        self.ok("POST", f"{path}/config", config)
        self.ok(
            "POST", f"{path}/roles/demo", {"ttl": "10m", "max_ttl": "1h", "permissions": ["chat"], **role}
        )

    def key(self, path: str, *, token: str = "") -> Key:
        got = self.ok("GET", f"{path}/creds/demo", token=token)
        return Key(got["lease_id"], got["data"]["api_key"], got["lease_duration"])

    def record(self, path: str) -> Mount | None:
        """What is on record for this path."""
        return self.sidecar.mounts.by_path(path)

    def works(self, key: Key) -> bool:
        """Whether the relay takes the key now."""
        answer = self._http_client.get(
            f"{self.relay.base_url}/models", headers={"Authorization": f"Bearer {key.api_key}"}
        )
        assert answer.status_code in {200, 401, 403}, answer.text
        return answer.status_code == 200

    def living_keys(self, mount: Mount) -> list[dict[str, Any]]:
        """What the relay itself holds of this mount's keys and would take."""
        kept = self._http_client.get(f"{self.relay.address}/_sim/keys").raise_for_status().json()["keys"]
        return [item for item in kept if mount.instance in str(item) and item["status"] == "active"]

    def gone(self, key: Key, seconds: float = 10) -> bool:
        """Whether the relay refuses the key, and the lease is off the books, before so many seconds are over."""
        return eventually(
            lambda: not self.works(key) and self.sidecar.store.lease(key.lease_id) is None, seconds
        )

    def faults(self, *plan: dict[str, Any]) -> None:
        """The relay's fault plan; without arguments it is well again."""
        where = f"{self.relay.address}/_sim/faults"
        self._http_client.delete(where).raise_for_status()
        if plan:
            self._http_client.post(where, json={"faults": list(plan)}).raise_for_status()

    def clean(self) -> None:
        """The end of a test: the relay is well, and the mounts are gone from both sides."""
        self.faults()
        if self._shared:
            self.call("PUT", f"sys/leases/revoke-force/{self._shared}")
        for path in self._mounts:
            if self.record(path) is not None:
                with contextlib.suppress(httpx.HTTPError):
                    self.call("POST", f"sys/leases/revoke-force/{path}")
                    self.call("DELETE", f"sys/mounts/{path}")
            self.call("DELETE", f"sys/mounts/{path}", upstream=True)
        self._mounts.clear()


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True
