"""The listener's threads: one may stay with a client that asks again, and none is kept from another client."""

from __future__ import annotations

import http.client
import sys
import time
from collections.abc import Iterator

import pytest
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.process import ChildProcess, clean_environment, free_port

THREADS = 2


@pytest.fixture(scope="module")
def port(openbao: OpenBaoProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A sidecar with as few threads as it takes."""
    folder = tmp_path_factory.mktemp("connections")
    token = folder / "token"
    token.write_text(openbao.root_token)
    chosen = free_port()
    child = ChildProcess(
        [sys.executable, "-m", "aikeys", "serve"],
        folder=folder,
        name="sidecar",
        env=clean_environment(
            AIKEYS_LISTEN=f"127.0.0.1:{chosen}",
            AIKEYS_UPSTREAM_ADDR=openbao.address,
            AIKEYS_DATA_DIR=str(folder / "data"),
            AIKEYS_AUTH_METHOD="token_file",
            AIKEYS_AUTH_TOKEN_FILE=str(token),
            AIKEYS_THREADS=str(THREADS),
        ),
    )
    child.start(lambda: _get(chosen) == 200, deadline=30)
    yield chosen
    child.stop()


def _get(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        return _ask(connection)
    except OSError:
        return 0
    finally:
        connection.close()


def _ask(connection: http.client.HTTPConnection) -> int:
    connection.request("GET", "/v1/sys/seal-status")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def test_more_clients_than_threads_are_all_served_on_their_kept_connections(port: int) -> None:
    clients = [http.client.HTTPConnection("127.0.0.1", port, timeout=10) for _ in range(4 * THREADS)]
    for _round in range(5):
        assert [_ask(client) for client in clients] == [200] * len(clients)
    for client in clients:
        client.close()


def test_a_connection_is_kept_after_its_thread_has_left_it(port: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    assert _ask(client) == 200
    sock = client.sock
    time.sleep(0.3)
    assert _ask(client) == 200
    assert client.sock is sock
    client.close()


def test_requests_sent_in_one_piece_are_answered_one_after_the_other(port: int) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    client.connect()
    request = b"GET /v1/sys/seal-status HTTP/1.1\r\nHost: x\r\n\r\n"
    client.sock.sendall(3 * request)
    received = b""
    end = time.monotonic() + 10
    while received.count(b"HTTP/1.1 200") < 3 and time.monotonic() < end:
        received += client.sock.recv(65536)
    assert received.count(b"HTTP/1.1 200") == 3
    client.close()
