"""An agent in a folder of its own, with a configuration of deploy/agent as shipped."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.realparts.process import ChildProcess, clean_environment
from tests.sidecar_stack import MOUNT, SidecarStack

AGENT = Path(__file__).parents[3] / "deploy" / "agent"
BRIEF_ROLE = "agent-brief"
# Seconds. The agent reads that role's key anew after some 14 of them, with six to spare.
SHORT_TTL, SHORT_MAX = 8, 20
BRIEF = 20
LATE = 5.0
APP_ROLE = "agent-app"
# The configurations run as shipped, but for the names that these tests do not have to themselves.
CHANGED = {
    "auth/approle/role/demo/": f"auth/approle/role/{APP_ROLE}/",
    '"auth/jwt"': '"auth/agents-jwt"',
    '"auth/kubernetes"': '"auth/agents-kubernetes"',
    "/var/run/secrets/vault/token": "jwt",
}
POLICY = """
path "ai-keys/creds/short" { capabilities = ["read"] }
path "ai-keys/creds/agent-brief" { capabilities = ["read"] }
"""


@dataclass
class Agent:
    """One agent in a folder of its own; `current` reads the key its app has now."""

    stack: SidecarStack
    folder: Path
    configs: Sequence[str]
    role: str
    current: Callable[[Path], str | None]
    extra: str = ""
    revoking: bool = False
    keys: list[str] = field(default_factory=list)
    since: dict[str, float] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.stopped = threading.Event()
        self.watcher = threading.Thread(target=self._watch)
        self.process = self._process()

    def _process(self) -> ChildProcess:
        files = []
        for name in self.configs:
            text = (AGENT / f"{name}.hcl").read_text()
            for shipped, here in CHANGED.items():
                text = text.replace(shipped, here)
            files.append(self.folder / name.replace("/", "-"))
            files[-1].write_text(text)
        if self.extra:
            files.append(self.folder / "extra")
            files[-1].write_text(self.extra)
        return ChildProcess(
            [
                *([AGENT / "run-and-revoke"] if self.revoking else []),
                self.stack.upstream.binary,
                "agent",
                *(f"-config={file}" for file in files),
            ],
            folder=self.folder,
            name="agent",
            env=clean_environment(HOME=str(self.folder), **self.environment),
        )

    @property
    def environment(self) -> dict[str, str]:
        return {
            f"{self.stack.upstream.prefix}_ADDR": self.stack.address,
            **({"AIKEYS_ROLE": self.role} if self.role else {}),
        }

    def key(self) -> str | None:
        return self.current(self.folder)

    def start(self) -> None:
        """Return when the app has a key that it did not have before."""
        before = self.key()
        self.process.start(lambda: self.key() not in {None, before}, deadline=30)

    def watch(self) -> None:
        self.watcher.start()

    def _watch(self) -> None:
        while not self.stopped.wait(0.1):
            key = self.key()
            if key is None:
                continue
            if not self.keys or self.keys[-1] != key:
                self.keys.append(key)
                self.since[key] = time.monotonic()
            if not self.stack.works(key):
                self.refused.append(key)

    def end_watch(self) -> None:
        self.stopped.set()
        if self.watcher.is_alive():
            self.watcher.join()

    def end(self) -> None:
        self.end_watch()
        self.process.stop()


def in_env_file(folder: Path) -> str | None:
    file = folder / "app.env"
    if not file.exists():
        return None
    found = re.fullmatch(r"OPENAI_API_KEY=(\S+)\nOPENAI_BASE_URL=http://\S+/v1\n", file.read_text())
    assert found is not None, file.read_text()
    return found[1]


def in_json(folder: Path) -> str | None:
    file = folder / "app.json"
    return str(json.loads(file.read_text())["api_key"]) if file.exists() else None


def in_app(folder: Path) -> str | None:
    """Of the process that runs now."""
    file = folder / "app.log"
    lines = file.read_text().splitlines() if file.exists() else []
    started = [line.split() for line in lines if line.startswith("start ")]
    if not started or f"end {started[-1][1]}" in lines:
        return None
    return started[-1][2]


def wrapped_secret_id(stack: SidecarStack, role: str = APP_ROLE) -> str:
    made = stack.request(
        "POST", f"auth/approle/role/{role}/secret-id", {}, headers={"X-Vault-Wrap-TTL": "5m"}
    )
    return str(made.json()["wrap_info"]["token"])


def with_wrapped_secret_id(agent: Agent) -> Agent:
    role_id = agent.stack.hvac().auth.approle.read_role_id(APP_ROLE)["data"]["role_id"]
    (agent.folder / "role-id").write_text(role_id)
    (agent.folder / "wrapped-secret-id").write_text(wrapped_secret_id(agent.stack))
    return agent


def prepare(stack: SidecarStack) -> None:
    client = stack.hvac()
    client.sys.create_or_update_policy("agent-app", POLICY)
    client.auth.approle.create_or_update_approle(APP_ROLE, token_policies=["agent-app"], token_ttl="20m")
    client.write_data(
        f"{MOUNT}/roles/{BRIEF_ROLE}", data={"ttl": BRIEF, "max_ttl": BRIEF, "permissions": ["chat"]}
    )


@pytest.fixture(scope="module")
def bao(openbao_stack: SidecarStack) -> SidecarStack:
    prepare(openbao_stack)
    return openbao_stack


@pytest.fixture(scope="module")
def hashicorp(vault_stack: SidecarStack) -> SidecarStack:
    prepare(vault_stack)
    return vault_stack
