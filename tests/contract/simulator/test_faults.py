"""The fault plan, seen from the other end of the wire: what the client gets, and whether the key exists."""

from __future__ import annotations

import socket
import threading
import time
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest
from tests.contract.simulator.helpers import Relay, error, refused


def mint(relay: Relay, **request: Any) -> httpx.Response:
    return relay.manage("POST", "/keys", json={"name": "vlt-f"}, **request)


def arm(relay: Relay, kind: str, **parameters: Any) -> None:
    relay.control.fault(kind, method="POST", path="/v1/keys", **parameters)


def committed(relay: Relay) -> bool:
    """Whether the mint took place; the plan is spent, so that the next call is answered."""
    relay.control.clear_faults()
    return len(relay.control.keys()) == 1


def logged(relay: Relay) -> dict[str, Any]:
    (call,) = relay.control.calls("POST", "/v1/keys")
    return call


def test_refuse_resets_the_connection_and_applies_nothing(relay: Relay) -> None:
    arm(relay, "refuse")
    # On the socket itself: httpx sends head and body apart, and may see the reset in between and read an end.
    body = b'{"name":"vlt-f"}'
    head = (
        f"POST /v1/keys HTTP/1.1\r\nHost: relay\r\nAuthorization: Bearer {relay.process.management_key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(relay.socket_address, timeout=5) as connection:
        connection.sendall(head.encode() + body)
        with pytest.raises(ConnectionResetError):
            connection.recv(1)
    assert not committed(relay)
    assert (logged(relay)["status"], logged(relay)["faults"]) == (None, ["refuse"])


def test_close_ends_the_connection_and_applies_nothing(relay: Relay) -> None:
    arm(relay, "close")
    with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
        mint(relay)
    assert not committed(relay)
    assert logged(relay)["status"] is None


def test_commit_then_drop_applies_and_resets(relay: Relay) -> None:
    arm(relay, "commit_then_drop")
    with pytest.raises(httpx.ReadError, match="reset"):
        mint(relay)
    assert committed(relay)
    assert logged(relay)["status"] is None


def test_commit_then_drop_may_close_politely(relay: Relay) -> None:
    arm(relay, "commit_then_drop", rst=False)
    with pytest.raises(httpx.RemoteProtocolError, match="disconnected"):
        mint(relay)
    assert committed(relay)


def test_commit_then_500(relay: Relay) -> None:
    arm(relay, "commit_then_500")
    refused(mint(relay), 500, "internal_error")
    assert committed(relay)


def test_commit_then_truncate_promises_more_than_it_sends(relay: Relay) -> None:
    arm(relay, "commit_then_truncate")
    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete message"):
        mint(relay)
    assert committed(relay)


def test_commit_then_truncate_may_be_a_whole_message_with_half_a_body(relay: Relay) -> None:
    arm(relay, "commit_then_truncate", framing="short", bytes=20)
    answer = mint(relay)
    assert (answer.status_code, len(answer.content)) == (201, 20)
    with pytest.raises(ValueError, match="Unterminated"):
        answer.json()
    assert committed(relay)


@pytest.mark.parametrize("commit", [False, True])
def test_html_where_json_belongs(relay: Relay, commit: bool) -> None:
    arm(relay, "html", commit=commit)
    answer = mint(relay)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.text.startswith("<!DOCTYPE html>")
    assert committed(relay) is commit


def test_a_redirect_leads_to_another_origin(relay: Relay) -> None:
    arm(relay, "redirect", location="http://127.0.0.1:1/elsewhere", status=307)
    answer = mint(relay)
    assert (answer.status_code, answer.headers["Location"]) == (307, "http://127.0.0.1:1/elsewhere")
    assert not committed(relay)


@pytest.mark.parametrize(("retry_after", "header"), [(7, "7"), (None, None)])
def test_429_with_and_without_retry_after(relay: Relay, retry_after: int | None, header: str | None) -> None:
    arm(relay, "rate_limit", retry_after=retry_after)
    answer = mint(relay)
    refused(answer, 429, "rate_limit_exceeded")
    assert answer.headers.get("Retry-After") == header
    assert not committed(relay)


def test_503_says_whether_it_was_applied(relay: Relay) -> None:
    arm(relay, "unavailable", retry_after=3)
    answer = mint(relay)
    refused(answer, 503, "unavailable")
    assert (answer.headers["X-Not-Applied"], answer.headers["Retry-After"]) == ("1", "3")
    assert not committed(relay)


@pytest.mark.parametrize("commit", [False, True])
def test_503_may_leave_it_open(relay: Relay, commit: bool) -> None:
    arm(relay, "unavailable", not_applied=False, commit=commit)
    answer = mint(relay)
    refused(answer, 503, "unavailable")
    assert "X-Not-Applied" not in answer.headers
    assert committed(relay) is commit


@pytest.mark.parametrize(
    ("status", "code"), [(500, "internal_error"), (502, "upstream_error"), (504, "upstream_timeout")]
)
@pytest.mark.parametrize("commit", [False, True])
def test_server_errors_before_and_after_the_commit(
    relay: Relay, status: int, code: str, commit: bool
) -> None:
    arm(relay, "error", status=status, commit=commit)
    assert refused(mint(relay), status, code)["type"] == "server_error"
    assert committed(relay) is commit


def test_a_slow_body_outlasts_a_read_timeout(relay: Relay) -> None:
    arm(relay, "slow_body", seconds=30)
    with pytest.raises(httpx.ReadTimeout):
        mint(relay, timeout=0.3)
    assert committed(relay)


def test_a_slow_body_is_whole_in_the_end(relay: Relay) -> None:
    arm(relay, "slow_body", seconds=0.4)
    start = time.monotonic()
    assert mint(relay).json()["key"]
    assert time.monotonic() - start >= 0.4


def test_latency_before_the_call_is_read_applies_it_late(relay: Relay) -> None:
    arm(relay, "latency", seconds=2)
    with pytest.raises(httpx.ReadTimeout):
        mint(relay, timeout=0.2)
    assert relay.control.keys() == []
    deadline = time.monotonic() + 10
    while not relay.control.keys():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_latency_after_the_commit_hides_a_key_that_exists(relay: Relay) -> None:
    arm(relay, "latency", seconds=30, when="after")
    with pytest.raises(httpx.ReadTimeout):
        mint(relay, timeout=0.3)
    assert committed(relay)


@pytest.mark.parametrize("when", ["before", "processing"])
def test_a_call_that_a_reset_overtakes_ends_and_leaves_nothing(relay: Relay, when: str) -> None:
    arm(relay, "latency", seconds=60, when=when)
    answers: list[httpx.Response] = []
    waiting = threading.Thread(
        target=lambda: answers.append(mint(relay, headers={"Idempotency-Key": "intent"}))
    )
    waiting.start()
    while not relay.control.faults()[0]["fired"]:
        time.sleep(0.01)
    time.sleep(0.3)
    relay.control.reset()
    waiting.join(10)
    refused(answers[0], 503, "unavailable")
    assert relay.control.keys() == []
    assert mint(relay, headers={"Idempotency-Key": "intent"}).status_code == 201


def test_a_wrong_content_type_on_a_true_answer(relay: Relay) -> None:
    arm(relay, "content_type")
    answer = mint(relay)
    assert (answer.status_code, answer.headers["Content-Type"]) == (201, "text/html; charset=utf-8")
    assert answer.json()["key"]


def test_clock_skew_in_one_answers_date(relay: Relay) -> None:
    arm(relay, "clock_skew", seconds=-3600)

    def off(answer: httpx.Response) -> float:
        return parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()

    assert off(mint(relay)) == pytest.approx(-3600, abs=10)
    assert off(relay.manage("GET", "/keys")) == pytest.approx(0, abs=10)
    relay.control.settings(date_skew_seconds=900)
    assert off(relay.manage("GET", "/keys")) == pytest.approx(900, abs=10)
    assert len(relay.manage("GET", "/keys").headers.get_list("Date")) == 1


@pytest.mark.parametrize(("answer", "status"), [("first", 201), ("second", 409)])
def test_duplicate_delivery_runs_twice_and_answers_once(relay: Relay, answer: str, status: int) -> None:
    arm(relay, "duplicate", answer=answer)
    assert mint(relay).status_code == status
    assert committed(relay)


def test_duplicate_delivery_with_an_idempotency_key_is_harmless(relay: Relay) -> None:
    arm(relay, "duplicate")
    answer = mint(relay, headers={"Idempotency-Key": "intent"})
    assert (answer.status_code, answer.headers["Idempotency-Replayed"]) == (201, "true")
    assert relay.works(answer.json()["key"])


def test_duplicate_delivery_of_a_delete(relay: Relay) -> None:
    key = relay.create()
    relay.control.fault("duplicate", method="DELETE", path="/v1/keys/*")
    assert relay.manage("DELETE", f"/keys/{key['id']}").json()["already_revoked"] is True


def test_an_error_body_that_echoes_the_callers_key(relay: Relay) -> None:
    arm(relay, "echo_key", status=401)
    answer = mint(relay)
    assert answer.status_code == 401
    assert relay.process.management_key in error(answer)["message"]
    assert not committed(relay)


def test_an_error_body_that_echoes_the_new_key(relay: Relay) -> None:
    arm(relay, "echo_key", status=500, commit=True)
    message = error(mint(relay))["message"]
    new = message.split('"key":"')[1][:45]
    assert new.startswith("sk-holysheep-")
    assert relay.works(new)


def test_a_key_that_the_list_shows_late(relay: Relay) -> None:
    arm(relay, "list_lag", seconds=30)
    assert mint(relay).status_code == 201
    assert relay.manage("GET", "/keys").json()["data"] == []
    relay.control.advance(31)
    assert len(relay.manage("GET", "/keys").json()["data"]) == 1


@pytest.mark.parametrize(
    ("node", "first", "second"), [(None, True, True), (0, True, False), (1, False, True)]
)
def test_a_key_that_nodes_refuse_late(relay: Relay, node: int | None, first: bool, second: bool) -> None:
    lagging, other = relay.create(), relay.create()
    relay.control.fault("revoke_lag", method="DELETE", path="/v1/keys/*", seconds=60, lag_node=node)
    for key in (lagging, other):
        assert relay.manage("DELETE", f"/keys/{key['id']}").status_code == 200
    assert relay.works(lagging["key"]) is first
    assert relay.works(lagging["key"], second_node=True) is second
    assert not relay.works(other["key"])
    assert not relay.works(other["key"], second_node=True)
    relay.control.advance(61)
    assert not relay.works(lagging["key"])
    assert not relay.works(lagging["key"], second_node=True)


def test_faults_on_one_call_add_up(relay: Relay) -> None:
    arm(relay, "latency", seconds=0.3)
    arm(relay, "commit_then_500")
    arm(relay, "clock_skew", seconds=7200)
    start = time.monotonic()
    answer = mint(relay)
    assert time.monotonic() - start >= 0.3
    assert answer.status_code == 500
    assert parsedate_to_datetime(answer.headers["Date"]).timestamp() > time.time() + 7000
    assert committed(relay)


def test_the_nth_call_fails_and_its_neighbours_do_not(relay: Relay) -> None:
    relay.control.fault("error", method="GET", path="/v1/keys", nth=2, count=2, status=503)
    assert [relay.manage("GET", "/keys").status_code for _ in range(4)] == [200, 503, 503, 200]
    (fault,) = relay.control.faults()
    assert (fault["matched"], fault["fired"]) == (3, 2)


def test_a_fault_may_stay_until_it_is_cleared(relay: Relay) -> None:
    relay.control.fault("error", count=None)
    assert [relay.manage("GET", "/keys").status_code for _ in range(3)] == [500] * 3
    relay.control.clear_faults()
    assert relay.manage("GET", "/keys").status_code == 200


def test_a_fault_may_hit_one_node_only(relay: Relay) -> None:
    relay.control.fault("refuse", node=1, count=None)
    key = relay.create()["key"]
    assert relay.works(key)
    with pytest.raises(httpx.TransportError):
        relay.chat(key, second_node=True)


def test_faults_do_not_hit_the_control_plane(relay: Relay) -> None:
    relay.control.fault("refuse", count=None)
    assert relay.control.faults()[0]["matched"] == 0


def test_the_relay_goes_on_after_every_kind_of_hang_up(relay: Relay) -> None:
    for number in range(30):
        kind = ("refuse", "close", "commit_then_drop", "commit_then_truncate")[number % 4]
        relay.control.fault(kind, method="POST", path="/v1/keys")
        with pytest.raises(httpx.TransportError):
            relay.manage("POST", "/keys", json={"name": f"vlt-{number}"})
    assert relay.works(relay.create()["key"])
    # refuse and close made nothing, the other two kinds did.
    assert len(relay.control.keys(name_prefix="vlt-")) == 14 + 1
