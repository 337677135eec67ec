"""`bao agent` and `vault agent` keep a file with a key that works; `bao proxy` and `vault proxy` share one lease among many."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
from tests.realparts.process import ChildProcess, clean_environment, free_port
from tests.sidecar_stack import MOUNT, SidecarStack, eventually

# Of the role `short`, in seconds.
TTL, MAX_TTL = 8, 20
# From the end of a lease to the relay's refusal, with a machine under load in between.
LATE = 5.0

AUTO_AUTH = """
pid_file = "pid"
vault {{
  address = "{address}"
}}
auto_auth {{
  method "approle" {{
    config = {{
      role_id_file_path = "role-id"
      secret_id_file_path = "secret-id"
      remove_secret_id_file_after_reading = false
    }}
  }}
  sink "file" {{
    config = {{
      path = "token"
    }}
  }}
}}
"""
TEMPLATE = """
template_config {{
  exit_on_retry_failure = true
}}
template {{
  destination = "app.env"
  contents = "{{{{ with secret \\"{mount}/creds/short\\" }}}}{{{{ .LeaseID }}}} {{{{ .Data.key_id }}}} {{{{ .Data.api_key }}}}{{{{ end }}}}"
}}
"""
PROXY = """
api_proxy {{
  use_auto_auth_token = "force"
}}
cache {{
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  tls_disable = true
}}
"""
POLICY = """
path "ai-keys/creds/short" { capabilities = ["read"] }
path "sys/leases/revoke" { capabilities = ["update"] }
"""


@dataclass(frozen=True, slots=True)
class Rendered:
    lease_id: str
    key_id: str
    api_key: str


@dataclass
class Watched:
    """An agent and everything that its file ever held, in order."""

    agent: ChildProcess
    file: Path
    rendered: list[Rendered] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def watch(self) -> None:
        while not self.stopped.wait(0.05):
            if self.file.exists():
                now = Rendered(*self.file.read_text().split())
                if not self.rendered or self.rendered[-1] != now:
                    self.rendered.append(now)


def start(
    stack: SidecarStack, folder: Path, command: str, config: str, ready: Callable[[], bool]
) -> ChildProcess:
    """The server's own `agent` or `proxy`, logged in as an app of its own that may read the role `short`."""
    folder.mkdir(parents=True)
    client = stack.hvac()
    name = f"{command}-app"
    client.sys.create_or_update_policy(name, POLICY)
    client.auth.approle.create_or_update_approle(name, token_policies=[name], token_ttl="20m")
    (folder / "role-id").write_text(client.auth.approle.read_role_id(name)["data"]["role_id"])
    (folder / "secret-id").write_text(client.auth.approle.generate_secret_id(name)["data"]["secret_id"])
    (folder / "config.hcl").write_text(config)
    process = ChildProcess(
        [stack.upstream.binary, command, "-config=config.hcl"],
        folder=folder,
        name=command,
        env=clean_environment(HOME=str(folder)),
    )
    process.start(ready, deadline=30)
    return process


@contextmanager
def watched_agent(stack: SidecarStack, folder: Path) -> Iterator[Watched]:
    config = AUTO_AUTH.format(address=stack.address) + TEMPLATE.format(mount=MOUNT)
    file = folder / "app.env"
    watched = Watched(start(stack, folder, "agent", config, file.exists), file)
    watcher = threading.Thread(target=watched.watch)
    watcher.start()
    try:
        yield watched
    finally:
        watched.stopped.set()
        watcher.join()
        watched.agent.stop()


@pytest.fixture(scope="module")
def agents(
    openbao_stack: SidecarStack, vault_stack: SidecarStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Watched]]:
    """One in front of each server, by the server's program: both at once, because what they do takes its time."""
    folder = tmp_path_factory.mktemp("agents")
    with ExitStack() as running:
        yield {
            stack.upstream.program: running.enter_context(
                watched_agent(stack, folder / stack.upstream.program)
            )
            for stack in (openbao_stack, vault_stack)
        }


@pytest.mark.slow
def test_an_agent_renews_its_key_renders_a_new_one_in_time_and_the_old_one_dies(
    stack: SidecarStack, agents: dict[str, Watched]
) -> None:
    watched = agents[stack.upstream.program]
    eventually(lambda: len(watched.rendered) > 1, seconds=MAX_TTL + LATE, what="the second rendering")
    first, second = watched.rendered[:2]
    assert first.lease_id.startswith(f"{MOUNT}/creds/short/")
    assert first.lease_id != second.lease_id

    # The new one was there and worked before the old one ended.
    truths = [stack.key_truth(key.key_id) for key in (first, second)]
    assert truths[1]["created_at"] < truths[0]["created_at"] + MAX_TTL
    current = watched.rendered[-1]
    assert stack.works(current.api_key)
    eventually(
        lambda: stack.hvac().sys.read_lease(watched.rendered[-1].lease_id)["data"]["last_renewal"],
        what="a renewal",
        seconds=TTL,
    )

    # Nobody revokes the old one: it lapses, and the relay refuses it then.
    stack.dies(first.api_key, seconds=MAX_TTL + LATE)
    lived = stack.key_truth(first.key_id)["ended_at"] - truths[0]["created_at"]
    assert lived > TTL + 1, "it was never renewed"
    assert lived < MAX_TTL + LATE


@pytest.mark.slow
def test_the_key_of_an_agent_that_was_killed_dies_by_itself(
    stack: SidecarStack, agents: dict[str, Watched]
) -> None:
    for watched in agents.values():
        watched.agent.kill()
    last = agents[stack.upstream.program].rendered[-1]
    stack.dies(last.api_key, seconds=TTL + LATE)


@pytest.fixture
def proxy(stack: SidecarStack, tmp_path: Path) -> Iterator[httpx.Client]:
    """The server's own proxy, which logs in for its callers and caches leases."""
    port = free_port()
    with httpx.Client(base_url=f"http://127.0.0.1:{port}/v1", trust_env=False, timeout=20) as client:
        config = AUTO_AUTH.format(address=stack.address) + PROXY.format(port=port)

        def ready() -> bool:
            try:
                return client.get("/auth/token/lookup-self").status_code == 200
            except httpx.TransportError:
                return False

        process = start(stack, tmp_path / "proxy", "proxy", config, ready)
        try:
            yield client
        finally:
            process.stop()


def test_a_proxy_caches_our_leases_and_forgets_them_when_they_are_revoked(
    stack: SidecarStack, proxy: httpx.Client
) -> None:
    before = stack.mints()
    answers = [proxy.get(f"/{MOUNT}/creds/short") for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert [answer.headers["X-Cache"] for answer in answers] == ["MISS", "HIT", "HIT"]
    assert len({answer.json()["data"]["api_key"] for answer in answers}) == 1
    assert stack.mints() == before + 1
    secret = answers[0].json()
    assert stack.works(secret["data"]["api_key"])

    # The cache renews what it keeps.
    eventually(
        lambda: stack.hvac().sys.read_lease(secret["lease_id"])["data"]["last_renewal"], what="a renewal"
    )

    revoked = proxy.put("/sys/leases/revoke", json={"lease_id": secret["lease_id"]})
    assert revoked.status_code == 204
    assert not stack.works(secret["data"]["api_key"])
    fresh = proxy.get(f"/{MOUNT}/creds/short")
    assert fresh.headers["X-Cache"] == "MISS"
    assert stack.works(fresh.json()["data"]["api_key"])


def test_a_proxy_passes_refusals_on_uncached(stack: SidecarStack, proxy: httpx.Client) -> None:
    for path, status, text in (
        (f"/{MOUNT}/creds/demo", 403, "permission denied"),
        (f"/{MOUNT}/roles/short", 403, "permission denied"),
    ):
        with stack.nothing_minted():
            for _ in range(2):
                refused = proxy.get(path)
                assert refused.status_code == status
                assert text in refused.json()["errors"][0]
                assert refused.headers.get("X-Cache") != "HIT"
