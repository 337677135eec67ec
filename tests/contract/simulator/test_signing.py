"""HMAC request signatures: the published vectors, and what the relay accepts over the wire."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from typing import Any

import httpx
import pytest
from tests.contract.simulator.helpers import Relay, bearer, refused

from aikeys.relay_simulator.errors import RelayError
from aikeys.relay_simulator.signing import NonceStore, canonical_query, mac_v1, mac_v2

SECRET = "ss-test-secret-0001"
TIMESTAMP = "1767225600"
NONCE = "0123456789abcdef0123456789abcdef"
BODY = b'{"model":"gpt-4.1","messages":[{"role":"user","content":"hi"}],"max_tokens":1}'


def test_the_vectors_body_is_the_one_that_was_published() -> None:
    assert (
        hashlib.sha256(BODY).hexdigest() == "213123fcd1f9f5d1f67925a24e85be97882feb7ffe5f2b59df3e6f585ba2cff3"
    )


def test_v1_vector() -> None:
    signed = mac_v1(SECRET, "sk-holysheep-" + "A" * 32, TIMESTAMP, NONCE, BODY)
    assert signed == "d5c03c7aad311b0bae9c11eef7deb1b79249f10442e24faaae9442cb36e9c3b6"


def test_v2_vector_with_a_body() -> None:
    signed = mac_v2(
        SECRET, method="POST", path="/v1/chat/completions", query="", timestamp=TIMESTAMP, nonce=NONCE,
        key_id="key_01TEST", body=BODY,
    )  # fmt: skip
    assert signed == "ff906ea50569d348445ff8f3d5b25ffc89cc160526f502c28881776b6f9f39d6"


@pytest.mark.parametrize("query", ["limit=100&name_prefix=vlt-", "name_prefix=vlt-&limit=100"])
def test_v2_vector_with_a_query(query: str) -> None:
    signed = mac_v2(
        SECRET, method="GET", path="/v1/keys", query=query, timestamp=TIMESTAMP, nonce=NONCE,
        key_id="mgmt_01TEST", body=b"",
    )  # fmt: skip
    assert signed == "8482eab31d335e34f8a11e90d7462c39bff9d3b54d1b4ab5186b9b8d3b24a5b2"


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("", ""),
        ("b=2&a=1", "a=1&b=2"),
        ("a=2&a=1", "a=1&a=2"),
        ("a=&b", "a=&b="),
        ("metadata[role]=x%20y", "metadata%5Brole%5D=x%20y"),
        ("a=%7E%2D.%5F", "a=~-._"),
        ("a=%2f%2F", "a=%2F%2F"),
        ("a=%C3%BC", "a=%C3%BC"),
    ],
)
def test_the_query_is_sorted_and_encoded_one_way(raw: str, canonical: str) -> None:
    assert canonical_query(raw) == canonical


def test_a_nonce_is_good_once_in_ten_minutes_and_per_key() -> None:
    nonces = NonceStore()
    nonces.insert("key_a", NONCE, 1000.0)
    nonces.insert("key_b", NONCE, 1000.0)
    with pytest.raises(RelayError, match="used before"):
        nonces.insert("key_a", NONCE, 1599.0)
    nonces.insert("key_a", NONCE, 1600.0)


def sign(
    method: str, path: str, *, secret: str, key_id: str, body: bytes = b"", query: str = "", **override: Any
) -> dict[str, str]:
    """Headers for one signed call, made here from the description and not with the simulator's own function."""
    timestamp = str(override.get("timestamp", int(time.time())))
    nonce = override.get("nonce", secrets.token_hex(16))
    lines = ["HS256-V2", method, path, query, timestamp, nonce, key_id, hashlib.sha256(body).hexdigest()]
    mac = hmac.new(secret.encode(), "\n".join(lines).encode(), hashlib.sha256).hexdigest()
    return {"X-Timestamp": timestamp, "X-Nonce": nonce, "X-Signature": f"v2={mac}"}


def chat(relay: Relay, key: dict[str, Any], headers: dict[str, str], body: bytes = BODY) -> httpx.Response:
    content = {"Content-Type": "application/json"}
    return relay.http.post("/chat/completions", headers=bearer(key["key"]) | content | headers, content=body)


def signed(key: dict[str, Any], body: bytes = BODY, **override: Any) -> dict[str, str]:
    secret = override.pop("secret", key["signing_secret"])
    return sign("POST", "/v1/chat/completions", secret=secret, key_id=key["id"], body=body, **override)


def test_a_signed_key_works_only_signed(relay: Relay) -> None:
    key = relay.create(signing=True)
    assert refused(chat(relay, key, {}), 401, "signature_required")["type"] == "authentication_error"
    assert chat(relay, key, signed(key)).status_code == 200


@pytest.mark.parametrize("missing", ["X-Timestamp", "X-Nonce", "X-Signature"])
def test_each_signature_header_is_needed(relay: Relay, missing: str) -> None:
    key = relay.create(signing=True)
    headers = signed(key)
    del headers[missing]
    refused(chat(relay, key, headers), 401, "signature_required")


def test_what_is_signed_is_what_is_sent(relay: Relay) -> None:
    key = relay.create(signing=True)
    refused(chat(relay, key, signed(key), BODY.replace(b"hi", b"ho")), 401, "invalid_signature")
    refused(chat(relay, key, signed(key, secret="hs-sign-wrong")), 401, "invalid_signature")
    headers = signed(key)
    answer = relay.http.get("/models", headers=bearer(key["key"]) | headers)
    refused(answer, 401, "invalid_signature")
    refused(chat(relay, key, signed(key) | {"X-Signature": "v2="}), 401, "invalid_signature")
    refused(chat(relay, key, signed(key) | {"X-Timestamp": "now"}), 401, "invalid_signature")
    refused(chat(relay, key, signed(key, nonce="short")), 401, "invalid_signature")


def test_a_nonce_is_used_once(relay: Relay) -> None:
    key = relay.create(signing=True)
    headers = signed(key)
    assert chat(relay, key, headers).status_code == 200
    refused(chat(relay, key, headers), 401, "nonce_reused")


def test_a_bad_signature_does_not_use_up_the_nonce(relay: Relay) -> None:
    key = relay.create(signing=True)
    headers = signed(key)
    refused(chat(relay, key, headers | {"X-Signature": "v2=" + "0" * 64}), 401, "invalid_signature")
    assert chat(relay, key, headers).status_code == 200


@pytest.mark.parametrize(("off", "accepted"), [(-295, True), (295, True), (-310, False), (310, False)])
def test_the_timestamp_is_within_five_minutes(relay: Relay, off: int, accepted: bool) -> None:
    key = relay.create(signing=True)
    answer = chat(relay, key, signed(key, timestamp=int(relay.control.now()) + off))
    if accepted:
        assert answer.status_code == 200
    else:
        refused(answer, 401, "timestamp_out_of_range")


def test_the_date_header_teaches_the_skew(relay: Relay) -> None:
    key = relay.create(signing=True)
    relay.control.advance(900)
    answer = chat(relay, key, signed(key))
    refused(answer, 401, "timestamp_out_of_range")
    told = time.mktime(time.strptime(answer.headers["Date"], "%a, %d %b %Y %H:%M:%S GMT")) - time.timezone
    assert chat(relay, key, signed(key, timestamp=int(told))).status_code == 200


def test_v1_is_accepted_only_where_the_account_says_so(relay: Relay) -> None:
    key = relay.create(signing=True)

    def v1() -> dict[str, str]:
        timestamp, nonce = str(int(time.time())), secrets.token_hex(16)
        message = f"{key['key']}{timestamp}{nonce}".encode() + BODY
        mac = hmac.new(key["signing_secret"].encode(), message, hashlib.sha256).hexdigest()
        return {"X-Timestamp": timestamp, "X-Nonce": nonce, "X-Signature": mac}

    refused(chat(relay, key, v1()), 401, "invalid_signature")
    relay.control.settings(allow_signature_v1=True)
    assert chat(relay, key, v1()).status_code == 200
    refused(chat(relay, key, v1() | {"X-Signature": "0" * 64}), 401, "invalid_signature")


def test_management_calls_are_signed_when_the_account_says_so(relay: Relay) -> None:
    manager = relay.control.management_key(signing=True)
    key_id, secret = manager["id"], manager["signing_secret"]
    assert relay.manage("GET", "/keys", key=manager["key"]).status_code == 200
    relay.control.settings(management_signature_required=True)
    refused(relay.manage("GET", "/keys", key=manager["key"]), 401, "signature_required")
    headers = sign(
        "GET", "/v1/keys", secret=secret, key_id=key_id, query="limit=1&metadata%5Brole%5D=x&name_prefix=vlt-"
    )
    path = "/keys?name_prefix=vlt-&limit=1&metadata[role]=x"
    assert relay.manage("GET", path, key=manager["key"], headers=headers).status_code == 200
    body = json.dumps({"name": "vlt-signed"}).encode()
    headers = sign("POST", "/v1/keys", secret=secret, key_id=key_id, body=body)
    headers |= {"Content-Type": "application/json", "Idempotency-Key": "intent"}
    assert relay.manage("POST", "/keys", key=manager["key"], content=body, headers=headers).status_code == 201
    again = sign("POST", "/v1/keys", secret=secret, key_id=key_id, body=body)
    answer = relay.manage("POST", "/keys", key=manager["key"], content=body, headers=headers | again)
    assert answer.headers["Idempotency-Replayed"] == "true"


def test_a_management_key_learns_its_id_unsigned_but_a_wrong_signature_is_refused(relay: Relay) -> None:
    relay.control.settings(management_signature_required=True)
    manager = relay.control.management_key(signing=True)
    assert relay.manage("GET", "/auth/verify", key=manager["key"]).json()["id"] == manager["id"]
    wrong = sign("GET", "/v1/auth/verify", secret="hs-sign-wrong", key_id=manager["id"])
    refused(relay.manage("GET", "/auth/verify", key=manager["key"], headers=wrong), 401, "invalid_signature")


def test_a_signed_key_is_rotated_into_one_with_its_own_secret(relay: Relay) -> None:
    key = relay.create(signing=True)
    new = relay.manage("POST", f"/keys/{key['id']}/rotate", json={}).json()
    assert new["signing_secret"] != key["signing_secret"]
    refused(chat(relay, new, {}), 401, "signature_required")
    assert chat(relay, new, signed(new)).status_code == 200
