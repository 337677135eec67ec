"""PATCH, rotate, DELETE: what a key becomes, and that its lineage pays for all of it."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from tests.contract.simulator.helpers import Relay, bearer, refused


def patch(
    relay: Relay, key: dict[str, Any], headers: dict[str, str] | None = None, **fields: Any
) -> dict[str, Any]:
    answer = relay.manage("PATCH", f"/keys/{key['id']}", json=fields, headers=headers or {})
    assert answer.status_code == 200, answer.text
    patched: dict[str, Any] = answer.json()
    return patched


def rotate(relay: Relay, key_id: str, **fields: Any) -> dict[str, Any]:
    answer = relay.manage("POST", f"/keys/{key_id}/rotate", json=fields)
    assert answer.status_code == 201, answer.text
    rotated: dict[str, Any] = answer.json()
    return rotated


def test_patch_changes_limits_expiry_and_metadata_and_the_etag(relay: Relay) -> None:
    key = relay.create(expires_in=60, metadata={"a": "1"})
    patched = patch(
        relay, key, rate_limit=5, max_tpm=9, budget={"limit": "1.50"}, expires_in=600, metadata={"b": "2"}
    )
    assert (patched["rate_limit"], patched["max_tpm"], patched["metadata"]) == (5, 9, {"b": "2"})
    assert patched["budget"]["limit"] == "1.50"
    assert patched["expires_at"] >= key["expires_at"] + 539
    assert patched["etag"] != key["etag"]
    cleared = patch(relay, key, rate_limit=None, budget=None, expires_at=None)
    assert (cleared["rate_limit"], cleared["budget"], cleared["expires_at"]) == (None, None, None)


def test_a_longer_expiry_outlives_the_old_one_and_a_shorter_one_comes_first(relay: Relay) -> None:
    longer, shorter = relay.create(expires_in=60), relay.create(expires_in=600)
    patch(relay, longer, expires_in=600)
    patch(relay, shorter, expires_in=60)
    relay.control.advance(61)
    assert relay.works(longer["key"])
    assert not relay.works(shorter["key"])


def test_use_does_not_change_the_etag(relay: Relay) -> None:
    key = relay.create()
    relay.chat(key["key"])
    assert relay.get(key["id"])["etag"] == key["etag"]


def test_if_match_guards_against_a_lost_update(relay: Relay) -> None:
    key = relay.create()
    for given in (f'"{key["etag"]}"', "*"):
        key = patch(relay, key, {"If-Match": given}, rate_limit=5)
    stale = key["etag"]
    patch(relay, key, rate_limit=6)
    answer = relay.manage(
        "PATCH", f"/keys/{key['id']}", json={"rate_limit": 7}, headers={"If-Match": f'"{stale}"'}
    )
    refused(answer, 412, "etag_mismatch")
    assert relay.get(key["id"])["rate_limit"] == 6


def test_patch_does_not_widen_what_a_key_may_do(relay: Relay) -> None:
    key = relay.create(permissions=["models"])
    refused(relay.manage("PATCH", f"/keys/{key['id']}", json={"permissions": ["chat"]}), 400, "unknown_field")


def test_a_disabled_key_is_refused_until_it_is_enabled(relay: Relay) -> None:
    key = relay.create()
    assert patch(relay, key, disabled=True)["status"] == "disabled"
    assert not relay.works(key["key"])
    assert patch(relay, key, disabled=False)["status"] == "active"
    assert relay.works(key["key"])


@pytest.mark.parametrize("end", ["revoked", "expired"])
def test_nothing_is_written_to_a_dead_key(relay: Relay, end: str) -> None:
    key = relay.create(expires_in=60)
    if end == "revoked":
        relay.manage("DELETE", f"/keys/{key['id']}")
    else:
        relay.control.advance(60)
    assert relay.get(key["id"])["status"] == end
    for method, path in (("PATCH", f"/keys/{key['id']}"), ("POST", f"/keys/{key['id']}/rotate")):
        refused(relay.manage(method, path, json={}), 409, "key_revoked")


def test_rotation_gives_a_new_id_and_both_keys_work_within_the_grace(relay: Relay) -> None:
    old = relay.create(
        name="vlt-r", permissions=["chat"], rate_limit=50, expires_in=3600, metadata={"a": "1"}, team_id="red"
    )
    new = rotate(relay, old["id"], grace_period_seconds=120)
    assert new["id"] != old["id"]
    assert new["previous_id"] == old["id"]
    assert new["key"] == new["new_api_key"] != old["key"]
    inherited = ("name", "permissions", "rate_limit", "expires_at", "metadata", "team_id", "lineage_id")
    assert {name: new[name] for name in inherited} == {name: old[name] for name in inherited}
    retiring = relay.get(old["id"])
    assert (retiring["status"], retiring["retires_at"]) == ("retiring", new["previous_expires_at"])
    assert new["previous_expires_at"] == pytest.approx(relay.control.now() + 120, abs=5)
    assert relay.works(old["key"])
    assert relay.works(new["key"])
    assert relay.get("vlt-r")["id"] == new["id"]
    relay.control.advance(121)
    assert not relay.works(old["key"])
    assert relay.works(new["key"])
    assert relay.get(old["id"])["status"] == "expired"


@pytest.mark.parametrize("sent", [b"", b'{"gra'], ids=["nothing", "a part"])
def test_a_body_that_ends_early_changes_nothing(relay: Relay, sent: bytes) -> None:
    key = relay.create()
    head = (
        f"POST /v1/keys/{key['id']}/rotate HTTP/1.1\r\nHost: relay\r\nContent-Length: 40\r\n"
        f"Authorization: Bearer {relay.process.management_key}\r\nContent-Type: application/json\r\n\r\n"
    )
    with socket.create_connection(relay.socket_address, timeout=10) as connection:
        connection.sendall(head.encode() + sent)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(12) == b"HTTP/1.1 400"
    assert relay.get(key["id"])["status"] == "active"


def test_the_grace_is_five_minutes_unless_told(relay: Relay) -> None:
    old = relay.create()
    assert rotate(relay, old["id"])["previous_expires_at"] == pytest.approx(relay.control.now() + 300, abs=5)


def test_without_grace_the_old_key_is_refused_at_once(relay: Relay) -> None:
    old = relay.create()
    new = rotate(relay, old["id"], grace_period_seconds=0)
    assert not relay.works(old["key"])
    assert relay.works(new["key"])
    assert relay.get(old["id"])["status"] == "revoked"


def test_a_grace_does_not_outlast_the_old_keys_own_expiry(relay: Relay) -> None:
    old = relay.create(expires_in=60)
    new = rotate(relay, old["id"], grace_period_seconds=600, expires_in=3600)
    assert new["previous_expires_at"] == old["expires_at"]
    relay.control.advance(61)
    assert not relay.works(old["key"])
    assert relay.works(new["key"])


def test_a_second_rotation_of_one_key_names_its_successor(relay: Relay) -> None:
    old = relay.create()
    new = rotate(relay, old["id"])
    found = refused(relay.manage("POST", f"/keys/{old['id']}/rotate", json={}), 409, "already_rotated")
    assert found["successor_id"] == new["id"]
    assert rotate(relay, new["id"])["lineage_id"] == old["lineage_id"]


def test_a_rotation_may_take_another_name_that_is_free(relay: Relay) -> None:
    old, other = relay.create(name="one"), relay.create(name="two")
    answer = relay.manage("POST", f"/keys/{old['id']}/rotate", json={"name": "two"})
    assert refused(answer, 409, "name_conflict")["existing_id"] == other["id"]
    assert rotate(relay, old["id"], name="three")["name"] == "three"
    assert relay.get("one")["id"] == old["id"]


@pytest.mark.parametrize("grace", [-1, 86_401, "60", 1.5])
def test_an_impossible_grace_is_refused(relay: Relay, grace: object) -> None:
    key = relay.create()
    answer = relay.manage("POST", f"/keys/{key['id']}/rotate", json={"grace_period_seconds": grace})
    refused(answer, 400, "invalid_request", "grace_period_seconds")
    refused(
        relay.manage("DELETE", f"/keys/{key['id']}?grace_period_seconds={grace}x"), 400, "invalid_request"
    )
    assert relay.works(key["key"])


def test_rotation_doubles_neither_rate_nor_tokens_nor_money(relay: Relay) -> None:
    key = relay.create(rate_limit=3, budget={"limit": "0.000100"})
    assert relay.chat(key["key"], max_tokens=5).status_code == 200  # 8 * 2 + 5 * 8 = 56 millionths
    new = rotate(relay, key["id"], grace_period_seconds=60)
    assert new["budget"]["spent"] == "0.000056"
    refused(relay.chat(new["key"], max_tokens=5), 402, "budget_exceeded")
    assert relay.chat(new["key"]).status_code == 200
    refused(relay.chat(new["key"]), 429, "rate_limit_exceeded")
    refused(relay.chat(key["key"]), 429, "rate_limit_exceeded")


def test_delete_is_final_and_repeatable(relay: Relay) -> None:
    key = relay.create()
    first = relay.manage("DELETE", f"/keys/{key['id']}").json()
    assert first == {
        "id": key["id"], "object": "api_key.deleted", "deleted": True, "revoked_at": first["revoked_at"],
        "already_revoked": False, "effective_within_ms": 500,
    }  # fmt: skip
    assert not relay.works(key["key"])
    assert relay.get(key["id"])["etag"] != key["etag"]
    relay.control.advance(100)
    again = relay.manage("DELETE", f"/keys/{key['id']}").json()
    assert again == {**first, "already_revoked": True}
    assert relay.get(key["id"])["revoked_at"] == first["revoked_at"]
    refused(relay.manage("DELETE", "/keys/key_01ARZ3NDEKTSV4RRFFQ69G5FAV"), 404, "key_not_found")


def test_deleting_what_expired_says_it_is_over(relay: Relay) -> None:
    key = relay.create(expires_in=60)
    relay.control.advance(60)
    answer = relay.manage("DELETE", f"/keys/{key['id']}").json()
    assert (answer["deleted"], answer["already_revoked"], answer["revoked_at"]) == (
        True,
        True,
        key["expires_at"],
    )
    assert relay.get(key["id"])["status"] == "expired"


def test_delete_with_grace_revokes_when_it_ends(relay: Relay) -> None:
    key = relay.create()
    answer = relay.manage("DELETE", f"/keys/{key['id']}?grace_period_seconds=60").json()
    assert answer["already_revoked"] is False
    assert relay.get(key["id"])["status"] == "retiring"
    assert relay.works(key["key"])
    refused(relay.manage("POST", f"/keys/{key['id']}/rotate", json={}), 409, "key_revoked")
    relay.control.advance(61)
    assert not relay.works(key["key"])
    read = relay.get(key["id"])
    assert (read["status"], read["revoked_at"]) == ("revoked", answer["revoked_at"])


def test_a_longer_grace_does_not_give_a_retiring_key_more_time(relay: Relay) -> None:
    deleted, rotated = relay.create(), relay.create()
    relay.manage("DELETE", f"/keys/{deleted['id']}?grace_period_seconds=60")
    rotate(relay, rotated["id"], grace_period_seconds=60)
    for key in (deleted, rotated):
        relay.manage("DELETE", f"/keys/{key['id']}?grace_period_seconds=600")
    relay.control.advance(61)
    for key in (deleted, rotated):
        assert relay.get(key["id"])["status"] == "revoked"
        assert not relay.works(key["key"])


def test_deleting_at_once_ends_a_grace(relay: Relay) -> None:
    key = relay.create()
    relay.manage("DELETE", f"/keys/{key['id']}?grace_period_seconds=600")
    relay.manage("DELETE", f"/keys/{key['id']}")
    assert not relay.works(key["key"])


def test_deleting_one_key_of_a_lineage_leaves_the_other(relay: Relay) -> None:
    old = relay.create(name="vlt-r")
    new = rotate(relay, old["id"])
    relay.manage("DELETE", f"/keys/{new['id']}")
    assert relay.works(old["key"])
    assert not relay.works(new["key"])
    assert relay.get("vlt-r")["id"] == old["id"]
    refused(relay.manage("POST", "/keys", json={"name": "vlt-r"}), 409, "name_conflict")


def test_a_key_may_rotate_itself_only_when_it_was_allowed_to(relay: Relay) -> None:
    plain = relay.create()
    refused(relay.http.post("/keys/rotate", headers=bearer(plain["key"])), 403, "insufficient_scope")
    key = relay.create(permissions=["chat", "keys:rotate_self"])
    answer = relay.http.post("/keys/rotate", headers=bearer(key["key"]), json={"grace_period_seconds": 0})
    assert answer.status_code == 201
    assert not relay.works(key["key"])
    assert relay.works(answer.json()["key"])
    refused(relay.http.post("/keys/rotate", headers=bearer(key["key"])), 401, "invalid_api_key")


def test_refresh_is_a_rotation_without_grace_for_a_key_that_still_works(relay: Relay) -> None:
    key = relay.create(permissions=["chat", "keys:rotate_self"], expires_in=600)
    answer = relay.http.post("/auth/refresh", headers=bearer(key["key"])).json()
    assert set(answer) == {"access_token", "token_type", "expires_in", "id", "previous_id"}
    assert (answer["token_type"], answer["previous_id"]) == ("Bearer", key["id"])
    assert answer["expires_in"] == pytest.approx(600, abs=5)
    assert not relay.works(key["key"])
    assert relay.works(answer["access_token"])
    refused(relay.http.post("/auth/refresh", headers=bearer(key["key"])), 401, "invalid_api_key")
