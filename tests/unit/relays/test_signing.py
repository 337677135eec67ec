"""Signatures: the vectors of the key API, and that each part of a request is covered."""

from __future__ import annotations

import re
from typing import Any

import pytest

from aikeys.redaction import SecretString
from aikeys.relays.signing import Signer, canonical_query, mac_v1, mac_v2, new_nonce

SECRET = SecretString("ss-test-secret-0001")
API_KEY = SecretString("sk-holysheep-" + "A" * 32)
TIMESTAMP = 1767225600
NONCE = "0123456789abcdef0123456789abcdef"
BODY = b'{"model":"gpt-4.1","messages":[{"role":"user","content":"hi"}],"max_tokens":1}'


def test_v1_has_the_published_value() -> None:
    mac = mac_v1(SECRET, api_key=API_KEY, timestamp=TIMESTAMP, nonce=NONCE, body=BODY)
    assert mac == "d5c03c7aad311b0bae9c11eef7deb1b79249f10442e24faaae9442cb36e9c3b6"


@pytest.mark.parametrize(
    ("request_parts", "mac"),
    [
        (
            {
                "method": "POST",
                "path": "/v1/chat/completions",
                "query": "",
                "key_id": "key_01TEST",
                "body": BODY,
            },
            "ff906ea50569d348445ff8f3d5b25ffc89cc160526f502c28881776b6f9f39d6",
        ),
        (
            {
                "method": "GET",
                "path": "/v1/keys",
                "query": "limit=100&name_prefix=vlt-",
                "key_id": "mgmt_01TEST",
                "body": b"",
            },
            "8482eab31d335e34f8a11e90d7462c39bff9d3b54d1b4ab5186b9b8d3b24a5b2",
        ),
    ],
)
def test_v2_has_the_published_values(request_parts: dict[str, Any], mac: str) -> None:
    assert mac_v2(SECRET, timestamp=TIMESTAMP, nonce=NONCE, **request_parts) == mac


@pytest.mark.parametrize(
    ("query", "canonical"),
    [
        ("", ""),
        ("b=2&a=1", "a=1&b=2"),
        ("a=2&a=1", "a=1&a=2"),
        ("a=&b", "a=&b="),
        ("a=x+y", "a=x%20y"),
        ("a=%7E%2f", "a=~%2F"),
        ("status=active,revoked", "status=active%2Crevoked"),
        ("a=%C3%A9", "a=%C3%A9"),
    ],
)
def test_a_query_is_sorted_and_encoded_in_one_way(query: str, canonical: str) -> None:
    assert canonical_query(query) == canonical


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_every_part_of_a_request_changes_its_signature(version: str) -> None:
    signer = Signer(version, SECRET, API_KEY)
    parts: dict[str, Any] = {
        "method": "POST",
        "path": "/v1/keys",
        "query": "a=1",
        "timestamp": TIMESTAMP,
        "nonce": NONCE,
        "key_id": "mgmt_01",
        "body": BODY,
    }
    changes = {
        "method": "PUT",
        "path": "/v1/other",
        "query": "a=2",
        "timestamp": TIMESTAMP + 1,
        "nonce": "f" * 32,
        "key_id": "mgmt_02",
        "body": BODY + b" ",
    }
    covered = set(changes) if version == "v2" else {"timestamp", "nonce", "body"}
    original = dict(signer.headers(**parts))[b"X-Signature"]
    for name, value in changes.items():
        changed = dict(signer.headers(**{**parts, name: value}))[b"X-Signature"]
        assert (changed != original) == (name in covered)
    other = Signer(version, SecretString("another-signing-secret"), API_KEY)
    assert dict(other.headers(**parts))[b"X-Signature"] != original


def test_the_headers_are_those_of_the_key_api() -> None:
    parts: dict[str, Any] = {"method": "GET", "path": "/", "query": "", "key_id": "k", "body": b""}
    headers = dict(Signer("v2", SECRET, API_KEY).headers(timestamp=TIMESTAMP, nonce=NONCE, **parts))
    assert headers[b"X-Timestamp"] == b"1767225600"
    assert headers[b"X-Nonce"] == NONCE.encode()
    assert re.fullmatch(rb"v2=[0-9a-f]{64}", headers[b"X-Signature"])


def test_nonces_never_repeat_and_have_the_form_asked_for() -> None:
    nonces = {new_nonce() for _ in range(1000)}
    assert len(nonces) == 1000
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{16,64}", nonce) for nonce in nonces)


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed are v2, v1"):
        Signer("v3", SECRET, API_KEY)
