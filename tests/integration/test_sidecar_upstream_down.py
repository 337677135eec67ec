"""The upstream sealed, away, slow or lost: a clear 503 within bounded time, nothing minted, and leases end all the same."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from tests.integration.faulty_proxy import FaultyProxy
from tests.realparts.openbao import OpenBaoProcess
from tests.sidecar_stack import MOUNT, SidecarStack, eventually

EVERYWHERE = (
    ("GET", f"{MOUNT}/creds/demo"),
    ("PUT", f"{MOUNT}/creds/demo"),
    ("GET", f"{MOUNT}/roles/demo"),
    ("LIST", f"{MOUNT}/roles"),
    ("GET", f"{MOUNT}/creds/demo?help=1"),
    ("DELETE", f"{MOUNT}/creds/demo"),
    ("GET", "sys/mounts"),
    ("PUT", "sys/leases/lookup"),
    ("GET", "cubbyhole/x"),
)
TIMEOUT = 2.0


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SidecarStack, FaultyProxy]]:
    folder = tmp_path_factory.mktemp("down")
    with OpenBaoProcess(folder / "server", storage="raft") as server, FaultyProxy(server.address) as proxy:
        settings = {
            "AIKEYS_UPSTREAM_ADDR": proxy.address,
            "AIKEYS_UPSTREAM_TIMEOUT": str(TIMEOUT),
            "AIKEYS_UPSTREAM_IDLE_TIMEOUT": str(TIMEOUT),
        }
        with SidecarStack(server, folder, settings=settings) as stack:
            yield stack, proxy


@pytest.fixture
def stack(proxied: tuple[SidecarStack, FaultyProxy]) -> Iterator[SidecarStack]:
    yield proxied[0]
    eventually(lambda: health(proxied[0])[0] == 200, seconds=40, what="the sidecar's health")


@pytest.fixture
def proxy(proxied: tuple[SidecarStack, FaultyProxy]) -> Iterator[FaultyProxy]:
    yield proxied[1]
    proxied[1].behave()
    proxied[1].drop_connections()


def health(stack: SidecarStack) -> tuple[int, dict[str, str]]:
    reply = httpx.get(f"{stack.address}/aikeys/health", timeout=20, trust_env=False)
    return reply.status_code, reply.json()


def refused_everywhere(stack: SidecarStack, within: float) -> None:
    for method, path in EVERYWHERE:
        start = time.monotonic()
        with stack.nothing_minted():
            got = stack.request(method, path, {"lease_id": "x"} if path.endswith("lookup") else None)
        assert got.status_code == 503, (method, path, got.text)
        assert len(got.json()["errors"]) == 1
        assert got.headers["content-type"] == "application/json"
        assert time.monotonic() - start < within, (method, path)


@pytest.mark.parametrize("fault", ["refuse", "hang"])
def test_a_server_that_is_away_or_slow_is_503_in_bounded_time(
    stack: SidecarStack, proxy: FaultyProxy, fault: str
) -> None:
    setattr(proxy, fault, True)
    proxy.drop_connections()

    refused_everywhere(stack, within=TIMEOUT + 2)
    status, said = health(stack)
    assert status == 503
    assert said["status"] == "unavailable"
    assert said["database"] == "ok"
    assert "Vault behind this sidecar" in said["upstream"]


def test_an_answer_that_is_no_vaults_mints_nothing(stack: SidecarStack, proxy: FaultyProxy) -> None:
    page = b"<html>welcome</html>"
    for head in (b"200 OK", b"404 Not Found", b"502 Bad Gateway"):
        proxy.drop_connections()
        proxy.answer = (
            b"HTTP/1.1 %b\r\nContent-Type: text/html\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (
                head,
                len(page),
                page,
            )
        )
        for method in ("GET", "PUT", "PATCH"):
            with stack.nothing_minted():
                got = stack.request(
                    method, f"{MOUNT}/creds/demo", headers={"Content-Type": "application/merge-patch+json"}
                )
            assert got.status_code >= 400
            assert "api_key" not in got.text


def test_a_reply_that_is_cut_off_mints_nothing(stack: SidecarStack, proxy: FaultyProxy) -> None:
    for cut in (0, 10, 200, 420):
        proxy.drop_connections()
        proxy.cut_after = cut
        with stack.nothing_minted():
            assert stack.request("GET", f"{MOUNT}/creds/demo").status_code == 503


def test_a_sealed_server_is_its_own_503_and_leases_end_meanwhile(stack: SidecarStack) -> None:
    server = stack.upstream
    assert isinstance(server, OpenBaoProcess)
    key = stack.read_key("short")
    assert stack.works(key["data"]["api_key"])
    server.seal()
    try:
        for method, path in EVERYWHERE:
            with stack.nothing_minted():
                got = stack.request(method, path, {"lease_id": "x"} if path.endswith("lookup") else None)
            assert got.status_code == 503, (method, path, got.text)
        said = health(stack)[1]
        assert said["upstream"] == "sealed"
        # Its lease is 8 s; nothing of the upstream is needed to end it.
        stack.dies(key["data"]["api_key"], seconds=20)
    finally:
        server.unseal()


def test_a_token_of_our_own_that_was_revoked_is_replaced_without_anybody_noticing(
    stack: SidecarStack,
) -> None:
    for _ in range(2):
        accessors = stack.upstream.request("LIST", "auth/token/accessors")["data"]["keys"]
        for accessor in accessors:
            found = stack.upstream.request("POST", "auth/token/lookup-accessor", {"accessor": accessor})[
                "data"
            ]
            if found["path"] == "auth/approle/login":
                stack.upstream.request("POST", "auth/token/revoke-accessor", {"accessor": accessor})
        got = stack.request("GET", f"{MOUNT}/creds/demo", token=stack.reader().token)
        assert got.status_code == 200


def test_a_sidecar_that_starts_before_its_upstream_answers_503_and_serves_when_that_comes(
    stack: SidecarStack, proxy: FaultyProxy
) -> None:
    stack.stop_sidecar()
    proxy.refuse = True
    starting = threading.Thread(target=stack.start_sidecar)
    starting.start()
    try:
        eventually(lambda: answers(stack) == 503, seconds=15, what="an answer without an upstream")
        assert stack.request("GET", f"{MOUNT}/creds/demo").status_code == 503
    finally:
        proxy.behave()
        starting.join()
    assert stack.request("GET", f"{MOUNT}/creds/demo").status_code == 200


def answers(stack: SidecarStack) -> int:
    try:
        return health(stack)[0]
    except httpx.TransportError:
        return 0
