"""Who may do what: management keys, their scopes and bounds, and what a key learns about itself."""

from __future__ import annotations

import pytest
from tests.contract.simulator.helpers import Relay, bearer, refused


@pytest.mark.parametrize("header", [None, "", "Bearer", "Basic dTpw", "sk-holysheep-x"])
def test_a_call_without_a_key_is_told_so(relay: Relay, header: str | None) -> None:
    answer = relay.http.get("/keys", headers={} if header is None else {"Authorization": header})
    assert refused(answer, 401, "missing_api_key")["type"] == "authentication_error"
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_an_unknown_management_key_is_refused(relay: Relay) -> None:
    refused(relay.manage("GET", "/keys", key="sk-holysheep-admin-" + "A" * 32), 401, "invalid_api_key")


SCOPED = [
    ("GET", "/keys", "keys:read"),
    ("GET", "/keys/vlt-x", "keys:read"),
    ("GET", "/keys/vlt-x/metadata", "keys:read"),
    ("POST", "/keys", "keys:write"),
    ("PATCH", "/keys/vlt-x", "keys:write"),
    ("POST", "/keys/vlt-x/rotate", "keys:write"),
    ("DELETE", "/keys/vlt-x", "keys:write"),
    ("GET", "/usage", "usage:read"),
    ("POST", "/management/rotate", "mgmt:rotate"),
]


@pytest.mark.parametrize(("method", "path", "scope"), SCOPED)
def test_a_scope_opens_its_own_doors_only(relay: Relay, method: str, path: str, scope: str) -> None:
    others = sorted({scope for _, _, scope in SCOPED} - {scope})
    without = relay.control.management_key(scopes=others)["key"]
    refused(relay.manage(method, path, key=without), 403, "insufficient_scope")
    with_it = relay.control.management_key(scopes=[scope])["key"]
    assert relay.manage(method, path, key=with_it).status_code != 403


@pytest.mark.parametrize(("method", "path", "scope"), SCOPED)
def test_a_data_key_manages_nothing(relay: Relay, method: str, path: str, scope: str) -> None:
    key = relay.create()["key"]
    answer = relay.manage(method, path, key=key)
    if path.endswith("/metadata"):
        refused(answer, 404, "key_not_found")
    else:
        refused(answer, 403, "insufficient_scope")


def test_a_management_key_calls_no_models(relay: Relay) -> None:
    management = relay.process.management_key
    answers = [
        relay.chat(management),
        relay.http.post("/embeddings", headers=bearer(management), json={}),
        relay.http.get("/models", headers=bearer(management)),
        relay.http.get("/keys/validate", headers=bearer(management)),
    ]
    for answer in answers:
        assert refused(answer, 403, "management_key_not_allowed")["type"] == "permission_error"


def test_what_lies_outside_a_name_prefix_does_not_exist(relay: Relay) -> None:
    bound = relay.control.management_key(name_prefix="vlt-a-")["key"]
    foreign = relay.create(name="vlt-b-1")
    mine = relay.manage("POST", "/keys", key=bound, json={"name": "vlt-a-1"}).json()
    for reference in (foreign["id"], "vlt-b-1"):
        for method, path in (
            ("GET", ""),
            ("PATCH", ""),
            ("DELETE", ""),
            ("POST", "/rotate"),
            ("GET", "/metadata"),
        ):
            refused(relay.manage(method, f"/keys/{reference}{path}", key=bound), 404, "key_not_found")
    assert [key["id"] for key in relay.manage("GET", "/keys", key=bound).json()["data"]] == [mine["id"]]
    refused(
        relay.manage("POST", "/keys", key=bound, json={"name": "vlt-b-2"}), 403, "insufficient_scope", "name"
    )
    answer = relay.manage("POST", f"/keys/{mine['id']}/rotate", key=bound, json={"name": "vlt-b-2"})
    refused(answer, 403, "insufficient_scope", "name")
    assert relay.works(foreign["key"])


def test_what_belongs_to_another_team_does_not_exist(relay: Relay) -> None:
    bound = relay.control.management_key(team_id="red")["key"]
    foreign = relay.create(name="taken", team_id="blue")
    mine = relay.manage("POST", "/keys", key=bound, json={"name": "mine"}).json()
    assert mine["team_id"] == "red"
    refused(relay.manage("DELETE", f"/keys/{foreign['id']}", key=bound), 404, "key_not_found")
    assert [key["id"] for key in relay.manage("GET", "/keys", key=bound).json()["data"]] == [mine["id"]]
    answer = relay.manage("POST", "/keys", key=bound, json={"name": "x", "team_id": "blue"})
    refused(answer, 403, "insufficient_scope", "team_id")
    conflict = refused(relay.manage("POST", "/keys", key=bound, json={"name": "taken"}), 409, "name_conflict")
    assert "existing_id" not in conflict
    relay.chat(foreign["key"])
    assert relay.manage("GET", "/usage", key=bound).json()["data"] == []


def test_validate_says_what_is_left(relay: Relay) -> None:
    key = relay.create(
        rate_limit=5, max_tpm=100, budget={"limit": "1.00"}, expires_in=600, permissions=["chat"]
    )
    relay.chat(key["key"])
    answer = relay.http.get("/keys/validate", headers=bearer(key["key"]))
    body = answer.json()
    assert body.pop("rate_limit") == {"limit": 5, "remaining": 4, "reset": pytest.approx(60, abs=2)}
    assert body == {
        "valid": True, "id": key["id"], "name": key["name"], "status": "active", "permissions": ["chat"],
        "allowed_models": [], "remaining_quota": 91, "remaining_budget": "0.999976",
        "expires_at": key["expires_at"],
    }  # fmt: skip
    refused(
        relay.http.get("/keys/validate", headers=bearer("sk-holysheep-" + "A" * 32)), 401, "invalid_api_key"
    )


def test_validate_costs_no_request(relay: Relay) -> None:
    key = relay.create(rate_limit=1)["key"]
    for _ in range(3):
        assert relay.http.get("/keys/validate", headers=bearer(key)).status_code == 200
    assert relay.chat(key).status_code == 200


def test_a_key_without_tokens_left_is_still_valid(relay: Relay) -> None:
    key = relay.create(max_tpm=9)["key"]
    relay.chat(key)
    body = relay.http.get("/keys/validate", headers=bearer(key)).json()
    assert (body["valid"], body["remaining_quota"]) == (True, 0)


def test_verify_tells_the_kind_and_the_scopes(relay: Relay) -> None:
    bound = relay.control.management_key(scopes=["keys:read"], team_id="red", name_prefix="vlt-")
    answer = relay.http.get("/auth/verify", headers=bearer(bound["key"])).json()
    assert answer == {
        "valid": True, "kind": "management", "id": bound["id"], "name": None, "scopes": ["keys:read"],
        "team_id": "red", "name_prefix": "vlt-", "expires_at": None,
    }  # fmt: skip
    key = relay.create(permissions=["chat"])
    answer = relay.http.get("/auth/verify", headers=bearer(key["key"])).json()
    assert (answer["kind"], answer["id"], answer["scopes"]) == ("data", key["id"], ["chat"])
    relay.manage("DELETE", f"/keys/{key['id']}")
    refused(relay.http.get("/auth/verify", headers=bearer(key["key"])), 401, "invalid_api_key")


def test_the_first_management_key_has_the_id_the_process_told(relay: Relay) -> None:
    answer = relay.manage("GET", "/auth/verify").json()
    assert answer["id"] == relay.process.management_key_id


def test_management_rotation_hands_over_within_five_minutes(relay: Relay) -> None:
    old = relay.control.management_key(scopes=["keys:read", "mgmt:rotate"], name_prefix="vlt-")
    answer = relay.manage("POST", "/management/rotate", key=old["key"])
    assert answer.status_code == 201
    new = answer.json()
    assert set(new) == {"key", "id", "previous_id", "previous_expires_at"}
    assert new["previous_id"] == old["id"]
    assert new["previous_expires_at"] == pytest.approx(relay.control.now() + 300, abs=5)
    rights = relay.manage("GET", "/auth/verify", key=new["key"]).json()
    assert (rights["scopes"], rights["name_prefix"]) == (["keys:read", "mgmt:rotate"], "vlt-")
    again = refused(relay.manage("POST", "/management/rotate", key=old["key"]), 409, "already_rotated")
    assert again["successor_id"] == new["id"]
    assert relay.manage("GET", "/keys", key=old["key"]).status_code == 200
    relay.control.advance(301)
    refused(relay.manage("GET", "/keys", key=old["key"]), 401, "invalid_api_key")
    assert relay.manage("GET", "/keys", key=new["key"]).status_code == 200


def test_the_management_plane_takes_a_burst_and_then_one_a_second(relay: Relay) -> None:
    relay.control.settings(management_rpm=60, management_burst=20)
    answers = [relay.manage("GET", "/keys") for _ in range(22)]
    assert [answer.status_code for answer in answers[:20]] == [200] * 20
    assert answers[0].headers["X-RateLimit-Limit-Requests"] == "60"
    assert answers[0].headers["X-RateLimit-Remaining-Requests"] == "19"
    refused(answers[21], 429, "rate_limit_exceeded")
    assert answers[21].headers["Retry-After"] == "1"
    relay.control.advance(2)
    assert relay.manage("GET", "/keys").status_code == 200


def test_a_rate_limited_mint_is_not_applied(relay: Relay) -> None:
    relay.control.settings(management_rpm=1, management_burst=1)
    assert relay.manage("GET", "/keys").status_code == 200
    refused(relay.manage("POST", "/keys", json={"name": "vlt-x"}), 429, "rate_limit_exceeded")
    assert relay.control.keys() == []


def test_each_management_key_has_its_own_rate_and_a_rotation_keeps_it(relay: Relay) -> None:
    relay.control.settings(management_rpm=1, management_burst=1)
    first, second = relay.control.management_key(), relay.control.management_key()
    rotated = relay.manage("POST", "/management/rotate", key=first["key"]).json()
    refused(relay.manage("GET", "/keys", key=rotated["key"]), 429, "rate_limit_exceeded")
    assert relay.manage("GET", "/keys", key=second["key"]).status_code == 200
