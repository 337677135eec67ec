"""Idempotency keys: one intent, at most one key, whatever the network does."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import pytest
from tests.contract.simulator.helpers import Relay, refused

IDEMPOTENT = {"Idempotency-Key": "intent-1"}


def mint(relay: Relay, headers: dict[str, str] | None = None, **fields: Any) -> httpx.Response:
    return relay.manage("POST", "/keys", json={"name": "vlt-i", **fields}, headers=headers or IDEMPOTENT)


def test_the_same_request_is_answered_again_and_makes_nothing(relay: Relay) -> None:
    first, second = mint(relay), mint(relay)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json()
    assert "Idempotency-Replayed" not in first.headers
    assert second.headers["Idempotency-Replayed"] == "true"
    assert len(relay.control.keys()) == 1


def test_the_order_of_fields_and_white_space_do_not_count(relay: Relay) -> None:
    headers = {**IDEMPOTENT, "Content-Type": "application/json"}
    for body in (b'{"name":"vlt-i","team_id":"red"}', b'{ "team_id": "red",\n "name": "vlt-i" }'):
        assert relay.manage("POST", "/keys", content=body, headers=headers).status_code == 201
    assert len(relay.control.keys()) == 1


def test_another_body_under_the_same_key_is_refused(relay: Relay) -> None:
    mint(relay)
    refused(mint(relay, rate_limit=5), 422, "idempotency_key_reused", "Idempotency-Key")
    refused(mint(relay, nonsense=True), 422, "idempotency_key_reused")
    assert len(relay.control.keys()) == 1


def test_the_secret_is_replayed_for_ten_minutes_and_then_never_again(relay: Relay) -> None:
    first = mint(relay, signing=True).json()
    relay.control.advance(595)
    assert mint(relay, signing=True).json()["key"] == first["key"]
    relay.control.advance(10)
    for _ in range(2):
        late = mint(relay, signing=True)
        assert late.status_code == 200
        body = late.json()
        assert (body["id"], body["key_available"]) == (first["id"], False)
        assert (body["key"], body["api_key"], body["signing_secret"]) == (None, None, None)
        assert first["key"] not in late.text
        assert late.headers["Idempotency-Replayed"] == "true"


def test_a_record_lives_for_a_day(relay: Relay) -> None:
    first = mint(relay, expires_in=60).json()
    relay.control.advance(86_400 - 5)
    assert mint(relay, expires_in=60).json()["id"] == first["id"]
    relay.control.advance(10)
    assert mint(relay, expires_in=60).json()["id"] != first["id"]


def test_a_refused_request_is_not_recorded(relay: Relay) -> None:
    refused(mint(relay, rate_limit=0), 400, "invalid_request")
    assert mint(relay).status_code == 201


def test_a_failure_before_the_commit_is_not_recorded(relay: Relay) -> None:
    relay.control.fault("error", method="POST", path="/v1/keys", status=500)
    assert mint(relay).status_code == 500
    assert relay.control.keys() == []
    answer = mint(relay)
    assert answer.status_code == 201
    assert "Idempotency-Replayed" not in answer.headers


@pytest.mark.parametrize("kind", ["commit_then_500", "commit_then_drop", "commit_then_truncate"])
def test_an_answer_that_was_lost_after_the_commit_is_replayed(relay: Relay, kind: str) -> None:
    relay.control.fault(kind, method="POST", path="/v1/keys")
    try:
        assert mint(relay).status_code == 500
    except httpx.TransportError:
        assert kind != "commit_then_500"
    (truth,) = relay.control.keys()
    answer = mint(relay)
    assert (answer.status_code, answer.headers["Idempotency-Replayed"]) == (201, "true")
    assert answer.json()["id"] == truth["id"]
    assert relay.works(answer.json()["key"])


def test_a_request_that_still_runs_says_so(relay: Relay) -> None:
    relay.control.fault("latency", method="POST", path="/v1/keys", seconds=1.5, when="processing")
    answers: list[httpx.Response] = []
    running = threading.Thread(target=lambda: answers.append(mint(relay)))
    running.start()
    while not relay.control.faults()[0]["fired"]:
        time.sleep(0.01)
    time.sleep(0.3)  # from the fault's first sight of the call to the moment it is admitted and waits
    answer = mint(relay)
    refused(answer, 409, "idempotency_in_progress")
    assert int(answer.headers["Retry-After"]) >= 1
    refused(mint(relay, rate_limit=5), 422, "idempotency_key_reused")
    running.join()
    assert answers[0].status_code == 201
    assert mint(relay).json() == answers[0].json()


def test_equal_requests_at_once_make_one_key(relay: Relay) -> None:
    statuses: list[int] = []
    start = threading.Barrier(20)

    def send() -> None:
        start.wait()
        statuses.append(mint(relay).status_code)

    threads = [threading.Thread(target=send) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {201, 409}
    assert len(relay.control.keys()) == 1


def test_the_scope_is_the_management_key_and_the_path(relay: Relay) -> None:
    other = relay.control.management_key()["key"]
    assert mint(relay, name="one").status_code == 201
    answer = relay.manage("POST", "/keys", key=other, json={"name": "two"}, headers=IDEMPOTENT)
    assert answer.status_code == 201
    first, second = relay.get("one"), relay.get("two")
    for key in (first, second):
        rotated = relay.manage("POST", f"/keys/{key['id']}/rotate", json={}, headers=IDEMPOTENT)
        assert rotated.json()["previous_id"] == key["id"]


def test_rotations_are_idempotent_too(relay: Relay) -> None:
    key = relay.create()
    path = f"/keys/{key['id']}/rotate"
    first = relay.manage("POST", path, json={}, headers=IDEMPOTENT)
    second = relay.manage("POST", path, json={}, headers=IDEMPOTENT)
    assert first.json() == second.json()
    relay.control.advance(601)
    late = relay.manage("POST", path, json={}, headers=IDEMPOTENT).json()
    assert (late["key"], late["new_api_key"], late["key_available"]) == (None, None, False)
    refused(
        relay.manage("POST", path, json={}, headers={"Idempotency-Key": "intent-2"}), 409, "already_rotated"
    )


def test_the_management_rotation_is_idempotent_too(relay: Relay) -> None:
    key = relay.control.management_key()["key"]
    first = relay.manage("POST", "/management/rotate", key=key, headers=IDEMPOTENT)
    second = relay.manage("POST", "/management/rotate", key=key, headers=IDEMPOTENT)
    assert first.json() == second.json()
    assert second.headers["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize("token", ["", "x" * 256, "a b", "a\tb"])
def test_an_idempotency_key_is_visible_ascii(relay: Relay, token: str) -> None:
    refused(mint(relay, {"Idempotency-Key": token}), 400, "invalid_request", "Idempotency-Key")
    assert mint(relay, {"Idempotency-Key": "x" * 255}).status_code == 201


def test_without_an_idempotency_key_the_unique_name_is_the_net(relay: Relay) -> None:
    relay.control.fault("duplicate", method="POST", path="/v1/keys")
    answer = relay.manage("POST", "/keys", json={"name": "vlt-i"})
    (truth,) = relay.control.keys()
    assert refused(answer, 409, "name_conflict")["existing_id"] == truth["id"]
