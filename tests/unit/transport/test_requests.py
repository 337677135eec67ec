"""What is sent: exactly one request, framed by us, with nothing smuggled in; bodies as bytes or as they come."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import httpx
import pytest
from tests.unit.transport.server import Peer, ScriptedServer, always, answer

from aikeys.framework.deadline import Deadline
from aikeys.transport import KeepAliveTransport, Limits, Origin, request_was_sent


def test_the_transport_frames_the_message_whatever_the_caller_says(transport: KeepAliveTransport) -> None:
    with ScriptedServer(always(answer())) as server:
        transport.send(
            Origin.parse(server.url),
            b"POST",
            b"/keys?a=%20b",
            [(b"Content-Length", b"999"), (b"transfer-encoding", b"chunked"), (b"X-A", b"1"), (b"X-A", b"2")],
            b"body",
        )
        [request] = server.requests
    assert request.line == "POST /keys?a=%20b HTTP/1.1"
    assert request.headers == [
        ("X-A", "1"),
        ("X-A", "2"),
        ("Host", f"127.0.0.1:{server.port}"),
        ("Content-Length", "4"),
    ]
    assert request.body == b"body"


def test_a_host_header_of_the_callers_own_is_kept(transport: KeepAliveTransport) -> None:
    with ScriptedServer(always(answer())) as server:
        transport.send(Origin.parse(server.url), b"GET", b"/", [(b"host", b"vault.example")])
        assert server.requests[0].values("Host") == ["vault.example"]


@pytest.mark.parametrize(
    ("method", "length"), [(b"GET", []), (b"LIST", []), (b"DELETE", []), (b"POST", ["0"]), (b"PUT", ["0"])]
)
def test_an_empty_body_is_announced_only_where_one_is_expected(
    transport: KeepAliveTransport, method: bytes, length: list[str]
) -> None:
    with ScriptedServer(always(answer())) as server:
        transport.send(Origin.parse(server.url), method, b"/")
        assert server.requests[0].values("Content-Length") == length


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        (b"GET", b"/", [(b"X", b"a\r\nX-Injected: 1")]),
        (b"GET", b"/", [(b"X", b"a\nX-Injected: 1")]),
        (b"GET", b"/", [(b"X", b"a\rb")]),
        (b"GET", b"/", [(b"X", b"a\0b")]),
        (b"GET", b"/", [(b"X\r\nX-Injected", b"1")]),
        (b"GET", b"/ HTTP/1.1\r\nX-Injected: 1\r\n\r\n", []),
        (b"GET", b"/a b", []),
        (b"GET", b"", []),
        (b"GET / HTTP/1.1\r\nX:", b"/", []),
        (b"", b"/", []),
    ],
)
def test_nothing_can_be_smuggled_into_the_head(
    transport: KeepAliveTransport, method: bytes, target: bytes, headers: list[tuple[bytes, bytes]]
) -> None:
    with ScriptedServer(always(answer())) as server:
        with pytest.raises(httpx.LocalProtocolError) as failed:
            transport.send(Origin.parse(server.url), method, target, headers)
        assert not request_was_sent(failed.value)
        assert server.connections == 0


@pytest.mark.parametrize("length", [None, 9])
def test_a_body_is_sent_as_it_is_produced(transport: KeepAliveTransport, length: int | None) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"abc"
        yield b""
        yield b"defghi"

    with ScriptedServer(always(answer(b"done"))) as server:
        stream = transport.stream(
            Origin.parse(server.url), b"PUT", b"/", body=pieces(), content_length=length
        )
        assert b"".join(stream) == b"done"
        [request] = server.requests
        assert request.body == b"abcdefghi"
        assert request.values("Content-Length") == ([] if length is None else ["9"])


@pytest.mark.parametrize("announced", [5, 7])
def test_a_body_of_another_length_than_announced_ends_the_connection(
    transport: KeepAliveTransport, announced: int
) -> None:
    with ScriptedServer(always(answer())) as server:
        with pytest.raises(httpx.LocalProtocolError, match=f"not the {announced} bytes"):
            transport.stream(
                Origin.parse(server.url), b"PUT", b"/", body=iter([b"123", b"456"]), content_length=announced
            )
        assert transport.send(Origin.parse(server.url), b"GET", b"/").status == 200
        assert server.connections == 2


def test_an_error_of_the_bodys_producer_ends_the_connection(transport: KeepAliveTransport) -> None:
    def breaks() -> Iterator[bytes]:
        yield b"abc"
        raise RuntimeError("the client went away")

    with ScriptedServer(always(answer())) as server:
        with pytest.raises(RuntimeError, match="went away"):
            transport.stream(Origin.parse(server.url), b"PUT", b"/", body=breaks())
        transport.send(Origin.parse(server.url), b"GET", b"/")
        assert server.connections == 2


def test_an_answer_before_the_whole_request_is_read_is_returned(transport: KeepAliveTransport) -> None:
    done = threading.Event()

    def refuse(peer: Peer) -> None:
        peer.sock.recv(1024)
        peer.send(answer(b"too large", "413 Payload Too Large"))
        done.wait(20)  # Neither reads on nor closes.

    with ScriptedServer(refuse) as server:
        started = time.monotonic()
        response = transport.send(
            Origin.parse(server.url), b"POST", b"/", (), b"x" * 20_000_000, deadline=Deadline.after(5)
        )
        assert time.monotonic() - started < 3
        done.set()
        assert (response.status, response.body) == (413, b"too large")
        transport.send(Origin.parse(server.url), b"GET", b"/")
        assert server.connections == 2


def test_a_server_that_does_not_read_is_left_after_the_write_timeout(transport: KeepAliveTransport) -> None:
    release = threading.Event()
    with ScriptedServer(lambda peer: (release.wait(5), None)[1]) as server:
        with pytest.raises(httpx.WriteTimeout) as failed:
            transport.send(
                Origin.parse(server.url), b"POST", b"/", (), b"x" * 20_000_000, limits=Limits(write=0.2)
            )
        release.set()
        assert request_was_sent(failed.value)


def test_a_large_body_arrives_whole(transport: KeepAliveTransport) -> None:
    body = bytes(range(256)) * 20_000
    with ScriptedServer(always(answer(body))) as server:
        response = transport.send(Origin.parse(server.url), b"POST", b"/", (), body)
        assert response.body == body
        assert server.requests[0].body == body


def test_an_answer_is_streamed_as_it_comes(transport: KeepAliveTransport) -> None:
    seen = threading.Event()

    def two_pieces(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        assert seen.wait(5), "the second piece is sent only when the first was seen"
        peer.send(b"1\r\nb\r\n0\r\n\r\n")
        peer.request()
        peer.send(answer())

    with ScriptedServer(two_pieces) as server:
        stream = transport.stream(Origin.parse(server.url), b"GET", b"/")
        pieces = iter(stream)
        assert next(pieces) == b"a"
        seen.set()
        assert list(pieces) == [b"b"]
        transport.send(Origin.parse(server.url), b"GET", b"/")
        assert server.connections == 1


def test_a_stream_left_unread_ends_its_connection(transport: KeepAliveTransport) -> None:
    closed = threading.Event()

    def endless(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n")
        if peer.wait_for_close():
            closed.set()

    with ScriptedServer(endless, always(answer(b"next"))) as server:
        stream = transport.stream(Origin.parse(server.url), b"GET", b"/")
        next(iter(stream))
        stream.close()
        stream.close()
        assert closed.wait(5)
        assert list(stream) == []
        assert transport.send(Origin.parse(server.url), b"GET", b"/").body == b"next"


def test_a_request_during_a_stream_has_its_own_connection(transport: KeepAliveTransport) -> None:
    half = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    with ScriptedServer(always(half), always(answer(b"own"))) as server:
        stream = transport.stream(Origin.parse(server.url), b"GET", b"/")
        assert transport.send(Origin.parse(server.url), b"GET", b"/").body == b"own"
        stream.close()


def test_httpx_itself_works_on_top(transport: KeepAliveTransport) -> None:
    with ScriptedServer(always(answer(b'{"a":1}', "200 OK", "Set-Cookie: a=1", "Set-Cookie: b=2"))) as server:
        with httpx.Client(transport=transport, base_url=server.url, trust_env=False) as client:
            posted = client.post("/x", json={"b": 2}, params={"q": "a b"})
            assert posted.json() == {"a": 1}
            assert posted.headers.get_list("Set-Cookie") == ["a=1", "b=2"]
            assert client.put("/x", content=iter([b"abc"])).status_code == 200
            with client.stream("GET", "/x") as streamed:
                assert streamed.read() == b'{"a":1}'
        assert [request.body for request in server.requests] == [b'{"b":2}', b"abc", b""]
        assert server.requests[0].line == "POST /x?q=a+b HTTP/1.1"
        assert server.connections == 1


def test_httpx_hands_on_timeout_deadline_and_failure(transport: KeepAliveTransport) -> None:
    silent = ScriptedServer(lambda peer: (peer.request(), peer.wait_for_close(), None)[2])
    with silent as server, httpx.Client(transport=transport, trust_env=False) as client:
        started = time.monotonic()
        with pytest.raises(httpx.ReadTimeout):
            client.get(server.url, timeout=0.1)
        with pytest.raises(httpx.ReadTimeout) as failed:
            client.get(server.url, extensions={"deadline": Deadline.after(0.1)})
        assert time.monotonic() - started < 2
        assert request_was_sent(failed.value)


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http://", "no address"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"scheme|host"):
        Origin.parse(url)


@pytest.mark.parametrize(
    ("url", "key", "host"),
    [
        ("http://a.example/x", "http://a.example", b"a.example"),
        ("https://A.example:443", "https://a.example", b"a.example"),
        ("https://a.example:8200", "https://a.example:8200", b"a.example:8200"),
        ("http://[::1]:8200/v1", "http://[::1]:8200", b"[::1]:8200"),
        ("https://bücher.example", "https://xn--bcher-kva.example", b"xn--bcher-kva.example"),
    ],
)
def test_an_origin_is_named_the_same_however_it_is_written(url: str, key: str, host: bytes) -> None:
    origin = Origin.parse(url)
    assert (origin.key, origin.host_header) == (key, host)
