"""/_sim/: clock, call log, truth, orphans, settings, reset; and what every answer carries."""

from __future__ import annotations

import hashlib
import io
import time
from typing import Any

import httpx
import pytest
from tests.contract.simulator.helpers import Relay, bearer, refused

from aikeys.relay_simulator.account import Account
from aikeys.relay_simulator.app import build_plane


def test_left_alone_the_clock_is_real(relay: Relay) -> None:
    assert relay.control.now() == pytest.approx(time.time(), abs=5)
    assert relay.control.advance(1000) == pytest.approx(time.time() + 1000, abs=5)


@pytest.mark.parametrize("seconds", [-1, "60", None, True])
def test_the_clock_takes_seconds_forward_only(relay: Relay, seconds: Any) -> None:
    answer = httpx.post(f"{relay.process.address}/_sim/clock", json={"advance": seconds}, trust_env=False)
    refused(answer, 400, "invalid_request", "advance")


def test_the_call_log_tells_who_asked_what_and_what_came_of_it(relay: Relay) -> None:
    key = relay.create(idempotency_key="intent-7")
    relay.chat(key["key"], second_node=True)
    refused(relay.manage("GET", "/keys/none?x=1"), 404, "key_not_found")
    first, second, third = relay.control.calls()
    assert (first["method"], first["path"], first["status"], first["node"]) == ("POST", "/v1/keys", 201, 0)
    assert first["idempotency_key"] == "intent-7"
    assert first["principal_id"] == relay.process.management_key_id
    assert first["headers"]["content-type"] == "application/json"
    assert first["time"] == pytest.approx(time.time(), abs=10)
    assert (second["node"], second["principal_id"]) == (1, key["id"])
    assert (third["query"], third["status"]) == ("x=1", 404)
    assert [call["number"] for call in relay.control.calls(since=first["number"])] == [
        second["number"],
        third["number"],
    ]
    assert len(relay.control.calls("GET")) == 1


def test_the_call_log_has_no_secret_wherever_it_was_put(relay: Relay) -> None:
    key = relay.create(signing=True)
    headers = {
        **bearer(key["key"]), "X-Signature": "v2=" + "a" * 64, "Cookie": f"k={key['key']}",
        "Idempotency-Key": key["key"], "X-Odd": key["signing_secret"],
    }  # fmt: skip
    relay.http.get(f"/keys/{key['key']}?key={key['key']}", headers=headers)
    log = str(relay.control.calls())
    for secret in (key["key"], key["signing_secret"], relay.process.management_key, "a" * 64):
        assert secret not in log
    assert "[redacted]" in log


def test_the_truth_has_every_key_its_hash_and_its_use(relay: Relay) -> None:
    live, dead = relay.create(name="vlt-a"), relay.create(name="vlt-b")
    relay.chat(live["key"])
    relay.manage("DELETE", f"/keys/{dead['id']}")
    first, second = relay.control.keys()
    assert first["secret_sha256"] == hashlib.sha256(live["key"].encode()).hexdigest()
    assert (first["data_plane_uses"], second["data_plane_uses"]) == (1, 0)
    assert (first["status"], second["status"]) == ("active", "revoked")
    assert first["created_by"] == relay.process.management_key_id
    assert [key["name"] for key in relay.control.keys(status="revoked")] == ["vlt-b"]
    assert [key["name"] for key in relay.control.keys(name_prefix="vlt-a")] == ["vlt-a"]


def test_orphans_are_live_keys_nobody_knows(relay: Relay) -> None:
    known, named, orphan, dead = (relay.create(name=f"vlt-{n}") for n in ("known", "named", "orphan", "dead"))
    relay.manage("DELETE", f"/keys/{dead['id']}")
    relay.create(name="other")
    found = relay.control.orphans([known["id"], "vlt-named", dead["id"]], name_prefix="vlt-")
    assert [key["id"] for key in found] == [orphan["id"]]
    url = f"{relay.process.address}/_sim/orphans"
    by_query = httpx.get(url, params={"known": f"{known['id']},{named['id']}", "name_prefix": "vlt-"}).json()
    assert [key["id"] for key in by_query["orphans"]] == [orphan["id"]]
    assert (by_query["count"], by_query["live"]) == (1, 3)
    bare_list = httpx.post(url, json=[known["id"], dead["id"]]).json()
    assert bare_list["count"] == 3
    assert bare_list["known_not_live"] == [dead["id"]]


def test_a_disabled_or_retiring_key_is_an_orphan_too(relay: Relay) -> None:
    disabled, retiring = relay.create(), relay.create()
    relay.manage("PATCH", f"/keys/{disabled['id']}", json={"disabled": True})
    relay.manage("DELETE", f"/keys/{retiring['id']}?grace_period_seconds=60")
    assert {key["status"] for key in relay.control.orphans([])} == {"disabled", "retiring"}
    relay.control.advance(61)
    assert {key["status"] for key in relay.control.orphans([])} == {"disabled"}


def test_a_list_of_known_ids_may_be_long(relay: Relay) -> None:
    orphan = relay.create()
    known = [f"key_{number:026d}" for number in range(30_000)]
    assert [key["id"] for key in relay.control.orphans(known)] == [orphan["id"]]


def test_an_unknown_setting_is_refused_and_changes_nothing(relay: Relay) -> None:
    before = relay.control.settings()
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        relay.control.settings(max_live_keys=5, nonsense=1)
    assert relay.control.settings() == before


def test_a_reset_is_a_fresh_start_with_the_same_management_key(relay: Relay) -> None:
    key = relay.create(name="vlt-x", idempotency_key="intent")
    relay.control.advance(5000)
    relay.control.settings(max_live_keys=1)
    relay.control.fault("refuse", count=None)
    relay.control.reset()
    assert relay.control.keys() == []
    assert relay.control.calls() == []
    assert relay.control.faults() == []
    assert relay.control.now() == pytest.approx(time.time(), abs=5)
    assert relay.control.settings()["max_live_keys"] == 1000
    again = relay.create(name="vlt-x", idempotency_key="intent")
    assert again["id"] != key["id"]
    assert relay.manage("GET", "/auth/verify").json()["id"] == relay.process.management_key_id


RATE_HEADERS = [
    f"X-RateLimit-{part}-{what}"
    for what in ("Requests", "Tokens")
    for part in ("Limit", "Remaining", "Reset")
]


def test_every_answer_names_its_request_and_the_rates(relay: Relay) -> None:
    key = relay.create()["key"]
    answers = [
        relay.manage("GET", "/keys"),
        relay.manage("DELETE", "/keys/none"),
        relay.chat(key),
        relay.chat("sk-holysheep-" + "A" * 32),
        relay.http.get("/healthz"),
        relay.http.get("/nowhere"),
    ]
    assert [answer.status_code for answer in answers] == [200, 404, 200, 401, 200, 404]
    for answer in answers:
        assert answer.headers["Content-Type"] == "application/json"
        assert all(answer.headers[name].isdigit() for name in RATE_HEADERS)
        if answer.status_code >= 400:
            body = answer.json()["error"]
            assert set(body) == {"code", "message", "type", "param", "request_id"}
            assert body["request_id"] == answer.headers["X-Request-Id"]
    assert len({answer.headers["X-Request-Id"] for answer in answers}) == len(answers)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nowhere"), ("PUT", "/keys"), ("DELETE", "/keys"), ("GET", "/keys/"), ("GET", "//keys"),
        ("OPTIONS", "/keys"), ("POST", "/models"), ("GET", "/keys/a/b"),
    ],
)  # fmt: skip
def test_what_has_no_route_is_not_found_and_never_redirected(relay: Relay, method: str, path: str) -> None:
    answer = httpx.request(
        method, relay.process.base_url + path, headers=bearer(relay.process.management_key), trust_env=False
    )
    refused(answer, 404, "not_found")


def test_literal_paths_win_over_ids(relay: Relay) -> None:
    key = relay.create(permissions=["chat", "keys:rotate_self"])["key"]
    assert relay.http.get("/keys/validate", headers=bearer(key)).json()["valid"] is True
    assert relay.http.post("/keys/rotate", headers=bearer(key)).status_code == 201


def test_the_control_plane_is_for_this_machine_only() -> None:
    account = Account(management_key="sk-holysheep-admin-test")
    plane = build_plane(account, control=True)

    def status(remote: str) -> str:
        environ = {
            "REQUEST_METHOD": "GET", "RAW_URI": "/_sim/keys", "PATH_INFO": "/_sim/keys", "SCRIPT_NAME": "",
            "QUERY_STRING": "", "SERVER_NAME": "relay", "SERVER_PORT": "80", "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": remote, "wsgi.url_scheme": "http", "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(), "wsgi.version": (1, 0), "wsgi.multithread": True,
            "wsgi.multiprocess": False, "wsgi.run_once": False,
        }  # fmt: skip
        seen: list[str] = []
        list(plane(environ, lambda status, headers, exc_info=None: seen.append(status)))
        return seen[0][:3]

    assert status("127.0.0.1") == "200"
    assert status("::1") == "200"
    assert status("10.0.0.7") == "404"
