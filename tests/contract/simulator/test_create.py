"""POST /keys: what a new key is, and what is refused before one exists."""

from __future__ import annotations

import hashlib
import re
import time
from typing import Any

import pytest
from tests.contract.simulator.helpers import Relay, refused

KEY_FIELDS = {
    "id", "object", "name", "hint", "team_id", "permissions", "allowed_models", "rate_limit", "max_tpm", "budget",
    "status", "disabled", "created_at", "expires_at", "last_used_at", "retires_at", "revoked_at", "lineage_id",
    "previous_id", "auto_rotate", "rotation_interval", "metadata", "etag",
}  # fmt: skip


def test_a_new_key_shows_its_secret_once_and_works(relay: Relay) -> None:
    created = relay.create(team_id="team-a", permissions=["chat"], metadata={"role": "demo"})
    assert re.fullmatch(r"sk-holysheep-[A-Za-z0-9]{32}", created["key"])
    assert created["api_key"] == created["key"]
    assert re.fullmatch(r"key_[0-9A-HJKMNP-TV-Z]{26}", created["id"])
    assert created["hint"].startswith(created["key"][:17])
    assert created["hint"].endswith(created["key"][-4:])
    assert relay.works(created["key"])
    read = relay.get(created["id"])
    assert set(read) == KEY_FIELDS
    assert set(created) == KEY_FIELDS | {"key", "api_key"}
    assert created["key"] not in str(read)


def test_the_relay_keeps_only_a_hash_of_the_secret(relay: Relay) -> None:
    created = relay.create()
    truth = relay.control.keys()
    assert [key["secret_sha256"] for key in truth] == [hashlib.sha256(created["key"].encode()).hexdigest()]
    assert created["key"] not in str(truth)


def test_every_field_is_kept(relay: Relay) -> None:
    fields: dict[str, Any] = {
        "team_id": "team-a",
        "permissions": ["chat", "embeddings"],
        "allowed_models": ["gpt-4.1", "claude-*"],
        "rate_limit": 7,
        "max_tpm": 4321,
        "metadata": {"role": "demo", "mount": "ai-keys"},
    }
    created = relay.create(
        **fields, budget={"limit": "5.00", "currency": "USD", "period": "month"}, expires_in=120
    )
    assert {name: created[name] for name in fields} == fields
    assert created["budget"]["limit"] == "5.00"
    assert created["budget"]["spent"] == "0"
    assert created["budget"]["remaining"] == "5.00"
    assert created["budget"]["period"] == "month"
    assert created["budget"]["resets_at"] > created["created_at"]
    assert created["expires_at"] == created["created_at"] + 120
    assert abs(created["created_at"] - time.time()) < 30
    assert (created["status"], created["disabled"], created["auto_rotate"]) == ("active", False, False)


def test_comma_strings_are_taken_for_lists(relay: Relay) -> None:
    created = relay.create(permissions="chat, models", allowed_models="gpt-4.1,claude-*")
    assert created["permissions"] == ["chat", "models"]
    assert created["allowed_models"] == ["gpt-4.1", "claude-*"]


def test_a_key_may_call_models_but_not_rotate_itself_unless_told(relay: Relay) -> None:
    assert "keys:rotate_self" not in relay.create()["permissions"]


def test_expires_at_is_taken_as_it_is(relay: Relay) -> None:
    moment = int(relay.control.now()) + 5
    assert relay.create(expires_at=moment)["expires_at"] == moment


def test_a_signing_secret_comes_only_when_asked_for(relay: Relay) -> None:
    assert re.fullmatch(r"hs-sign-[A-Za-z0-9_-]{43}", relay.create(signing=True)["signing_secret"])
    assert "signing_secret" not in relay.create()


def test_rotation_settings_are_kept(relay: Relay) -> None:
    created = relay.create(auto_rotate=True, rotation_policy="30d")
    assert (created["auto_rotate"], created["rotation_interval"]) == (True, 30 * 86_400)


INVALID: list[tuple[dict[str, Any], str, str]] = [
    ({"name": None}, "invalid_request", "name"),
    ({"name": ""}, "invalid_request", "name"),
    ({"name": "-starts-with-a-dash"}, "invalid_request", "name"),
    ({"name": "a b"}, "invalid_request", "name"),
    ({"name": "x" * 129}, "invalid_request", "name"),
    ({"name": "validate"}, "invalid_request", "name"),
    ({"name": "rotate"}, "invalid_request", "name"),
    ({"name": 7}, "invalid_request", "name"),
    ({"permissions": ["fly"]}, "invalid_permission", "permissions"),
    ({"permissions": []}, "invalid_permission", "permissions"),
    ({"permissions": {"chat": True}}, "invalid_permission", "permissions"),
    ({"allowed_models": ["gpt-*-x"]}, "invalid_model", "allowed_models"),
    ({"allowed_models": [1]}, "invalid_model", "allowed_models"),
    ({"rate_limit": 0}, "invalid_request", "rate_limit"),
    ({"rate_limit": 1001}, "invalid_request", "rate_limit"),
    ({"rate_limit": True}, "invalid_request", "rate_limit"),
    ({"rate_limit": "5"}, "invalid_request", "rate_limit"),
    ({"max_tpm": 10_000_001}, "invalid_request", "max_tpm"),
    ({"budget": {"limit": 5}}, "invalid_request", "budget.limit"),
    ({"budget": {"limit": "5e3"}}, "invalid_request", "budget.limit"),
    ({"budget": {"limit": "-1"}}, "invalid_request", "budget.limit"),
    ({"budget": {"limit": "1", "currency": "EUR"}}, "invalid_request", "budget.currency"),
    ({"budget": {"limit": "1", "period": "week"}}, "invalid_request", "budget.period"),
    ({"budget": {"limit": "1", "extra": 1}}, "unknown_field", "budget.extra"),
    ({"expires_in": 59}, "invalid_expiry", "expires_in"),
    ({"expires_in": 31_536_001}, "invalid_expiry", "expires_in"),
    ({"expires_in": 60.5}, "invalid_expiry", "expires_in"),
    ({"expires_at": 1}, "invalid_expiry", "expires_at"),
    ({"expires_in": 60, "expires_at": 4_000_000_000}, "invalid_expiry", "expires_at"),
    ({"auto_rotate": True}, "invalid_request", "rotation_interval"),
    ({"auto_rotate": "yes"}, "invalid_request", "auto_rotate"),
    ({"rotation_interval": 299}, "invalid_request", "rotation_interval"),
    ({"rotation_policy": "30 days"}, "invalid_request", "rotation_policy"),
    ({"metadata": {"k": 1}}, "invalid_request", "metadata"),
    ({"metadata": {"k" * 65: "v"}}, "invalid_request", "metadata"),
    ({"metadata": {"k": "v" * 257}}, "invalid_request", "metadata"),
    ({"metadata": {str(i): "v" for i in range(17)}}, "invalid_request", "metadata"),
    ({"team_id": ""}, "invalid_request", "team_id"),
    ({"tpm": 5}, "unknown_field", "tpm"),
]


@pytest.mark.parametrize(("fields", "code", "param"), INVALID, ids=lambda value: str(value)[:40])
def test_an_invalid_field_is_refused_and_nothing_is_made(
    relay: Relay, fields: dict[str, Any], code: str, param: str
) -> None:
    answer = relay.manage("POST", "/keys", json={"name": "vlt-a", **fields})
    found = refused(answer, 400, code, param)
    assert found["type"] == "invalid_request_error"
    assert relay.control.keys() == []


def test_unknown_fields_pass_when_the_relay_is_lenient(relay: Relay) -> None:
    relay.control.settings(strict_fields=False)
    relay.create(tpm=5)


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"x"',
        b'{"name":"a","name":"b"}',
        b'{"rate_limit":NaN}',
        b"\xff",
        b"[" * 100_000,
        b"1" * 5000,
    ],
    ids=["cut", "list", "string", "duplicate", "nan", "not utf-8", "deep", "long number"],
)
def test_a_body_that_is_no_object_is_refused(relay: Relay, body: bytes) -> None:
    answer = relay.manage("POST", "/keys", content=body, headers={"Content-Type": "application/json"})
    refused(answer, 400, "invalid_request")


@pytest.mark.parametrize("depth", [500, 900, 950, 980, 990, 995])
def test_a_deeply_nested_body_is_a_bad_request_and_never_a_server_error(relay: Relay, depth: int) -> None:
    body = b'{"name":' + b"[" * depth + b"]" * depth + b"}"
    headers = {"Content-Type": "application/json", "Idempotency-Key": "deep"}
    refused(relay.manage("POST", "/keys", content=body, headers=headers), 400, "invalid_request")


def test_the_media_type_is_required(relay: Relay) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": ""}):
        answer = relay.manage("POST", "/keys", content=b'{"name":"a"}', headers=headers)
        assert refused(answer, 415, "unsupported_media_type")["type"] == "invalid_request_error"
    headers = {"Content-Type": "Application/JSON; charset=utf-8"}
    assert relay.manage("POST", "/keys", content=b'{"name":"a"}', headers=headers).status_code == 201


def test_a_body_of_more_than_256_kib_is_refused(relay: Relay) -> None:
    headers = {"Content-Type": "application/json"}
    fits = b'{"name":"a"' + b" " * (256 * 1024 - 12) + b"}"
    assert len(fits) == 256 * 1024
    assert relay.manage("POST", "/keys", content=fits, headers=headers).status_code == 201
    refused(relay.manage("POST", "/keys", content=fits + b" ", headers=headers), 413, "body_too_large")


def test_a_live_name_is_taken_and_a_dead_one_is_free(relay: Relay) -> None:
    first = relay.create(name="vlt-x")
    found = refused(relay.manage("POST", "/keys", json={"name": "vlt-x"}), 409, "name_conflict", "name")
    assert found["existing_id"] == first["id"]
    relay.manage("DELETE", f"/keys/{first['id']}")
    assert relay.create(name="vlt-x")["id"] > first["id"]


def test_the_account_has_only_so_many_live_keys(relay: Relay) -> None:
    relay.control.settings(max_live_keys=2)
    first = relay.create()
    relay.create(expires_in=60)
    found = refused(relay.manage("POST", "/keys", json={"name": "vlt-x"}), 422, "account_key_limit")
    assert found["type"] == "quota_error"
    relay.manage("DELETE", f"/keys/{first['id']}")
    relay.create()
    refused(relay.manage("POST", "/keys", json={"name": "vlt-x"}), 422, "account_key_limit")
    relay.control.advance(61)
    relay.create()


def test_an_account_may_demand_an_expiry(relay: Relay) -> None:
    relay.control.settings(require_expiry=True)
    refused(relay.manage("POST", "/keys", json={"name": "vlt-x"}), 400, "invalid_expiry")
    kept = relay.create(expires_in=60)
    answer = relay.manage("PATCH", f"/keys/{kept['id']}", json={"expires_at": None})
    refused(answer, 400, "invalid_expiry")
