"""Which connection a request takes, and that nothing is ever sent twice unless the caller allows it."""

from __future__ import annotations

import os
import socket
import threading
import time

import httpx
import pytest
from tests.unit.transport.server import Peer, ScriptedServer, always, answer, once

from aikeys.framework.deadline import Deadline
from aikeys.transport import KeepAliveTransport, Limits, Origin, RawResponse, request_was_sent

SAFE = Limits(idempotent=True)


def get(transport: KeepAliveTransport, server: ScriptedServer, **options: object) -> RawResponse:
    return transport.send(Origin.parse(server.url), b"GET", b"/", **options)  # type: ignore[arg-type]


def post(transport: KeepAliveTransport, server: ScriptedServer, limits: Limits | None = None) -> RawResponse:
    return transport.send(Origin.parse(server.url), b"POST", b"/keys", (), b"{}", limits=limits)


def settle() -> None:
    """Let what the server did to an idle connection arrive."""
    time.sleep(0.05)


def test_requests_of_a_thread_share_one_connection(transport: KeepAliveTransport) -> None:
    with ScriptedServer(always(answer(b"a"))) as server:
        assert [get(transport, server).body for _ in range(3)] == [b"a"] * 3
        assert server.connections == 1


def test_threads_do_not_share_a_connection(transport: KeepAliveTransport) -> None:
    with ScriptedServer(always(answer())) as server:
        get(transport, server)
        other = threading.Thread(target=get, args=(transport, server))
        other.start()
        other.join()
        get(transport, server)
        assert server.connections == 2


def test_a_thread_that_ends_closes_its_connections(transport: KeepAliveTransport) -> None:
    closed = threading.Event()

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer())
        if peer.wait_for_close():
            closed.set()

    with ScriptedServer(script) as server:
        other = threading.Thread(target=get, args=(transport, server))
        other.start()
        other.join()
        assert closed.wait(5)


def test_a_forked_process_does_not_use_its_parents_connection(
    transport: KeepAliveTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ScriptedServer(always(answer())) as server:
        get(transport, server)
        monkeypatch.setattr(os, "getpid", lambda: -1)
        get(transport, server)
        assert server.connections == 2


@pytest.mark.parametrize(
    "last_words",
    [
        answer(b"a", "200 OK", "Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
        answer(b"a") + b"unasked",
        answer(b"a") + answer(b"unasked"),
    ],
    ids=["connection-close", "http-1.0", "bytes after the answer", "second answer"],
)
def test_a_connection_is_not_used_again_when_its_answer_forbids_it(
    transport: KeepAliveTransport, last_words: bytes
) -> None:
    with ScriptedServer(always(last_words)) as server:
        assert get(transport, server).body == b"a"
        assert get(transport, server).body == b"a"
        assert server.connections == 2


def test_a_connection_closed_while_idle_is_noticed_before_a_mint_is_sent_on_it(
    transport: KeepAliveTransport,
) -> None:
    with ScriptedServer(once(answer()), always(answer())) as server:
        post(transport, server)
        settle()
        assert post(transport, server).status == 200
        assert (server.connections, len(server.requests)) == (2, 2)


def test_a_half_closed_connection_is_noticed_before_a_mint_is_sent_on_it(
    transport: KeepAliveTransport,
) -> None:
    seen_after_close: list[object] = []

    def half_close(peer: Peer) -> None:
        peer.request()
        peer.send(answer())
        peer.sock.shutdown(socket.SHUT_WR)
        seen_after_close.append(peer.request())

    with ScriptedServer(half_close, always(answer())) as server:
        post(transport, server)
        settle()
        assert post(transport, server).status == 200
    assert seen_after_close == [None]


def test_a_reset_idle_connection_is_noticed_before_a_mint_is_sent_on_it(
    transport: KeepAliveTransport,
) -> None:
    def reset(peer: Peer) -> None:
        peer.request()
        peer.send(answer())
        settle()
        peer.reset()

    with ScriptedServer(reset, always(answer())) as server:
        post(transport, server)
        settle()
        settle()
        assert post(transport, server).status == 200
        assert len(server.requests) == 2


def test_an_answer_to_nothing_never_answers_the_next_request(transport: KeepAliveTransport) -> None:
    def poisoned(peer: Peer) -> None:
        peer.request()
        peer.send(answer(b"first"))
        time.sleep(0.02)
        peer.send(answer(b"poison"))
        peer.wait_for_close()

    with ScriptedServer(poisoned, always(answer(b"second"))) as server:
        assert post(transport, server).body == b"first"
        settle()
        assert post(transport, server).body == b"second"


def test_an_idle_connection_older_than_the_limit_is_not_used() -> None:
    transport = KeepAliveTransport(max_idle=0.02)
    with ScriptedServer(always(answer())) as server:
        get(transport, server)
        settle()
        get(transport, server)
        assert server.connections == 2
    transport.close()


def test_the_servers_own_idle_limit_is_kept(transport: KeepAliveTransport) -> None:
    with ScriptedServer(always(answer(b"", "200 OK", "Keep-Alive: timeout=1, max=100"))) as server:
        get(transport, server)
        settle()
        get(transport, server)
        assert server.connections == 2


def dies_on_second_request(peer: Peer) -> None:
    peer.request()
    peer.send(answer())
    peer.request()


def test_a_mint_on_a_connection_that_dies_is_not_repeated(transport: KeepAliveTransport) -> None:
    with ScriptedServer(dies_on_second_request, always(answer())) as server:
        post(transport, server)
        with pytest.raises(httpx.ReadError) as failed:
            post(transport, server)
        assert request_was_sent(failed.value)
        assert (server.connections, len(server.requests)) == (1, 2)


def test_an_idempotent_request_is_repeated_once_when_a_kept_connection_dies(
    transport: KeepAliveTransport,
) -> None:
    with ScriptedServer(dies_on_second_request, always(answer(b"again"))) as server:
        post(transport, server, SAFE)
        assert post(transport, server, SAFE).body == b"again"
        assert (server.connections, len(server.requests)) == (2, 3)


def test_an_idempotent_request_is_not_repeated_twice(transport: KeepAliveTransport) -> None:
    with ScriptedServer(dies_on_second_request, lambda peer: (peer.request(), None)[1]) as server:
        post(transport, server, SAFE)
        with pytest.raises(httpx.ReadError):
            post(transport, server, SAFE)
        assert server.connections == 2


def test_an_idempotent_request_on_a_fresh_connection_is_not_repeated(transport: KeepAliveTransport) -> None:
    with ScriptedServer(lambda peer: (peer.request(), None)[1]) as server:
        with pytest.raises(httpx.ReadError):
            post(transport, server, SAFE)
        assert server.connections == 1


def test_an_idempotent_request_is_not_repeated_once_an_answer_began(transport: KeepAliveTransport) -> None:
    def begins_to_answer(peer: Peer) -> None:
        peer.request()
        peer.send(answer())
        peer.request()
        peer.send(b"HTTP/1.1 201 Crea")
        time.sleep(0.05)
        peer.reset()

    with ScriptedServer(begins_to_answer, always(answer())) as server:
        post(transport, server, SAFE)
        with pytest.raises(httpx.TransportError):
            post(transport, server, SAFE)
        assert server.connections == 1


def test_a_timeout_is_never_repeated(transport: KeepAliveTransport) -> None:
    def silent_second(peer: Peer) -> None:
        peer.request()
        peer.send(answer())
        peer.request()
        peer.wait_for_close()

    with ScriptedServer(silent_second, always(answer())) as server:
        post(transport, server, SAFE)
        with pytest.raises(httpx.ReadTimeout):
            post(transport, server, Limits(read=0.1, idempotent=True))
        assert server.connections == 1


def test_nothing_is_sent_after_the_deadline(transport: KeepAliveTransport) -> None:
    with ScriptedServer(always(answer())) as server:
        get(transport, server)
        with pytest.raises(httpx.TimeoutException) as failed:
            get(transport, server, deadline=Deadline.after(-1))
        assert not request_was_sent(failed.value)
        assert len(server.requests) == 1


def test_close_ends_the_idle_connections_of_every_thread(transport: KeepAliveTransport) -> None:
    closed = threading.Semaphore(0)

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(answer())
        if peer.wait_for_close():
            closed.release()

    with ScriptedServer(script) as server:
        asked, end = threading.Semaphore(0), threading.Event()

        def ask_and_stay() -> None:
            get(transport, server)
            asked.release()
            end.wait(60)

        threads = [threading.Thread(target=ask_and_stay) for _ in range(2)]
        for thread in threads:
            thread.start()
        assert all(asked.acquire(timeout=5) for _ in threads)
        transport.close()
        ended = [closed.acquire(timeout=3) for _ in threads]
        end.set()
        for thread in threads:
            thread.join()
        assert ended == [True, True]


def test_a_closed_transport_finishes_requests_and_keeps_nothing(transport: KeepAliveTransport) -> None:
    with ScriptedServer(always(answer())) as server:
        transport.close()
        assert get(transport, server).status == 200
        assert get(transport, server).status == 200
        assert server.connections == 2
