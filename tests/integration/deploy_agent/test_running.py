"""The agents of deploy/agent, as shipped, with the real programs and auth methods: an app always has a key that works."""

from __future__ import annotations

import base64
import http.server
import json
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from tests.integration.certificates import self_signed
from tests.integration.deploy_agent.conftest import (
    AGENT,
    BRIEF,
    BRIEF_ROLE,
    LATE,
    SHORT_MAX,
    SHORT_TTL,
    Agent,
    in_app,
    in_env_file,
    in_json,
    with_wrapped_secret_id,
    wrapped_secret_id,
)
from tests.integration.test_sidecar_own_identity import TokenReviews, unsigned_jwt
from tests.sidecar_stack import SidecarStack, eventually

# Logins by Kubernetes end so early that the agent has to log in again before its key ends.
KUBERNETES_TOKEN = 12
APP = """#!/bin/sh
echo "start $$ $OPENAI_API_KEY $OPENAI_BASE_URL $AIKEYS_ROLE" >> app.log
trap 'echo "end $$" >> app.log; exit 0' TERM
while :; do sleep 0.1; done
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("agents")


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
