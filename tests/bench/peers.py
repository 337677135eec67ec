"""The peers: OpenBao's ``database`` engine on a real PostgreSQL, ``bao proxy`` and ``bao agent``."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from tests.realparts.openbao import OpenBaoProcess, find_binary
from tests.realparts.postgres import PostgresProcess
from tests.realparts.process import ChildProcess, clean_environment, free_port

#: Leases outlive every run: what is measured is issuance, not revocation.
LEASE_TTL = "2h"


def app_token(server_address: str, root_token: str, path: str) -> str:
    """A service token that may read ``path`` and nothing else, as an app would have."""
    with httpx.Client(base_url=server_address, headers={"X-Vault-Token": root_token}, timeout=10) as client:
        policy = "bench-" + path.replace("/", "-")
        client.put(
            f"/v1/sys/policies/acl/{policy}",
            json={"policy": f'path "{path}" {{\n  capabilities = ["read"]\n}}\n'},
        ).raise_for_status()
        made = client.post(
            "/v1/auth/token/create", json={"policies": [policy], "ttl": LEASE_TTL, "no_parent": True}
        ).raise_for_status()
        return str(made.json()["auth"]["client_token"])


class DatabaseEngine:
    """An OpenBao of its own whose ``database`` engine makes PostgreSQL roles, as its documentation shows it."""

    role_path = "database/creds/app"

    def __init__(self, folder: Path, *, max_open_connections: int) -> None:
        self.max_open_connections = max_open_connections
        self.openbao = OpenBaoProcess(folder / "openbao-database", log_level="warn")
        self.postgres = PostgresProcess(folder / "postgres")

    def __enter__(self) -> Self:
        try:
            self.postgres.start()
            self.openbao.start()
            self._configure()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _stop(self) -> None:
        self.openbao.stop()
        self.postgres.stop()

    def _configure(self) -> None:
        request = self.openbao.request
        request("POST", "sys/mounts/database", {"type": "database"})
        request(
            "POST",
            "database/config/postgres",
            {
                "plugin_name": "postgresql-database-plugin",
                "allowed_roles": "app",
                "connection_url": self.postgres.connection_url,
                "username": "postgres",
                "password": self.postgres.password,
                "max_open_connections": self.max_open_connections,
                "max_idle_connections": self.max_open_connections,
            },
        )
        request(
            "POST",
            "database/roles/app",
            {
                "db_name": "postgres",
                "creation_statements": (
                    "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'; "
                    'GRANT SELECT ON ALL TABLES IN SCHEMA public TO "{{name}}";'
                ),
                "default_ttl": LEASE_TTL,
                "max_ttl": "24h",
            },
        )
        self.token = app_token(self.openbao.address, self.openbao.root_token, self.role_path)

    @property
    def url(self) -> str:
        return f"{self.openbao.address}/v1/{self.role_path}"


class BaoDaemon:
    """``bao proxy`` or ``bao agent`` in front of a server, forwarding what clients ask with the clients' own tokens."""

    def __init__(
        self, program: str, folder: Path, *, upstream: str, app_role: tuple[str, str] | None = None
    ) -> None:
        """``program`` is ``proxy`` or ``agent``; ``app_role`` (role id, secret id) logs it in for itself as well."""
        self.program = program
        self.folder = folder / f"bao-{program}"
        self.upstream = upstream
        self.app_role = app_role
        self.port = free_port()
        self._child: ChildProcess | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        if self._child is None:
            raise RuntimeError(f"bao {self.program} is not running")
        return self._child.pid

    def __enter__(self) -> Self:
        home = self.folder / "home"
        home.mkdir(parents=True)
        config = self.folder / "config.hcl"
        config.write_text(
            f'vault {{\n  address = "{self.upstream}"\n}}\n'
            f'listener "tcp" {{\n  address = "127.0.0.1:{self.port}"\n  tls_disable = true\n}}\n'
            f"api_proxy {{\n}}\n{self._auto_auth()}"
        )
        child = ChildProcess(
            [os.fspath(find_binary()), self.program, f"-config={config}", "-log-level=warn"],
            folder=self.folder,
            name=f"bao-{self.program}",
            env=clean_environment(HOME=str(home)),
        )
        child.start(self._serves)
        self._child = child
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child is not None:
            self._child.stop()

    def _auto_auth(self) -> str:
        """Login with AppRole into a token file, as an agent usually runs."""
        if self.app_role is None:
            return ""
        paths = {name: self.folder / name for name in ("role-id", "secret-id", "token")}
        for path, content in zip(paths.values(), self.app_role, strict=False):
            path.write_text(content)
        return (
            'auto_auth {\n  method "approle" {\n    config = {\n'
            f'      role_id_file_path = "{paths["role-id"]}"\n      secret_id_file_path = "{paths["secret-id"]}"\n'
            "      remove_secret_id_file_after_reading = false\n    }\n  }\n"
            f'  sink "file" {{\n    config = {{\n      path = "{paths["token"]}"\n    }}\n  }}\n}}\n'
        )

    def _serves(self) -> bool:
        try:
            return httpx.get(f"{self.address}/v1/sys/health", timeout=2).status_code == 200
        except httpx.TransportError:
            return False
