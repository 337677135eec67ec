"""A relay that is not there: connections reset, or refused by the kernel, and the way back."""

from __future__ import annotations

import socket
import time

import httpx
import pytest
from tests.contract.simulator.helpers import Relay


def await_return(relay: Relay, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            assert relay.manage("GET", "/keys").status_code == 200
            return
        except httpx.TransportError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_in_an_outage_calls_are_reset_and_the_control_plane_answers(relay: Relay) -> None:
    relay.control.outage()
    for _ in range(3):
        with pytest.raises(httpx.TransportError):
            relay.manage("POST", "/keys", json={"name": "vlt-x"})
    assert relay.control.keys() == []
    assert relay.control.calls() == []
    relay.control.end_outage()
    assert relay.manage("GET", "/keys").status_code == 200


def test_in_an_outage_a_connection_that_says_nothing_is_closed_too(relay: Relay) -> None:
    relay.control.outage()
    with (
        socket.create_connection(relay.socket_address, timeout=5) as connection,
        pytest.raises(ConnectionResetError),
    ):
        connection.recv(1)
    relay.control.end_outage()


def test_an_outage_hits_connections_that_were_open(relay: Relay) -> None:
    assert relay.manage("GET", "/keys").status_code == 200
    relay.control.outage()
    with pytest.raises(httpx.ReadError):
        relay.manage("GET", "/keys")
    relay.control.end_outage()


def test_an_outage_ends_by_itself(relay: Relay) -> None:
    start = time.monotonic()
    relay.control.outage(1.5)
    with pytest.raises(httpx.ReadError):
        relay.manage("GET", "/keys")
    await_return(relay, 10)
    assert time.monotonic() - start >= 1.5


def test_an_outage_may_hit_one_node(relay: Relay) -> None:
    key = relay.create()["key"]
    relay.control.outage(node=1)
    assert relay.works(key)
    with pytest.raises(httpx.TransportError):
        relay.chat(key, second_node=True)
    relay.control.end_outage()
    assert relay.works(key, second_node=True)


def test_a_refusing_relay_does_not_listen_and_comes_back_with_its_state(relay: Relay) -> None:
    key = relay.create()
    relay.control.outage(2.0, mode="refuse")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(relay.socket_address, timeout=5)
    # A connection that was kept is reset, a new one refused.
    with pytest.raises(httpx.NetworkError):
        relay.http.get("/healthz")
    await_return(relay, 10)
    assert relay.get(key["id"])["id"] == key["id"]


def test_a_refusing_node_leaves_the_other_listening(relay: Relay) -> None:
    key = relay.create()["key"]
    relay.control.outage(30, mode="refuse", node=1)
    with pytest.raises(httpx.ConnectError):
        relay.chat(key, second_node=True)
    assert relay.works(key)
    relay.control.end_outage()
    assert relay.works(key, second_node=True)


def test_a_refusal_without_an_end_is_not_begun(relay: Relay) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        relay.control.outage(mode="refuse")
    assert relay.manage("GET", "/keys").status_code == 200
