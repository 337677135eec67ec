"""The sidecar as a server: TLS, slow and vanishing clients, several workers, an orderly end, a quiet log."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import stat
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
from tests.integration.certificates import self_signed
from tests.integration.raw_http import ask, connect, head, parse
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.process import ChildProcess, clean_environment, free_port
from tests.sidecar_stack import MOUNT, SidecarStack, eventually

from aikeys.framework.clock import SystemClock
from aikeys.settings import load_settings
from aikeys.sidecar.build import make_upstream
from aikeys.sidecar.upstream import UpstreamDown

IDLE = 2


@pytest.fixture(scope="module")
def own_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenBaoProcess]:
    with OpenBaoProcess(tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def busy(own_server: OpenBaoProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarStack]:
    """Two workers with two threads each, and little patience."""
    settings = {
        "AIKEYS_WORKERS": "2",
        "AIKEYS_THREADS": "2",
        "AIKEYS_CLIENT_IDLE_TIMEOUT": str(IDLE),
        "AIKEYS_GRACEFUL_TIMEOUT": "10",
    }
    with SidecarStack(own_server, tmp_path_factory.mktemp("busy"), settings=settings) as stack:
        yield stack


@pytest.fixture
def stack(busy: SidecarStack) -> Iterator[SidecarStack]:
    yield busy
    busy.control.clear_faults()


# -- bad and slow clients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n", 400),
        (
            b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n", 400),
        (b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: rot13\r\n\r\n", 501),
        (b"GET /v1/" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (b"GET /v1/sys/health HTTP/1.1\r\n" + b"X: y\r\n" * 300 + b"\r\n", 431),
    ],
)
def test_what_is_no_http_is_refused_in_json_and_the_connection_closed(
    stack: SidecarStack, raw: bytes, status: int
) -> None:
    with connect(stack.address) as connection:
        connection.sendall(raw)
        data = b""
        while piece := connection.recv(65536):
            data += piece
    reply = parse(data)
    assert reply.status == status
    assert reply.header("content-type") == "application/json"
    assert reply.body.startswith(b'{"errors":["')
    assert b"gunicorn" not in data.lower()
    assert b"html" not in data.lower()


def test_clients_that_stop_in_the_middle_do_not_hold_the_threads(stack: SidecarStack) -> None:
    """Four threads and eight clients that never finish what they began."""
    beginnings = (
        b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\nX-Half",
        b"PUT /v1/ai-keys/roles/x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n{",
        b"PUT /v1/cubbyhole/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"",
    )
    waiting = [connect(stack.address) for _ in range(8)]
    try:
        for number, connection in enumerate(waiting):
            connection.sendall(beginnings[number % len(beginnings)])
        start = time.monotonic()
        got = httpx.get(f"{stack.address}/v1/sys/health", timeout=30, trust_env=False)
        assert got.status_code == 200
        assert time.monotonic() - start < 4 * IDLE + 6
    finally:
        for connection in waiting:
            connection.close()
    assert stack.request("GET", f"{MOUNT}/creds/demo").status_code == 200


def test_a_body_beyond_the_bound_is_413_without_being_read(stack: SidecarStack) -> None:
    for path in (f"{MOUNT}/roles/demo", f"sys/mounts/{MOUNT}/tune"):
        headers = [("X-Vault-Token", stack.root_token), ("Content-Length", str(33 * 1024 * 1024))]
        got = ask(stack.address, "PUT", f"/v1/{path}", headers)
        assert (got.status, got.body) == (413, b'{"errors":["http: request body too large"]}\n')


def test_a_key_for_a_client_that_has_gone_is_revoked_at_once(stack: SidecarStack) -> None:
    before = stack.live_keys()
    for method in ("GET", "PUT"):
        stack.control.fault("latency", method="POST", path="/v1/keys", seconds=1.0, when="after")
        minted = stack.mints()
        with connect(stack.address) as connection:
            connection.sendall(head(method, f"/v1/{MOUNT}/creds/demo", [("X-Vault-Token", stack.root_token)]))
            eventually(partial(minted_since, stack, minted), what="the call at the relay")
        eventually(lambda: stack.live_keys() <= before, seconds=15, what="the end of the key nobody got")
        stack.control.clear_faults()


def minted_since(stack: SidecarStack, before: int) -> bool:
    return stack.mints() > before


# -- several workers ------------------------------------------------------------------------------------------------


def test_workers_share_mounts_roles_and_leases(stack: SidecarStack) -> None:
    def life(number: int) -> bool:
        role = f"shared-{number}"
        assert stack.request(
            "POST", f"{MOUNT}/roles/{role}", {"ttl": "60s", "max_ttl": "120s"}
        ).status_code in {200, 204}
        # Whichever worker answers: what one has written the other knows.
        for _ in range(4):
            got = stack.request("GET", f"{MOUNT}/creds/{role}")
            assert got.status_code == 200, got.text
            secret = got.json()
            renewed = stack.request("PUT", "sys/leases/renew", {"lease_id": secret["lease_id"]})
            assert renewed.status_code == 200, renewed.text
            assert (
                stack.request("PUT", "sys/leases/revoke", {"lease_id": secret["lease_id"]}).status_code == 204
            )
            assert not stack.works(secret["data"]["api_key"])
        return stack.request("DELETE", f"{MOUNT}/roles/{role}").status_code == 204

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(life, range(6)))


def test_a_worker_that_dies_is_replaced_and_nothing_is_lost(stack: SidecarStack) -> None:
    key = stack.read_key("short")
    children = workers(stack)
    assert len(children) == 2
    for child in children:
        os.kill(child, signal.SIGKILL)
    eventually(lambda: answers(stack), seconds=20, what="an answer of new workers")
    stack.dies(key["data"]["api_key"], seconds=25)
    assert stack.request("GET", f"{MOUNT}/creds/demo").status_code == 200


def workers(stack: SidecarStack) -> list[int]:
    """The worker processes of the sidecar this stack started."""
    assert stack._sidecar is not None
    main = stack._sidecar.pid
    return [int(pid) for pid in Path(f"/proc/{main}/task/{main}/children").read_text().split()]


def answers(stack: SidecarStack) -> bool:
    try:
        return httpx.get(f"{stack.address}/aikeys/health", timeout=5, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def test_a_stop_lets_running_requests_finish_and_leaves_no_process(stack: SidecarStack) -> None:
    stack.control.fault("latency", method="POST", path="/v1/keys", seconds=1.5, when="after")
    children = workers(stack)
    got: list[int] = []
    asking = threading.Thread(
        target=lambda: got.append(stack.request("GET", f"{MOUNT}/creds/demo").status_code)
    )
    minted = stack.mints()
    asking.start()
    eventually(lambda: stack.mints() > minted, what="the call at the relay")
    stack.stop_sidecar()
    asking.join()
    assert got == [200]
    assert not any(Path(f"/proc/{child}").exists() for child in children)
    stack.control.clear_faults()
    stack.start_sidecar()
    assert stack.request("GET", f"{MOUNT}/creds/demo").status_code == 200


# -- what it tells, what it leaves on the disk ----------------------------------------------------------------------


def test_no_secret_stands_in_the_log_or_on_the_disk(stack: SidecarStack) -> None:
    token = stack.reader().token
    keys = [stack.read_key(token=token)["data"]["api_key"] for _ in range(3)]
    secrets = [token, stack.relay.management_key, *keys]
    wrapped = stack.request("GET", f"{MOUNT}/creds/demo", token=token, headers={"X-Vault-Wrap-TTL": "60s"})
    secrets.append(wrapped.json()["wrap_info"]["token"])
    stack.request("GET", f"{MOUNT}/creds/demo", token="hvs.not-a-token-but-secret-all-the-same")
    stored = b"".join(path.read_bytes() for path in (stack.folder / "data").rglob("*") if path.is_file())
    for secret in secrets:
        assert secret not in stack.log
        assert secret.encode() not in stored
    for path in (stack.folder / "data").rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_nothing_but_the_banner_is_said_about_ordinary_requests(stack: SidecarStack) -> None:
    before = len(stack.log)
    for _ in range(3):
        stack.request("GET", f"{MOUNT}/creds/demo")
        stack.request("GET", f"{MOUNT}/creds/nobody")
        stack.request("GET", "cubbyhole/nothing")
    assert "Traceback" not in stack.log[before:]
    assert "error" not in stack.log[before:]


def test_the_listener_is_on_loopback_only(stack: SidecarStack) -> None:
    port = int(stack.address.rpartition(":")[2])
    hosts = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None)} - {
        "127.0.0.1",
        "::1",
        "127.0.1.1",
    }
    for host in hosts:
        with pytest.raises(OSError), socket.create_connection((str(host), port), 2):
            pass


def test_the_sidecars_own_health_is_never_passed_on(stack: SidecarStack) -> None:
    got = httpx.get(f"{stack.address}/aikeys/health", trust_env=False)
    assert got.json() == {"status": "ok", "upstream": "ok", "database": "ok"}
    for method, path, status in (
        ("HEAD", "/aikeys/health", 200),
        ("POST", "/aikeys/health", 405),
        ("GET", "/aikeys/other", 404),
    ):
        reply = httpx.request(method, stack.address + path, trust_env=False)
        assert reply.status_code == status
        assert reply.headers["content-type"] == "application/json"


# -- TLS ------------------------------------------------------------------------------------------------------------


def test_tls_on_both_sides(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path, "upstream")
    own_certificate, own_key = self_signed(tmp_path, "sidecar")
    listener: dict[str, str | int | bool] = {"tls_cert_file": str(certificate), "tls_key_file": str(key)}
    with OpenBaoProcess(
        tmp_path / "server", storage="raft", listener=listener, ca_file=certificate
    ) as server:
        assert server.address.startswith("https://")
        trusting = load_settings(upstream_addr=server.address, upstream_ca_file=certificate, auth_role_id="x")
        upstream = make_upstream(trusting, SystemClock())
        assert upstream.request("GET", "sys/health", token="").status == 200
        upstream.close()
        mistrusting = make_upstream(
            load_settings(upstream_addr=server.address, upstream_ca_file=own_certificate, auth_role_id="x")
        )
        with pytest.raises(UpstreamDown, match="cannot be reached"):
            mistrusting.request("GET", "sys/health", token="")
        mistrusting.close()
        serve_with_tls(server, tmp_path, certificate, own_certificate, own_key)


def serve_with_tls(server: OpenBaoProcess, folder: Path, ca: Path, certificate: Path, key: Path) -> None:
    port = free_port()
    (folder / "token").write_text(server.root_token)
    child = ChildProcess(
        [sys.executable, "-m", "aikeys", "serve"],
        folder=folder,
        name="tls-sidecar",
        env=clean_environment(
            HOME=str(folder),
            AIKEYS_LISTEN=f"127.0.0.1:{port}",
            AIKEYS_UPSTREAM_ADDR=server.address,
            AIKEYS_UPSTREAM_CA_FILE=str(ca),
            AIKEYS_DATA_DIR=str(folder / "data"),
            AIKEYS_AUTH_METHOD="token_file",
            AIKEYS_AUTH_TOKEN_FILE=str(folder / "token"),
            AIKEYS_TLS_CERT_FILE=str(certificate),
            AIKEYS_TLS_KEY_FILE=str(key),
        ),
    )
    context = ssl.create_default_context(cafile=certificate)
    with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=context, trust_env=False) as client:

        def ready() -> bool:
            try:
                return client.get("/aikeys/health").status_code == 200
            except httpx.TransportError as error:
                raise ConnectionError(str(error)) from error

        child.start(ready)
        try:
            assert client.get("/v1/sys/health").status_code == 200
            for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
                old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
                with pytest.warns(DeprecationWarning, match="TLS"):
                    old.maximum_version = version
                with (
                    pytest.raises((ssl.SSLError, OSError)),
                    socket.create_connection(("127.0.0.1", port), 5) as raw,
                ):
                    old.wrap_socket(raw)
            with socket.create_connection(("127.0.0.1", port), 5) as plain:
                plain.sendall(b"GET /v1/sys/health HTTP/1.1\r\nHost: a\r\n\r\n")
                assert b"200" not in plain.recv(200)
        finally:
            child.stop()
