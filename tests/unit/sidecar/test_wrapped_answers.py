"""A wrapped answer is found by whatever form of its token comes back, once, and never stands on the disk in clear."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest

from aikeys.framework.clock import SystemClock
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.sidecar.wrapped_answers import WrappedAnswers, canonical_token
from aikeys.storage import SqlStore, open_store

INNER = "hvs." + "aB3" * 8


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def jwt(claims: object) -> str:
    return f"{encoded(b'{}')}.{encoded(json.dumps(claims).encode())}.{encoded(b'signature')}".replace(
        "e30", "eyJ9", 1
    )


# The signed form of Vault: a protobuf of which the inner token is a part.
LONG = "hvs." + encoded(b"\x08\x01\x12\x20" + bytes(range(32)) + b"\x1a\x1e\x0a\x1c" + INNER.encode())


@pytest.mark.parametrize(
    ("token", "canonical"),
    [
        ("s.NR5wonq7jV1vUFHVPRFm2J1t", "s.NR5wonq7jV1vUFHVPRFm2J1t"),
        (INNER, INNER),
        (LONG, INNER),
        (jwt({"jti": "s.inside", "type": "wrapping"}), "s.inside"),
        (jwt({"jti": LONG}), INNER),
        ("hvs.CAESIbad", "hvs.CAESIbad"),
        ("hvs." + "!" * 60, "hvs." + "!" * 60),
        ("eyJ.not.jwt", "eyJ.not.jwt"),
        (jwt(["jti"]), jwt(["jti"])),
        (jwt({"jti": 1}), jwt({"jti": 1})),
        ("", ""),
    ],
)
def test_every_form_of_a_token_is_the_same_token(token: str, canonical: str) -> None:
    assert canonical_token(token) == canonical


@pytest.fixture
def store(tmp_path: Path) -> SqlStore:
    return open_store(tmp_path / "aikeys.db", KeyFileSeal(tmp_path / "key"), clock=SystemClock())


def test_an_answer_is_taken_once_by_any_form_of_its_token(store: SqlStore, tmp_path: Path) -> None:
    answers = WrappedAnswers(store)
    info = {"token": LONG, "accessor": "acc", "ttl": 60, "creation_time": "2026-11-21T07:02:39.861456903Z"}
    answers.put(info, {"data": {"api_key": "sk-obviously-fake-0123456789"}}, "ai-keys/creds/x/1")

    assert answers.peek(INNER) is not None
    taken = answers.take(INNER)
    assert taken is not None
    assert taken.envelope == {"data": {"api_key": "sk-obviously-fake-0123456789"}}
    assert taken.lease_id == "ai-keys/creds/x/1"
    assert (taken.expires_at.minute, taken.expires_at.second) == (3, 39)
    assert answers.take(LONG) is None
    on_disk = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for secret in (b"sk-obviously-fake", INNER.encode(), LONG.encode()):
        assert secret not in on_disk
    store.close()
