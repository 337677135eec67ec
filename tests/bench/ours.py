"""What is measured of ours: the stack of ``aikeys dev``, with a role to issue from and a secret to pass through."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from tests.bench import processes, timing
from tests.bench.figures import NoResult
from tests.bench.load import Call
from tests.bench.peers import LEASE_TTL, app_token

from aikeys.dev.stack import MOUNT, Stack

ROLE = "bench"
CREDS = f"{MOUNT}/creds/{ROLE}"
SECRET = "bench-kv/app"
#: What the role asks for, and what the relay alone is asked for.
LIMITS = {"permissions": ["chat"], "allowed_models": ["gpt-4.1-mini"], "rate_limit": 60}
MAX_TTL_SECONDS = 24 * 3600
SETTLE_SECONDS = 20


class Ours:
    """OpenBao, the relay simulator and the sidecar in front of them; ``timed`` for a run that tells where the time goes."""

    def __init__(self, *, timed: bool = False) -> None:
        self._timed = timed
        self._times = tempfile.TemporaryDirectory(prefix="aikeys-bench-times-")
        self._stack = Stack()

    @property
    def times(self) -> Path:
        return Path(self._times.name)

    def __enter__(self) -> Self:
        extra = timing.environment(self.times)
        if self._timed:
            os.environ.update(extra)
        try:
            self._stack.__enter__()
        finally:
            if self._timed:
                for name in extra:
                    del os.environ[name]
        try:
            self._configure()
        except BaseException:
            self._stack.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        self._times.cleanup()

    def _configure(self) -> None:
        environment = self._stack.environment()
        self.address = environment["VAULT_ADDR"]
        self.upstream_address = environment["AIKEYS_UPSTREAM_ADDR"]
        self.relay_address = environment["AIKEYS_RELAY_ADDR"]
        self.management_key = environment["AIKEYS_RELAY_MANAGEMENT_KEY"]
        self.app_role = (environment["AIKEYS_ROLE_ID"], environment["AIKEYS_SECRET_ID"])
        self.sidecar_pid = int(environment["AIKEYS_SIDECAR_PID"])
        self.openbao_pid = processes.find_below(os.getpid(), "server", "-dev", self._dev_listen())
        self.relay_pid = processes.find_below(os.getpid(), "aikeys.relay_simulator")
        root = environment["VAULT_TOKEN"]
        with httpx.Client(timeout=30, headers={"X-Vault-Token": root}) as client:
            client.post(
                f"{self.relay_address}/_sim/settings", json={"management_rpm": 0, "max_live_keys": 0}
            ).raise_for_status()
            client.post(
                f"{self.address}/v1/{MOUNT}/roles/{ROLE}",
                json={**LIMITS, "ttl": LEASE_TTL, "max_ttl": MAX_TTL_SECONDS},
            ).raise_for_status()
            client.post(
                f"{self.upstream_address}/v1/sys/mounts/bench-kv",
                json={"type": "kv", "options": {"version": "1"}},
            ).raise_for_status()
            client.post(
                f"{self.upstream_address}/v1/{SECRET}", json={"password": "not-a-secret" * 4}
            ).raise_for_status()
            self._root = root
            self.creds_token = app_token(self.upstream_address, root, CREDS)
            self.secret_token = app_token(self.upstream_address, root, SECRET)
            self._check_answers(client)

    def _dev_listen(self) -> str:
        return f"-dev-listen-address={httpx.URL(self.upstream_address).netloc.decode()}"

    def _check_answers(self, client: httpx.Client) -> None:
        """What the load generator will count as right is right: leases with keys, and the same secret either way."""
        headers = {"X-Vault-Token": self.creds_token}
        answers = [
            client.get(f"{self.address}/v1/{CREDS}", headers=headers).raise_for_status() for _ in range(2)
        ]
        issued = {(answer.json()["lease_id"], answer.json()["data"]["api_key"]) for answer in answers}
        if len(issued) != 2 or not all(lease.startswith(CREDS) for lease, _ in issued):
            raise NoResult(f"{CREDS} does not issue a new key at each read")
        headers = {"X-Vault-Token": self.secret_token}
        through, direct = (
            client.get(f"{address}/v1/{SECRET}", headers=headers).raise_for_status().json()["data"]
            for address in (self.address, self.upstream_address)
        )
        if through != direct:
            raise NoResult(f"{SECRET} reads differently through the sidecar")

    # -- what is sent -------------------------------------------------------------------------------------------

    @property
    def issue(self) -> Call:
        return Call(f"{self.address}/v1/{CREDS}", token=self.creds_token, expect=200)

    def mint_at_relay(self) -> Call:
        """What the sidecar asks of the relay for one issuance, asked by the load generator itself."""
        run = secrets.token_hex(6)
        body = {
            "name": f"direct-{run}-%d",
            **LIMITS,
            "auto_rotate": False,
            "expires_in": MAX_TTL_SECONDS,
            "metadata": {"role": ROLE},
        }
        return Call(
            f"{self.relay_address}/v1/keys",
            method="POST",
            authorization=f"Bearer {self.management_key}",
            body=json.dumps(body),
            expect=201,
        )

    def read_secret(self, address: str) -> Call:
        """The kv secret, at whatever stands in front of the OpenBao that has it."""
        return Call(f"{address}/v1/{SECRET}", token=self.secret_token, expect=200)

    # -- whether it was true ------------------------------------------------------------------------------------

    def check_books(self, replies: int) -> int:
        """Leases of the role after ``replies`` were counted; :class:`NoResult` unless each has its key at the relay.

        What was under way when the load generator hung up is revoked in the background, so the books may need a moment.
        """
        end = time.monotonic() + SETTLE_SECONDS
        while True:
            leases, keys = self._count()
            if leases >= replies and keys == leases:
                return leases
            if time.monotonic() > end:
                raise NoResult(
                    f"{replies} keys were handed out, but there are {leases} leases and {keys} keys at the relay"
                )
            time.sleep(0.5)

    def _count(self) -> tuple[int, int]:
        with httpx.Client(timeout=60) as client:
            listed = client.request(
                "LIST", f"{self.address}/v1/sys/leases/lookup/{CREDS}", headers={"X-Vault-Token": self._root}
            ).raise_for_status()
            truth = client.get(f"{self.relay_address}/_sim/keys", params={"status": "active"}).json()
        return len(listed.json()["data"]["keys"]), sum(
            not key["name"].startswith("direct-") for key in truth["keys"]
        )
