"""What an answer may look like, and that a cut, swollen, slow or ambiguous one is an error and never a shorter one."""

from __future__ import annotations

import time

import httpx
import pytest
from tests.unit.transport.server import Peer, ScriptedServer, always, answer, once

from aikeys.framework.deadline import Deadline
from aikeys.transport import KeepAliveTransport, Limits, Origin, RawResponse, request_was_sent

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def ask(
    transport: KeepAliveTransport,
    server: ScriptedServer,
    method: bytes = b"GET",
    limits: Limits | None = None,
    deadline: Deadline | None = None,
) -> RawResponse:
    return transport.send(Origin.parse(server.url), method, b"/", limits=limits, deadline=deadline)


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (answer(b"hello"), b"hello"),
        (answer(b""), b""),
        (CHUNKED + b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n", b"hello"),
        (CHUNKED + b"5;ext=1\r\nhello\r\n0\r\nX-Trailer: 1\r\n\r\n", b"hello"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"hello"), b"hello"),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answer(b"hello"), b"hello"),
    ],
    ids=["length", "empty", "chunked", "trailer", "continue", "early hints"],
)
def test_an_answer_arrives_whole_however_it_is_cut_into_packets(
    transport: KeepAliveTransport, sent: bytes, body: bytes
) -> None:
    def byte_by_byte(peer: Peer) -> None:
        while peer.request():
            for index in range(len(sent)):
                peer.send(sent[index : index + 1])

    with ScriptedServer(always(sent)) as server:
        assert [ask(transport, server).body for _ in range(2)] == [body, body]
        assert server.connections == 1
    with ScriptedServer(byte_by_byte) as server:
        assert [ask(transport, server).body for _ in range(2)] == [body, body]
        assert server.connections == 1


def test_what_an_interim_answer_says_is_not_the_answers(transport: KeepAliveTransport) -> None:
    sent = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + answer(b"", "200 Fine", "X: 1")
    with ScriptedServer(always(sent)) as server:
        response = ask(transport, server)
    assert (response.status, response.reason) == (200, b"Fine")
    assert response.headers == [(b"Content-Length", b"0"), (b"X", b"1")]


def test_an_answer_without_a_length_ends_with_its_connection(transport: KeepAliveTransport) -> None:
    with ScriptedServer(once(b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\nhello")) as server:
        assert ask(transport, server).body == b"hello"


def test_headers_keep_order_case_and_repetition(transport: KeepAliveTransport) -> None:
    with ScriptedServer(always(answer(b"", "200 Fine Indeed", "X-B: 1", "x-a: 2", "X-B:  3 "))) as server:
        response = ask(transport, server)
    assert response.headers[1:] == [(b"X-B", b"1"), (b"x-a", b"2"), (b"X-B", b"3")]
    assert response.reason == b"Fine Indeed"
    assert response.header(b"x-b") == b"1"


@pytest.mark.parametrize(
    ("method", "sent"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"),
        (b"HEAD", CHUNKED),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n"),
    ],
    ids=["HEAD with a length", "HEAD chunked", "204", "304 with a length"],
)
def test_an_answer_that_has_no_body_is_not_waited_for(
    transport: KeepAliveTransport, method: bytes, sent: bytes
) -> None:
    with ScriptedServer(always(sent)) as server:
        started = time.monotonic()
        assert [ask(transport, server, method).body for _ in range(3)] == [b""] * 3
        assert time.monotonic() - started < 2
        assert server.connections == 1


def test_a_body_after_the_answer_to_head_costs_the_connection(transport: KeepAliveTransport) -> None:
    with ScriptedServer(always(answer(b"unasked"))) as server:
        assert ask(transport, server, b"HEAD").body == b""
        assert ask(transport, server, b"GET").body == b"unasked"
        assert server.connections == 2


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        CHUNKED + b"5\r\nhello\r\n",
        CHUNKED + b"5\r\nhel",
        CHUNKED + b"5\r\nhello\r\n0\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTT",
    ],
)
def test_a_cut_answer_is_an_error(transport: KeepAliveTransport, sent: bytes) -> None:
    with ScriptedServer(once(sent)) as server:
        with pytest.raises(httpx.RemoteProtocolError, match="cut short") as failed:
            ask(transport, server)
        assert request_was_sent(failed.value)


@pytest.mark.parametrize(
    "sent",
    [
        b"<html>not HTTP</html>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: a\r\n folded\r\n\r\nok",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        CHUNKED + b"zz\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
)
def test_an_answer_with_two_meanings_or_none_is_an_error(transport: KeepAliveTransport, sent: bytes) -> None:
    with ScriptedServer(once(sent)) as server:
        with pytest.raises(httpx.RemoteProtocolError) as failed:
            ask(transport, server)
        assert request_was_sent(failed.value)


def test_a_server_that_hangs_up_without_a_word_is_an_error_with_the_request_sent(
    transport: KeepAliveTransport,
) -> None:
    def reset(peer: Peer) -> None:
        peer.request()
        peer.reset()

    with ScriptedServer(lambda peer: (peer.request(), None)[1], reset) as server:
        for _ in range(2):
            with pytest.raises((httpx.ReadError, httpx.WriteError)) as failed:
                ask(transport, server)
            assert request_was_sent(failed.value)


@pytest.mark.parametrize("size", [1000, 1001])
@pytest.mark.parametrize("declared", [True, False])
def test_a_body_may_be_as_large_as_the_limit_and_no_larger(
    transport: KeepAliveTransport, size: int, declared: bool
) -> None:
    sent = answer(b"x" * size) if declared else CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)
    with ScriptedServer(always(sent)) as server:
        if size == 1000:
            assert len(ask(transport, server, limits=Limits(max_body=1000)).body) == 1000
        else:
            with pytest.raises(httpx.RemoteProtocolError, match="exceeds 1000 bytes"):
                ask(transport, server, limits=Limits(max_body=1000))


def test_a_body_declared_too_large_is_refused_before_it_comes(transport: KeepAliveTransport) -> None:
    def declares_and_waits(peer: Peer) -> None:
        peer.request()
        peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n")
        peer.wait_for_close()

    with (
        ScriptedServer(declares_and_waits) as server,
        pytest.raises(httpx.RemoteProtocolError, match="exceeds 1000 bytes"),
    ):
        ask(transport, server, limits=Limits(max_body=1000))


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"HTTP/1.1 200 ", b"O" * 1000),
        (b"HTTP/1.1 200 OK\r\nX: ", b"x" * 1000),
        (b"HTTP/1.1 200 OK\r\n", b"X-Many: 1\r\n" * 100),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 50),
        (CHUNKED + b"1\r\nx\r\n1;", b"e" * 1000),
        (CHUNKED + b"1\r\nx\r\n0\r\nX: ", b"t" * 1000),
        (CHUNKED + b"1\r\nx\r\n0\r\n", b"X-Trailer: 1\r\n" * 100),
    ],
    ids=["reason", "one header", "many headers", "interim", "chunk extension", "trailer", "trailers"],
)
def test_what_is_no_body_is_bounded_however_it_swells(
    transport: KeepAliveTransport, start: bytes, piece: bytes
) -> None:
    sent = 0

    def swell(peer: Peer) -> None:
        nonlocal sent
        peer.request()
        peer.sock.sendall(start)
        for _ in range(20_000):
            peer.sock.sendall(piece)  # An OSError, when the client has hung up, ends the script.
            sent += len(piece)

    with (
        ScriptedServer(swell) as server,
        pytest.raises(httpx.RemoteProtocolError, match="exceed 10000 bytes"),
    ):
        ask(transport, server, limits=Limits(max_header=10_000))
    assert sent < 20_000 * len(piece)


def test_large_headers_in_one_packet_are_bounded_too(transport: KeepAliveTransport) -> None:
    with (
        ScriptedServer(always(answer(b"", "200 OK", "X: " + "x" * 2000))) as server,
        pytest.raises(httpx.RemoteProtocolError, match="exceed 1000 bytes"),
    ):
        ask(transport, server, limits=Limits(max_header=1000))


def test_a_silent_server_is_left_after_the_read_timeout(transport: KeepAliveTransport) -> None:
    with ScriptedServer(lambda peer: (peer.request(), peer.wait_for_close(), None)[2]) as server:
        started = time.monotonic()
        with pytest.raises(httpx.ReadTimeout) as failed:
            ask(transport, server, limits=Limits(read=0.2))
        assert 0.15 < time.monotonic() - started < 2
        assert request_was_sent(failed.value)


@pytest.mark.parametrize(
    "start", [b"", b"HTTP/1.1 200 OK\r\nX: ", b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"]
)
def test_a_dripping_server_is_left_at_the_deadline(transport: KeepAliveTransport, start: bytes) -> None:
    """Each byte comes well within the read timeout; only the sum is too long."""

    def drip(peer: Peer) -> None:
        peer.request()
        peer.send(start or b"HTTP/1.1 200 ")
        for _ in range(200):
            time.sleep(0.05)
            peer.sock.sendall(b"x")

    with ScriptedServer(drip) as server:
        started = time.monotonic()
        with pytest.raises(httpx.ReadTimeout) as failed:
            ask(transport, server, limits=Limits(read=5), deadline=Deadline.after(0.3))
        assert 0.25 < time.monotonic() - started < 2
        assert request_was_sent(failed.value)


def test_a_redirect_is_handed_back_and_not_followed(transport: KeepAliveTransport) -> None:
    with ScriptedServer(always(answer())) as other:
        redirect = answer(b"", "307 Temporary Redirect", f"Location: {other.url}/elsewhere")
        with ScriptedServer(always(redirect)) as server:
            response = ask(transport, server, b"POST")
            assert (response.status, len(server.requests), other.connections) == (307, 1, 0)


def test_a_compressed_body_is_handed_out_as_sent(transport: KeepAliveTransport) -> None:
    with ScriptedServer(always(answer(b"\x1f\x8braw", "200 OK", "Content-Encoding: gzip"))) as server:
        assert ask(transport, server).body == b"\x1f\x8braw"
