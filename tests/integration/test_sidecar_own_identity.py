"""The sidecar's own token: every way to get one, kept alive, replaced when it is lost, and no more powerful than its policy."""

from __future__ import annotations

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.integration.certificates import self_signed
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.process import ChildProcess, clean_environment, free_port
from tests.realparts.server import Server
from tests.sidecar_stack import eventually, unique

from aikeys.framework.clock import SystemClock
from aikeys.policy.folder import shipped_policy
from aikeys.redaction import SecretString
from aikeys.sidecar.login import AppRoleLogin, KubernetesLogin, Login, LoginRefused, TokenFileLogin
from aikeys.sidecar.own_identity import NotLoggedIn, OwnIdentity
from aikeys.sidecar.upstream import Upstream
from aikeys.transport import KeepAliveTransport


@pytest.fixture(params=["openbao", "vault"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def upstream(server: Server) -> Iterator[Upstream]:
    made = Upstream(server.address, KeepAliveTransport())
    yield made
    made.close()


def approle(server: Server, **options: Any) -> tuple[str, str]:
    """A role at auth/approle: its name and its role id."""
    if "approle/" not in server.request("GET", "sys/auth")["data"]:
        server.request("POST", "sys/auth/approle", {"type": "approle"})
    name = unique("own")
    server.request("PUT", f"sys/policies/acl/{name}", {"policy": shipped_policy("sidecar").text})
    server.request(
        "POST", f"auth/approle/role/{name}", {"token_policies": [name], "token_ttl": "1h", **options}
    )
    return name, str(server.request("GET", f"auth/approle/role/{name}/role-id")["data"]["role_id"])


def secret_id(server: Server, name: str) -> str:
    return str(server.request("POST", f"auth/approle/role/{name}/secret-id", {})["data"]["secret_id"])


def wrapped_secret_id(server: Server, path: str, body: Any = None) -> str:
    with server.client() as client:
        reply = client.post(
            f"/v1/{path}",
            json=body or {},
            headers={"X-Vault-Token": server.root_token, "X-Vault-Wrap-TTL": "5m"},
        )
    return str(reply.json()["wrap_info"]["token"])


def file(folder: Path, text: str) -> Path:
    path = folder / unique("credential")
    path.write_text(text + "\n")
    return path


def works(upstream: Upstream, login: Login) -> OwnIdentity:
    own = OwnIdentity(upstream, login)
    assert own.request("GET", "auth/token/lookup-self").status == 200
    return own


def test_an_approle_logs_in_with_a_secret_id_file_that_may_be_replaced(
    server: Server, upstream: Upstream, tmp_path: Path
) -> None:
    name, role_id = approle(server, secret_id_num_uses=1)
    path = file(tmp_path, secret_id(server, name))
    own = works(upstream, AppRoleLogin(role_id=SecretString(role_id), secret_id_file=path))
    server.request("POST", "auth/token/revoke-accessor", {"accessor": own.accessor})

    # Used up; a new one in the same file is all it needs.
    with pytest.raises(NotLoggedIn, match="auth/approle"):
        own.request("GET", "auth/token/lookup-self")
    path.write_text(secret_id(server, name))

    def again() -> bool:
        try:
            return own.request("GET", "auth/token/lookup-self").status == 200
        except NotLoggedIn:
            return False

    eventually(again, what="the login with the new secret id")


def test_a_wrapped_secret_id_is_spent_once_and_kept_in_memory(
    server: Server, upstream: Upstream, tmp_path: Path
) -> None:
    name, role_id = approle(server)
    path = file(tmp_path, wrapped_secret_id(server, f"auth/approle/role/{name}/secret-id"))
    login = AppRoleLogin(role_id=SecretString(role_id), wrapped_secret_id_file=path)
    login.prepare(upstream)
    path.unlink()

    for _ in range(2):
        own = works(upstream, login)
        server.request("POST", "auth/token/revoke-accessor", {"accessor": own.accessor})
        assert own.request("GET", "auth/token/lookup-self").status == 200


def test_every_worker_logs_in_with_the_secret_id_that_was_unwrapped_once(
    server: Server, tmp_path: Path
) -> None:
    """Also one that takes another's place later: the wrapping token is spent and its file gone by then."""
    name, role_id = approle(server)
    wrapped = file(tmp_path, wrapped_secret_id(server, f"auth/approle/role/{name}/secret-id"))
    port = free_port()
    sidecar = ChildProcess(
        [sys.executable, "-m", "aikeys", "serve"],
        folder=tmp_path,
        name="sidecar",
        env=clean_environment(
            AIKEYS_LISTEN=f"127.0.0.1:{port}",
            AIKEYS_UPSTREAM_ADDR=server.address,
            AIKEYS_DATA_DIR=str(tmp_path / "data"),
            AIKEYS_AUTH_ROLE_ID=role_id,
            AIKEYS_AUTH_WRAPPED_SECRET_ID_FILE=str(wrapped),
            AIKEYS_WORKERS="2",
        ),
    )

    def logins(wanted: int) -> None:
        eventually(
            lambda: sidecar.log().count('"own_token_obtained"') == wanted,
            seconds=30,
            what=f"login number {wanted}",
        )

    sidecar.start(lambda: "Listener" in sidecar.log(), deadline=30)
    try:
        logins(2)
        wrapped.unlink()
        workers = Path(f"/proc/{sidecar.pid}/task/{sidecar.pid}/children")
        os.kill(int(workers.read_text().split()[0]), signal.SIGKILL)
        logins(3)
        assert "own_login_failed" not in sidecar.log()
    finally:
        sidecar.stop()


def test_a_wrapping_token_of_another_origin_is_refused_and_not_spent(
    server: Server, upstream: Upstream, tmp_path: Path
) -> None:
    """Somebody who can write the file must not be able to slip in a secret id of another role's making."""
    name, role_id = approle(server)
    for path, body in (
        ("sys/wrapping/wrap", {"secret_id": "x"}),
        (f"auth/approle/role/{name}/custom-secret-id", {"secret_id": unique("s") + "x" * 20}),
    ):
        token = wrapped_secret_id(server, path, body)
        login = AppRoleLogin(role_id=SecretString(role_id), wrapped_secret_id_file=file(tmp_path, token))
        with pytest.raises(LoginRefused, match="was not spent"):
            login.prepare(upstream)
        looked_up = server.request("POST", "sys/wrapping/lookup", {"token": token})
        assert looked_up["data"]["creation_path"] == path


def test_a_token_file_is_followed_when_it_is_replaced(
    server: Server, upstream: Upstream, tmp_path: Path
) -> None:
    def token() -> tuple[str, str]:
        auth = server.request("POST", "auth/token/create", {"policies": ["default"], "ttl": "1h"})["auth"]
        return auth["client_token"], auth["accessor"]

    (first, accessor), (second, other) = token(), token()
    path = file(tmp_path, first)
    own = works(upstream, TokenFileLogin(path))
    assert own.accessor == accessor
    path.write_text(second)
    server.request("POST", "auth/token/revoke-accessor", {"accessor": accessor})

    assert own.request("GET", "auth/token/lookup-self").status == 200
    assert own.accessor == other


@pytest.mark.parametrize("content", [None, "", "not-a-token"])
def test_a_credential_that_is_missing_empty_or_wrong_is_named(
    server: Server, upstream: Upstream, tmp_path: Path, content: str | None
) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    own = OwnIdentity(upstream, TokenFileLogin(path))
    with pytest.raises(NotLoggedIn) as refused:
        own.request("GET", "auth/token/lookup-self")
    assert str(path) in str(refused.value)
    # At once again, without asking the server a second time.
    with pytest.raises(NotLoggedIn):
        own.token()


def test_a_token_is_renewed_before_it_ends_and_replaced_at_its_maximum(
    server: Server, upstream: Upstream, tmp_path: Path
) -> None:
    name, role_id = approle(server, token_ttl="2s", token_max_ttl="5s")
    login = AppRoleLogin(
        role_id=SecretString(role_id), secret_id_file=file(tmp_path, secret_id(server, name))
    )
    own = OwnIdentity(upstream, login, clock=SystemClock())
    own.start()
    try:
        seen: list[str] = []
        statuses: list[int] = []

        def look() -> bool:
            reply = own.request("GET", "auth/token/lookup-self")
            statuses.append(reply.status)
            if own.accessor not in seen:
                seen.append(own.accessor)
            return len(seen) >= 3

        eventually(look, seconds=25, pause=0.2, what="the third token")
    finally:
        own.stop()
    # It lived longer than its 2 s (renewed), ended by its 5 s (replaced), and nobody noticed either.
    assert set(statuses) == {200}
    assert len(statuses) > 20


def test_a_403_about_the_policy_is_no_reason_to_log_in_again(
    server: Server, upstream: Upstream, tmp_path: Path
) -> None:
    name, role_id = approle(server)
    own = works(
        upstream,
        AppRoleLogin(role_id=SecretString(role_id), secret_id_file=file(tmp_path, secret_id(server, name))),
    )
    accessor = own.accessor
    for _ in range(3):
        assert own.request("GET", "sys/policies/acl/default").status == 403
    assert own.accessor == accessor


def test_the_policy_grants_what_the_sidecar_does_and_no_secret_of_anybody(
    server: Server, upstream: Upstream, tmp_path: Path
) -> None:
    name, role_id = approle(server)
    own = works(
        upstream,
        AppRoleLogin(role_id=SecretString(role_id), secret_id_file=file(tmp_path, secret_id(server, name))),
    )
    for method, path in (
        ("GET", "secret/data/x"),
        ("LIST", "secret/metadata"),
        ("POST", "auth/token/create"),
        ("POST", "auth/token/revoke-accessor"),
        ("GET", "sys/policies/acl/default"),
        ("PUT", f"sys/policies/acl/{name}"),
        ("POST", "sys/mounts/mine"),
        ("DELETE", "sys/mounts/ai-keys"),
        ("POST", "sys/mounts/ai-keys/tune"),
        ("GET", f"auth/approle/role/{name}/role-id"),
        ("POST", f"auth/approle/role/{name}/secret-id"),
        ("POST", "identity/entity"),
        ("GET", "sys/audit"),
        ("PUT", "sys/seal"),
        ("PUT", "sys/leases/revoke"),
        ("LIST", "auth/token/accessors"),
        ("GET", "sys/raw/core"),
    ):
        assert own.request(method, path, {} if method in {"POST", "PUT"} else None).status == 403, path


class TokenReviews(http.server.BaseHTTPRequestHandler):
    """The one call of Kubernetes' API server that the auth method makes: whose token is this?"""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        known = asked["spec"]["token"].endswith(".c2lnbmF0dXJl")
        user = {
            "username": "system:serviceaccount:apps:sidecar",
            "uid": "7a6fdb0c-0000-0000-0000-000000000001",
            "groups": ["system:serviceaccounts"],
        }
        answer = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "status": {"authenticated": known, "audiences": ["vault"], **({"user": user} if known else {})},
        }
        body = json.dumps(answer).encode()
        self.send_response(201)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


def unsigned_jwt() -> str:
    import base64

    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {
        "iss": "kubernetes/serviceaccount",
        "sub": "system:serviceaccount:apps:sidecar",
        "aud": ["vault"],
        "iat": 1700000000,
        "nbf": 1700000000,
        "exp": 4102444800,
        "kubernetes.io": {
            "namespace": "apps",
            "serviceaccount": {"name": "sidecar", "uid": "7a6fdb0c-0000-0000-0000-000000000001"},
        },
    }
    return f"{part({'alg': 'RS256', 'typ': 'JWT'})}.{part(claims)}.c2lnbmF0dXJl"


def test_a_kubernetes_service_account_logs_in(openbao: OpenBaoProcess, tmp_path: Path) -> None:
    reviews = http.server.ThreadingHTTPServer(("127.0.0.1", 0), TokenReviews)
    thread = threading.Thread(target=reviews.serve_forever)
    thread.start()
    mount = unique("kubernetes")
    upstream = Upstream(openbao.address, KeepAliveTransport())
    try:
        openbao.request("POST", f"sys/auth/{mount}", {"type": "kubernetes"})
        openbao.request(
            "POST",
            f"auth/{mount}/config",
            {
                "kubernetes_host": f"http://127.0.0.1:{reviews.server_address[1]}",
                "disable_local_ca_jwt": True,
                "kubernetes_ca_cert": self_signed(tmp_path)[0].read_text(),
                "token_reviewer_jwt": "reviewer",
            },
        )
        openbao.request(
            "POST",
            f"auth/{mount}/role/sidecar",
            {
                "bound_service_account_names": "sidecar",
                "bound_service_account_namespaces": "apps",
                "audience": "vault",
                "token_policies": "default",
                "token_ttl": "1h",
            },
        )
        jwt = file(tmp_path, unsigned_jwt())
        works(upstream, KubernetesLogin(role="sidecar", jwt_file=jwt, mount=mount))
        with pytest.raises(NotLoggedIn):
            OwnIdentity(upstream, KubernetesLogin(role="other", jwt_file=jwt, mount=mount)).token()
    finally:
        upstream.close()
        reviews.shutdown()
        reviews.server_close()
        thread.join()


def serve(tmp_path: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "aikeys", "serve", *arguments],
        env=clean_environment(HOME=str(tmp_path), **env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_check_names_what_is_wrong_and_what_is_well(openbao: OpenBaoProcess, tmp_path: Path) -> None:
    name, role_id = approle(openbao)
    env = {
        "AIKEYS_UPSTREAM_ADDR": openbao.address,
        "AIKEYS_DATA_DIR": str(tmp_path / "data"),
        "AIKEYS_AUTH_ROLE_ID": role_id,
        "AIKEYS_AUTH_SECRET_ID_FILE": os.fspath(file(tmp_path, secret_id(openbao, name))),
    }
    well = serve(tmp_path, "--check", **env)
    assert well.returncode == 0, well.stdout + well.stderr
    assert "WRONG" not in well.stdout
    assert "policy for auth/token/lookup" in well.stdout

    openbao.request(
        "PUT", f"sys/policies/acl/{name}", {"policy": 'path "sys/mounts" { capabilities = ["read"] }'}
    )
    poor = serve(tmp_path, "--check", **env)
    assert poor.returncode == 1
    assert "WRONG  policy for auth/token/lookup: lacks update" in poor.stdout

    away = serve(tmp_path, "--check", **{**env, "AIKEYS_UPSTREAM_ADDR": "http://127.0.0.1:9"})
    assert away.returncode == 1
    assert "cannot be reached" in away.stdout


def test_wrong_settings_end_the_start_with_their_names(tmp_path: Path) -> None:
    wrong = serve(tmp_path, AIKEYS_LISTEN="nowhere", AIKEYS_THREADS="0", AIKEYS_UPSTREAM_ADDR="ftp://x")
    assert wrong.returncode == 1
    for name in ("AIKEYS_LISTEN", "AIKEYS_THREADS", "AIKEYS_UPSTREAM_ADDR"):
        assert name in wrong.stderr
    assert "Traceback" not in wrong.stderr

    settings = tmp_path / "settings.toml"
    settings.write_text('lissten = "127.0.0.1:1"\n')
    unknown = serve(tmp_path, "--config", str(settings))
    assert unknown.returncode == 1
    assert "lissten" in unknown.stderr
