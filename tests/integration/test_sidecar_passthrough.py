"""What is not ours passes as it came, both ways, while it comes."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import httpx
import pytest
from tests.integration.faulty_proxy import FaultyProxy
from tests.integration.raw_http import ask, connect, head, parse
from tests.realparts.openbao import OpenBaoProcess
from tests.sidecar_stack import MOUNT, SidecarStack, eventually, unique


@pytest.fixture(scope="module")
def proxied(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SidecarStack, FaultyProxy]]:
    """A sidecar that reaches its OpenBao through a proxy which can misbehave."""
    folder = tmp_path_factory.mktemp("proxied")
    with OpenBaoProcess(folder / "server") as server, FaultyProxy(server.address) as proxy:
        settings = {"AIKEYS_UPSTREAM_ADDR": proxy.address, "AIKEYS_TRUSTED_PROXIES": "127.0.0.1/32"}
        with SidecarStack(server, folder, settings=settings) as stack:
            yield stack, proxy


@pytest.fixture
def proxy(proxied: tuple[SidecarStack, FaultyProxy]) -> Iterator[FaultyProxy]:
    proxied[1].behave()
    proxied[1].requests.clear()
    yield proxied[1]
    proxied[1].behave()


@pytest.fixture
def behind(proxied: tuple[SidecarStack, FaultyProxy]) -> SidecarStack:
    return proxied[0]


def root(stack: SidecarStack) -> list[tuple[str, str]]:
    return [("X-Vault-Token", stack.root_token)]


# -- requests -------------------------------------------------------------------------------------------------------


def test_headers_reach_the_upstream_in_order_and_repeated(behind: SidecarStack, proxy: FaultyProxy) -> None:
    sent = [
        *root(behind),
        ("X-One", "1"),
        ("X-Many", "a"),
        ("X-Two", "2"),
        ("X-Many", "b, c"),
        ("X-Forwarded-For", "9.9.9.9"),
        ("Connection", "X-Hop, X-Forwarded-For"),
        ("X-Hop", "stays"),
        ("Keep-Alive", "timeout=5"),
        ("Proxy-Authorization", "gone"),
        ("TE", "trailers"),
    ]
    with connect(behind.address) as connection:
        connection.sendall(head("GET", "/v1/sys/seal-status?a=1&a=2&b", sent))
        assert connection.recv(12) == b"HTTP/1.1 200"

    request = next(raw for raw in proxy.requests if b"seal-status" in raw).decode("latin-1")
    line, *lines = request.split("\r\n\r\n", maxsplit=1)[0].split("\r\n")
    assert line == "GET /v1/sys/seal-status?a=1&a=2&b HTTP/1.1"
    pairs = [tuple(item.split(": ", 1)) for item in lines]
    values = [value for name, value in pairs if name.lower() == "x-many"]
    assert values == ["a", "b, c"]
    names = [name.lower() for name, _ in pairs]
    assert names.index("x-one") < names.index("x-two")
    assert not {"connection", "keep-alive", "proxy-authorization", "te"} & set(names)
    assert "x-hop" in names
    assert [value for name, value in pairs if name.lower() == "x-forwarded-for"] == ["9.9.9.9, 127.0.0.1"]
    assert [value for name, value in pairs if name.lower() == "host"] == [
        proxy.address.removeprefix("http://")
    ]


def test_a_stranger_cannot_choose_the_address_that_cidr_bounds_see(stack: SidecarStack) -> None:
    """Whatever the server is told to believe, it hears the connection's own address last and alone."""
    got = stack.request(
        "GET", f"{MOUNT}/creds/demo", headers={"X-Forwarded-For": "10.0.0.1"}, token=stack.reader().token
    )
    assert got.status_code == 200


@pytest.mark.parametrize("size", [10, 200_000])
@pytest.mark.parametrize("chunked", [True, False])
def test_a_body_arrives_whole_with_its_length_or_in_chunks(
    stack: SidecarStack, size: int, chunked: bool
) -> None:
    path = f"/v1/cubbyhole/{unique('body')}"
    body = json.dumps({"value": "x" * size}).encode()
    if chunked:
        headers = [*root(stack), ("Transfer-Encoding", "chunked")]
        pieces = [body[start : start + 7000] for start in range(0, len(body), 7000)]
        sent = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        headers, sent = root(stack), body
    assert ask(stack.address, "PUT", path, headers, sent).status == 204
    stored = ask(stack.upstream.address, "GET", path, root(stack))
    assert json.loads(stored.body)["data"] == {"value": "x" * size}


def test_a_large_body_is_passed_on_before_it_is_complete(behind: SidecarStack, proxy: FaultyProxy) -> None:
    size = 3_000_000
    headers = [*root(behind), ("Content-Length", str(size))]
    with connect(behind.address) as connection:
        connection.sendall(head("PUT", "/v1/cubbyhole/large", headers) + b'{"a":"' + b"x" * 500_000)
        eventually(lambda: sum(map(len, proxy.requests)) > 300_000, what="the first half at the upstream")
        connection.sendall(b"x" * (size - 500_000 - 8) + b'"}')
        answer = connection.recv(64)
    # Too large for one string or one entry, says the server, who has seen all of it.
    assert answer.startswith(b"HTTP/1.1 ")


def test_a_client_that_waits_for_100_continue_is_answered(stack: SidecarStack) -> None:
    body = b'{"a":"b"}'
    headers = [*root(stack), ("Content-Length", str(len(body))), ("Expect", "100-continue")]
    with connect(stack.address) as connection:
        connection.sendall(head("PUT", "/v1/cubbyhole/expected", headers))
        assert connection.recv(64).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        assert connection.recv(64).startswith(b"HTTP/1.1 204")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "sys/seal-status", None),
        ("HEAD", "sys/health", None),
        ("GET", "sys/health?activecode=299", None),
        ("GET", "sys/health?activecode=503", None),
        ("LIST", "sys/policies/acl", None),
        ("GET", "sys/policies/acl?list=true", None),
        ("OPTIONS", "sys/policies/acl", None),
        ("FOO", "sys/policies/acl", None),
        ("PUT", "sys/policies/acl/passed", {"policy": ""}),
        ("PATCH", "cubbyhole/x", {"a": "b"}),
        ("DELETE", "cubbyhole/never", None),
        ("GET", "nomount/x", None),
        ("POST", "auth/token/lookup", {"token": "bad"}),
        ("POST", "sys/wrapping/lookup", {"token": "bad"}),
        ("GET", "cubbyhole/nothing", None),
        ("PUT", "cubbyhole/x", {"big": ["x"] * 2000}),
    ],
)
def test_every_verb_and_status_comes_back_as_the_server_sent_it(
    stack: SidecarStack, method: str, path: str, body: dict[str, object] | None
) -> None:
    sent = json.dumps(body).encode() if body is not None else b""
    ours = ask(stack.address, method, f"/v1/{path}", root(stack), sent)
    real = ask(stack.upstream.address, method, f"/v1/{path}", root(stack), sent)

    assert (ours.status, ours.reason) == (real.status, real.reason)
    ignored = {"date", "connection", "transfer-encoding", "content-length"}
    left = sorted((name.lower(), value) for name, value in ours.headers if name.lower() not in ignored)
    right = sorted((name.lower(), value) for name, value in real.headers if name.lower() not in ignored)
    assert left == right
    assert len(ours.all("date")) == 1
    if b"request_id" not in real.body and b"time" not in real.body:
        assert ours.body == real.body
    assert bool(ours.body) == bool(real.body)


def test_a_patch_of_a_real_engine_passes(stack: SidecarStack) -> None:
    mount = unique("kv")
    stack.upstream.request("POST", f"sys/mounts/{mount}", {"type": "kv", "options": {"version": "2"}})
    try:
        eventually(lambda: stack.direct("PUT", f"{mount}/data/x", {"data": {"a": "1"}}).status_code == 200)
        patched = stack.request(
            "PATCH",
            f"{mount}/data/x",
            content=b'{"data": {"b": "2"}}',
            headers={"Content-Type": "application/merge-patch+json"},
        )
        assert patched.status_code == 200
        assert stack.request("GET", f"{mount}/data/x").json()["data"]["data"] == {"a": "1", "b": "2"}
    finally:
        stack.upstream.request("DELETE", f"sys/mounts/{mount}")


# -- answers --------------------------------------------------------------------------------------------------------


def test_the_web_ui_comes_through_byte_for_byte(openbao_stack: SidecarStack) -> None:
    ours = httpx.get(f"{openbao_stack.address}/ui/", trust_env=False)
    real = httpx.get(f"{openbao_stack.upstream.address}/ui/", trust_env=False)
    assert ours.status_code == real.status_code == 200
    assert ours.content == real.content
    assert len(ours.content) > 100_000


def test_a_stream_is_passed_on_while_it_lasts_and_ends_with_the_client(stack: SidecarStack) -> None:
    """`sys/monitor` sends log lines as they are written."""
    with connect(stack.address) as connection:
        connection.sendall(head("GET", "/v1/sys/monitor?log_level=debug", root(stack)))
        seen = b""
        end = time.monotonic() + 15
        connection.settimeout(0.5)
        while b"\r\n\r\n" not in seen or len(seen.partition(b"\r\n\r\n")[2]) < 20:
            assert time.monotonic() < end, seen
            # Mounting writes a line to the log.
            name = unique("monitored")
            stack.upstream.request("POST", f"sys/mounts/{name}", {"type": "kv"})
            stack.upstream.request("DELETE", f"sys/mounts/{name}")
            try:
                seen += connection.recv(65536)
            except TimeoutError:
                continue
    assert seen.startswith(b"HTTP/1.1 200")


def test_an_answer_that_is_cut_short_is_not_passed_on_as_a_whole_one(
    behind: SidecarStack, proxy: FaultyProxy
) -> None:
    proxy.drop_connections()
    proxy.cut_after = 400
    with connect(behind.address) as connection:
        connection.sendall(head("GET", "/ui/", [*root(behind), ("Connection", "close")]))
        reply = read_reply_raw(connection)
    top, _, body = reply.partition(b"\r\n\r\n")
    if top.startswith(b"HTTP/1.1 200"):
        announced = parse(reply + b"").header("Content-Length")
        assert announced is None or len(body) < int(announced)
        assert not body.endswith(b"0\r\n\r\n")
    else:
        assert top.startswith(b"HTTP/1.1 503")


def read_reply_raw(connection: object) -> bytes:
    data = b""
    while piece := connection.recv(65536):  # type: ignore[attr-defined]
        data += piece
    return data


def redirect(location: str) -> bytes:
    return f"HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()


def test_a_redirect_to_another_origin_is_503_on_every_way(behind: SidecarStack, proxy: FaultyProxy) -> None:
    """A standby sends clients to the active node, where they would meet the shadow instead of the engine."""
    proxy.drop_connections()
    for method, path in (
        ("GET", f"{MOUNT}/creds/demo"),
        ("PUT", f"{MOUNT}/roles/demo"),
        ("GET", "secret/x"),
        ("GET", "sys/mounts"),
        ("PUT", "sys/leases/lookup"),
    ):
        proxy.answer = redirect("https://active.example:8200/v1/" + path)
        with behind.nothing_minted():
            got = ask(
                behind.address,
                method,
                f"/v1/{path}",
                root(behind),
                b'{"lease_id":"x"}' if method == "PUT" else b"",
            )
        assert got.status == 503, (method, path)
        assert got.header("location") is None
        assert b"redirect" in got.body


def test_a_redirect_within_the_upstream_keeps_the_client_here(
    behind: SidecarStack, proxy: FaultyProxy
) -> None:
    for location, shown in (
        (f"{proxy.address}/ui/vault?x=1", "/ui/vault?x=1"),
        ("/ui/", "/ui/"),
        ("http://vault.test/ui/", "/ui/"),
        (proxy.address, "/"),
    ):
        proxy.drop_connections()
        proxy.answer = redirect(location)
        got = ask(behind.address, "GET", "/somewhere", root(behind))
        assert (got.status, got.header("location")) == (307, shown)


def test_many_requests_share_connections_that_the_upstream_may_close(
    behind: SidecarStack, proxy: FaultyProxy
) -> None:
    for _ in range(5):
        assert behind.request("GET", "sys/seal-status").status_code == 200
        proxy.drop_connections()
        time.sleep(0.05)
    assert behind.request("GET", f"{MOUNT}/creds/demo").status_code == 200
