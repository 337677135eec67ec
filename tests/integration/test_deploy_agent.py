"""The agents of deploy/agent, as shipped, with the real programs and auth methods: an app always has a key that works."""

from __future__ import annotations

import base64
import http.server
import json
import os
import re
import signal
import stat
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from tests.integration.certificates import self_signed
from tests.integration.test_sidecar_own_identity import TokenReviews, unsigned_jwt
from tests.realparts.process import ChildProcess, ProcessFailed, clean_environment
from tests.sidecar_stack import MOUNT, SidecarStack, eventually

AGENT = Path(__file__).parents[2] / "deploy" / "agent"
BRIEF_ROLE = "agent-brief"
# Seconds. The agent reads that role's key anew after some 14 of them, with six to spare.
SHORT_TTL, SHORT_MAX = 8, 20
BRIEF = 20
# Logins by Kubernetes end so early that the agent has to log in again before its key ends.
KUBERNETES_TOKEN = 12
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
APP = """#!/bin/sh
echo "start $$ $OPENAI_API_KEY $OPENAI_BASE_URL $AIKEYS_ROLE" >> app.log
trap 'echo "end $$" >> app.log; exit 0' TERM
while :; do sleep 0.1; done
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("agents")


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


def signed_jwt(key: ec.EllipticCurvePrivateKey, **claims: object) -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    text = f"{part(json.dumps({'alg': 'ES256', 'typ': 'JWT'}).encode())}.{part(json.dumps(claims).encode())}"
    r, s = decode_dss_signature(key.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{text}.{part(r.to_bytes(32) + s.to_bytes(32))}"


@pytest.fixture(scope="module")
def platform_key(bao: SidecarStack) -> ec.EllipticCurvePrivateKey:
    """What the platform signs its workloads' JWTs with; auth/jwt trusts it and nothing else."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    bao.hvac().sys.enable_auth_method("jwt", path="agents-jwt")
    bao.upstream.request(
        "POST",
        "auth/agents-jwt/config",
        {"jwt_validation_pubkeys": [public.decode()], "bound_issuer": "ci.example"},
    )
    bao.upstream.request(
        "POST",
        "auth/agents-jwt/role/demo",
        {
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_audiences": ["vault"],
            "bound_subject": "app",
            "token_policies": ["agent-app"],
            "token_ttl": "20m",
        },
    )
    return key


def job_token(key: ec.EllipticCurvePrivateKey, **claims: object) -> str:
    now = int(time.time())
    return signed_jwt(
        key, **{"iss": "ci.example", "sub": "app", "aud": "vault", "iat": now, "exp": now + 600, **claims}
    )


@pytest.fixture(scope="module")
def kubernetes(bao: SidecarStack, folder: Path) -> Iterator[None]:
    """The auth method, with a server of the one call of Kubernetes that it makes."""
    reviews = http.server.ThreadingHTTPServer(("127.0.0.1", 0), TokenReviews)
    thread = threading.Thread(target=reviews.serve_forever)
    thread.start()
    bao.hvac().sys.enable_auth_method("kubernetes", path="agents-kubernetes")
    bao.upstream.request(
        "POST",
        "auth/agents-kubernetes/config",
        {
            "kubernetes_host": f"http://127.0.0.1:{reviews.server_address[1]}",
            "disable_local_ca_jwt": True,
            "kubernetes_ca_cert": self_signed(folder)[0].read_text(),
            "token_reviewer_jwt": "reviewer",
        },
    )
    bao.upstream.request(
        "POST",
        "auth/agents-kubernetes/role/demo",
        {
            "bound_service_account_names": "sidecar",
            "bound_service_account_namespaces": "apps",
            "audience": "vault",
            "token_policies": "agent-app",
            "token_ttl": KUBERNETES_TOKEN,
            "token_max_ttl": KUBERNETES_TOKEN,
        },
    )
    yield
    reviews.shutdown()
    reviews.server_close()
    thread.join()


@pytest.fixture(scope="module")
def agents(
    bao: SidecarStack,
    hashicorp: SidecarStack,
    platform_key: ec.EllipticCurvePrivateKey,
    kubernetes: None,
    folder: Path,
) -> Iterator[dict[str, Agent]]:
    """All of them at once, because what they do takes its time."""
    files = ("login/approle-wrapped", "deliver/env-file")
    made = {
        "openbao": with_wrapped_secret_id(Agent(bao, folder / "1", files, "short", in_env_file)),
        "vault": with_wrapped_secret_id(Agent(hashicorp, folder / "2", files, "short", in_env_file)),
        "jwt": Agent(bao, folder / "3", ("login/jwt", "deliver/exec"), BRIEF_ROLE, in_app),
        "kubernetes": Agent(bao, folder / "4", ("login/kubernetes", "deliver/json"), BRIEF_ROLE, in_json),
    }
    (made["jwt"].folder / "app").write_text(APP)
    (made["jwt"].folder / "app").chmod(0o755)
    (made["jwt"].folder / "jwt").write_text(job_token(platform_key))
    (made["kubernetes"].folder / "jwt").write_text(unsigned_jwt())
    with ExitStack() as running:
        for agent in made.values():
            running.callback(agent.end)
            agent.start()
            agent.watch()
        yield made


@pytest.fixture(params=["openbao", "vault"])
def approle_agent(request: pytest.FixtureRequest, agents: dict[str, Agent]) -> Agent:
    return agents[request.param]


def test_the_first_rendering_is_for_its_owner_alone_and_the_wrapped_secret_id_is_gone(
    approle_agent: Agent,
) -> None:
    for name in ("app.env", "token"):
        assert stat.S_IMODE((approle_agent.folder / name).stat().st_mode) == 0o600
    assert not (approle_agent.folder / "wrapped-secret-id").exists()


def test_two_templates_of_one_agent_share_one_key(bao: SidecarStack, tmp_path: Path) -> None:
    configs = ("login/approle-wrapped", "deliver/env-file", "deliver/json")
    agent = with_wrapped_secret_id(Agent(bao, tmp_path, configs, BRIEF_ROLE, in_env_file))
    agent.start()
    try:
        eventually(lambda: in_json(tmp_path), what="the JSON file")
        assert in_json(tmp_path) == in_env_file(tmp_path)
        assert stat.S_IMODE((tmp_path / "app.json").stat().st_mode) == 0o600
    finally:
        agent.end()


@pytest.mark.slow
def test_a_key_is_renewed_then_replaced_and_at_no_moment_has_the_app_one_that_is_refused(
    approle_agent: Agent,
) -> None:
    stack, agent = approle_agent.stack, approle_agent
    eventually(lambda: len(agent.keys) > 1, seconds=SHORT_MAX + LATE, what="the second rendering")
    first = agent.keys[0]
    # Nobody revokes the first one: it lapses.
    stack.dies(first, seconds=SHORT_MAX + LATE)
    assert agent.refused == []
    assert time.monotonic() - agent.since[first] > SHORT_TTL + 1, "it was never renewed"


@pytest.mark.slow
def test_a_supervised_app_is_started_again_with_the_next_key_while_the_last_one_still_works(
    agents: dict[str, Agent],
) -> None:
    agent = agents["jwt"]
    eventually(lambda: len(agent.keys) > 1, seconds=BRIEF + LATE, what="the second start")
    assert agent.refused == []
    lines = [line.split() for line in (agent.folder / "app.log").read_text().splitlines()]
    assert [line[0] for line in lines] == ["start", "end", "start"]
    assert lines[0][1] == lines[1][1]
    assert all(line[3].endswith("/v1") for line in lines if line[0] == "start")
    # Nothing of it is on a disk but what this app itself wrote there.
    held = [file.name for file in agent.folder.iterdir() if agent.keys[1] in file.read_text(errors="replace")]
    assert held == ["app.log"]


@pytest.mark.slow
def test_an_agent_whose_login_ends_logs_in_again_and_has_the_next_key_before_the_last_one_is_revoked(
    agents: dict[str, Agent],
) -> None:
    agent = agents["kubernetes"]
    eventually(lambda: len(agent.keys) > 1, seconds=KUBERNETES_TOKEN + LATE, what="the second rendering")
    agent.stack.dies(agent.keys[0], seconds=KUBERNETES_TOKEN + LATE)
    assert agent.refused == []
    assert agent.process.log().count("authentication successful") > 1


def test_an_agent_that_logs_in_by_jwt_starts_again_by_itself(agents: dict[str, Agent]) -> None:
    agent = agents["jwt"]
    agent.end_watch()
    before = agent.key()
    agent.process.stop()
    assert agent.key() is None, "the app outlived its agent"
    agent.start()
    assert agent.key() != before


def test_an_agent_starts_again_with_a_new_secret_id(approle_agent: Agent) -> None:
    agent = approle_agent
    agent.end()
    before = agent.key()
    assert before is not None
    assert agent.stack.works(before), "agents revoke now? The documentation says otherwise"
    (agent.folder / "wrapped-secret-id").write_text(wrapped_secret_id(agent.stack))
    agent.start()
    again = agent.key()
    assert again not in {None, before}
    agent.process.stop()


@pytest.mark.parametrize("fixture", ["bao", "hashicorp"])
def test_run_and_revoke_ends_the_key_with_the_agent(
    request: pytest.FixtureRequest, tmp_path: Path, fixture: str
) -> None:
    stack: SidecarStack = request.getfixturevalue(fixture)
    files = ("login/approle-wrapped", "deliver/env-file")
    agent = with_wrapped_secret_id(Agent(stack, tmp_path, files, BRIEF_ROLE, in_env_file, revoking=True))
    agent.start()
    key = agent.key()
    assert key is not None
    assert stack.works(key)
    # To itself alone, as a container's first process is told.
    os.kill(agent.process.pid, signal.SIGTERM)
    eventually(lambda: not agent.process.running, what="the end of the agent")
    # The leases of a token that was revoked end in the background.
    stack.dies(key)
    assert not (tmp_path / "token").exists()
    assert agent.process.stop() == 0


@pytest.mark.parametrize(("revocable", "status"), [(True, 7), (False, 1)])
def test_run_and_revoke_tells_of_an_agent_or_a_revocation_that_failed(
    bao: SidecarStack, tmp_path: Path, revocable: bool, status: int
) -> None:
    token = bao.token().token if revocable else "s.neverissued"
    (tmp_path / "token").write_text(token)
    agent = tmp_path / "bao"
    agent.write_text(f'#!/bin/sh\n[ "$1" = agent ] && exit 7\nexec {bao.upstream.binary} "$@"\n')
    agent.chmod(0o755)
    done = subprocess.run(
        [AGENT / "run-and-revoke", agent, "agent"],
        cwd=tmp_path,
        env=clean_environment(HOME=str(tmp_path), VAULT_ADDR=bao.address),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert (tmp_path / "token").exists() is not revocable


def test_the_key_of_a_stopped_agent_dies_with_its_lease(bao: SidecarStack, tmp_path: Path) -> None:
    configs = ("login/approle-wrapped", "deliver/env-file")
    agent = with_wrapped_secret_id(Agent(bao, tmp_path, configs, "short", in_env_file))
    agent.start()
    agent.end()
    key = agent.key()
    assert key is not None
    bao.dies(key, seconds=SHORT_TTL + LATE)


@pytest.mark.parametrize("origin", ["spent", "another role's"])
def test_a_wrapped_secret_id_that_others_have_touched_logs_nobody_in(
    bao: SidecarStack, tmp_path: Path, origin: str
) -> None:
    agent = with_wrapped_secret_id(
        Agent(bao, tmp_path, ("login/approle-wrapped", "deliver/env-file"), BRIEF_ROLE, in_env_file)
    )
    if origin == "spent":
        token = (tmp_path / "wrapped-secret-id").read_text()
        assert bao.request("POST", "sys/wrapping/unwrap", {}, token=token).status_code == 200
        expected = "wrapping token is not valid or does not exist"
    else:
        bao.hvac().auth.approle.create_or_update_approle("other-agent", token_policies=["agent-app"])
        (tmp_path / "wrapped-secret-id").write_text(wrapped_secret_id(bao, "other-agent"))
        expected = "found=auth/approle/role/other-agent/secret-id"
    agent.process.start(lambda: "error getting path or data" in agent.process.log(), deadline=30)
    said = agent.process.log()
    agent.end()
    assert agent.key() is None
    assert expected in said


@pytest.mark.parametrize(("role", "reason"), [("demo", "permission denied"), ("", "AIKEYS_ROLE")])
def test_an_agent_that_can_have_no_key_ends_with_a_failure_that_says_why(
    bao: SidecarStack, tmp_path: Path, role: str, reason: str
) -> None:
    # Shipped with the agent's own dozen tries, of growing pauses.
    agent = with_wrapped_secret_id(
        Agent(
            bao,
            tmp_path,
            ("login/approle-wrapped", "deliver/env-file"),
            role,
            in_env_file,
            extra="vault { retry { num_retries = 1 } }",
        )
    )
    with pytest.raises(ProcessFailed, match=f"(?s)status 1 .*{reason}"):
        agent.process.start(lambda: False, deadline=30)
    assert not (tmp_path / "app.env").exists()


@pytest.mark.parametrize("claims", [{"sub": "another"}, {"aud": "elsewhere"}, {"iss": "evil.example"}])
def test_a_jwt_for_another_workload_logs_nobody_in(
    bao: SidecarStack, platform_key: ec.EllipticCurvePrivateKey, claims: dict[str, object]
) -> None:
    good = bao.request(
        "POST", "auth/agents-jwt/login", {"role": "demo", "jwt": job_token(platform_key)}, token=""
    )
    assert good.status_code == 200
    bad = bao.request(
        "POST", "auth/agents-jwt/login", {"role": "demo", "jwt": job_token(platform_key, **claims)}, token=""
    )
    assert bad.status_code in {400, 403}


def test_every_configuration_is_run_here() -> None:
    shipped = {str(file.relative_to(AGENT).with_suffix("")) for file in AGENT.rglob("*.hcl")}
    text = Path(__file__).read_text()
    assert {name for name in shipped if f'"{name}"' in text} == shipped
