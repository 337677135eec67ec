"""A relay that lies, repeats itself or never ends, over real sockets: no lie becomes a key, a revocation or a loop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.relays.conftest import (
    END,
    INTENT,
    KEY,
    MANAGEMENT_KEY,
    MINTED,
    NAME,
    REF,
    Relay,
    failing,
    mint,
    page,
    says,
)
from tests.unit.transport.server import Peer, Received, ScriptedServer, always, answer

from aikeys.framework.deadline import Deadline
from aikeys.redaction import SecretString
from aikeys.relays.interface import (
    KeyRef,
    Kind,
    MintIntent,
    Outcome,
    Probe,
    Scopes,
)


def test_a_mint_sends_what_the_key_api_defines(relay: Callable[..., Relay]) -> None:
    made = relay(says({**KEY, "key": MINTED}, "201 Created"))
    minted = made.driver.mint(INTENT, Deadline.after(5))
    assert (minted.ref.key_id, minted.secret.reveal(), minted.upstream_expires_at) == (
        "key_01",
        MINTED,
        INTENT.expires_at,
    )
    [request] = made.server.requests
    assert request.line == "POST /v1/keys HTTP/1.1"
    assert request.values("Authorization") == [f"Bearer {MANAGEMENT_KEY}"]
    assert request.values("Idempotency-Key") == [INTENT.idempotency_key]
    assert request.values("Content-Type") == ["application/json"]
    assert request.values("User-Agent")[0].startswith("aikeys/")
    assert request.values("X-Signature") == []
    assert MINTED not in repr(minted)


@pytest.mark.parametrize(
    ("body", "key_id"),
    [
        ({**KEY}, "key_01"),
        ({**KEY, "key": ""}, "key_01"),
        ({**KEY, "key": 12}, "key_01"),
        ({**KEY, "key": MINTED + "\r\nX: 1"}, "key_01"),
        ({**KEY, "key": MINTED, "id": None}, ""),
        ({**KEY, "key": MINTED, "id": "../../auth"}, ""),
        ({**KEY, "key": MINTED, "id": MINTED}, ""),
        ({**KEY, "key": MINTED, "name": "another"}, "key_01"),
        ({**KEY, "key": MINTED, "expires_at": END + 1}, "key_01"),
        ({**KEY, "key": MINTED, "rate_limit": None}, "key_01"),
        ({"error": {"message": MINTED}}, ""),
        ([], ""),
        ("key", ""),
    ],
)
def test_a_mint_that_answers_success_without_a_usable_key_is_unknown(
    relay: Callable[..., Relay], body: Any, key_id: str
) -> None:
    error = failing(relay(says(body, "201 Created")), mint)
    assert (error.kind, error.outcome, error.key_id) == (Kind.PROTOCOL, Outcome.UNKNOWN, key_id)


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"<html>It works!</html>", "200 OK", "Content-Type: text/html"),
        answer(b"<html>It works!</html>", "201 Created", "Content-Type: application/json"),
        answer(json.dumps({**KEY, "key": MINTED}).encode(), "201 Created", "Content-Type: text/html"),
        says({**KEY, "key": MINTED, "padding": " " * 1024 * 1024}, "201 Created"),
        says({**KEY, "key": MINTED}, "202 Accepted"),
        b"HTTP/1.1 204 No Content\r\n\r\n",
        answer(b"{" * 500_000, "201 Created", "Content-Type: application/json"),
        answer(b" " * (1024 * 1024 + 1), "201 Created", "Content-Type: application/json"),
        b"HTTP/1.1 201 Created\r\nContent-Length: 10\r\nContent-Length: 20\r\n\r\n",
        b"no HTTP at all\r\n\r\n",
    ],
    ids=[
        "html",
        "html labelled json",
        "json labelled html",
        "good but too large",
        "202",
        "204",
        "deep",
        "too large",
        "two lengths",
        "none",
    ],
)
def test_a_mint_whose_answer_is_no_key_object_is_unknown(relay: Callable[..., Relay], reply: bytes) -> None:
    error = failing(relay(reply), mint)
    assert (error.kind, error.outcome) == (Kind.PROTOCOL, Outcome.UNKNOWN)


def test_a_redirect_is_not_followed_and_a_mints_outcome_is_unknown(relay: Callable[..., Relay]) -> None:
    with ScriptedServer(always(says({**KEY, "key": MINTED}))) as elsewhere:
        made = relay(says({}, "307 Temporary Redirect", f"Location: {elsewhere.url}/v1/keys"))
        error = failing(made, mint)
        assert (error.kind, error.outcome) == (Kind.CONFIG, Outcome.UNKNOWN)
        assert elsewhere.connections == 0
        assert failing(made, lambda driver: driver.check(Deadline.after(5))).outcome is Outcome.NOT_APPLIED
        assert elsewhere.connections == 0


def test_a_mint_is_sent_once_even_when_its_kept_connection_dies() -> None:
    def dies(peer: Peer) -> None:
        peer.request()
        peer.send(page([], False))
        peer.request()

    with ScriptedServer(dies, always(says({**KEY, "key": MINTED}, "201 Created"))) as server:
        made = Relay(server)
        assert list(made.driver.list("vlt-", Deadline.after(5))) == []
        error = failing(made, mint)
        assert (error.kind, error.outcome) == (Kind.TIMEOUT, Outcome.UNKNOWN)
        assert (server.connections, len(server.requests)) == (1, 2)
        made.driver.close()


def test_a_revocation_on_a_kept_connection_that_dies_is_sent_again() -> None:
    def dies(peer: Peer) -> None:
        peer.request()
        peer.send(page([], False))
        peer.request()

    with ScriptedServer(dies, always(says({"id": "key_01", "deleted": True}))) as server:
        made = Relay(server)
        assert list(made.driver.list("vlt-", Deadline.after(5))) == []
        assert made.driver.revoke(REF, Deadline.after(5)).effective_within == 0.5
        assert (server.connections, len(server.requests)) == (2, 3)
        made.driver.close()


def test_a_mint_for_scopes_that_cannot_be_enforced_sends_nothing(relay: Callable[..., Relay]) -> None:
    made = relay(says({}))
    wrong = MintIntent("i", NAME, "k", Scopes(permissions=("keys:rotate_self",)), INTENT.expires_at)
    error = failing(made, lambda driver: driver.mint(wrong, Deadline.after(5)))
    assert (error.kind, error.outcome) == (Kind.SCOPE_UNSUPPORTED, Outcome.NOT_APPLIED)
    assert made.server.connections == 0


def test_a_mint_after_its_deadline_sends_nothing(relay: Callable[..., Relay]) -> None:
    made = relay(says({}))
    error = failing(made, lambda driver: driver.mint(INTENT, Deadline.after(-1)))
    assert (error.kind, error.outcome) == (Kind.TIMEOUT, Outcome.NOT_APPLIED)
    assert made.server.connections == 0


def test_no_call_takes_longer_than_the_configs_request_timeout(relay: Callable[..., Relay]) -> None:
    made = relay(b"HTTP/1.1 200 OK\r\n", request_timeout=0.2)
    started = time.monotonic()
    assert failing(made, lambda driver: driver.mint(INTENT, Deadline.after(60))).outcome is Outcome.UNKNOWN
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "body",
    [
        {"id": "key_01", "deleted": False},
        {"id": "key_01"},
        {"id": "key_02", "deleted": True},
        {"deleted": True},
        {"id": "key_01", "deleted": "true"},
        {"id": "key_01", "deleted": True, "effective_within_ms": -5},
        {},
        [],
    ],
)
def test_a_deletion_counts_only_when_it_names_the_key(relay: Callable[..., Relay], body: Any) -> None:
    error = failing(relay(says(body)), lambda driver: driver.revoke(REF, Deadline.after(5)))
    assert (error.kind, error.outcome) == (Kind.PROTOCOL, Outcome.UNKNOWN)


def test_not_found_is_raised_and_never_a_success(relay: Callable[..., Relay]) -> None:
    absent = says({"error": {"code": "key_not_found", "message": "No such key"}}, "404 Not Found")

    def reply(request: Received) -> bytes:
        return says({"kind": "management"}) if "/auth/verify" in request.line else absent

    made = relay(reply)
    assert failing(made, lambda driver: driver.revoke(REF, Deadline.after(5))).kind is Kind.NOT_FOUND
    everything = relay(absent)
    assert failing(everything, lambda driver: driver.revoke(REF, Deadline.after(5))).kind is Kind.CONFIG
    html = relay(answer(b"<html>", "404 Not Found", "Content-Type: text/html"))
    assert failing(html, lambda driver: driver.revoke(REF, Deadline.after(5))).kind is Kind.CONFIG


@pytest.mark.parametrize(
    "ref",
    [
        KeyRef("litellm", "http://127.0.0.1/v1", "key_01", NAME),
        KeyRef("holysheep", "http://127.0.0.1/v1", "../auth", NAME),
        KeyRef("holysheep", "http://127.0.0.1/v1", "", NAME),
    ],
)
def test_a_reference_that_is_not_this_relays_is_asked_nowhere(
    relay: Callable[..., Relay], ref: KeyRef
) -> None:
    made = relay(says({"id": ref.key_id, "deleted": True}))
    error = failing(made, lambda driver: driver.revoke(ref, Deadline.after(5)))
    assert (error.kind, error.outcome) == (Kind.CONFIG, Outcome.NOT_APPLIED)
    assert made.server.connections == 0


def test_a_key_id_is_one_segment_of_the_path(relay: Callable[..., Relay]) -> None:
    made = relay(says({"id": "key:01", "deleted": True}))
    made.driver.revoke(KeyRef("holysheep", "", "key:01", NAME), Deadline.after(5))
    assert made.server.requests[0].line == "DELETE /v1/keys/key%3A01 HTTP/1.1"


@pytest.mark.parametrize("expires_at", [END + 1, END - 1, None, str(END)])
def test_an_extension_to_another_end_is_an_error(relay: Callable[..., Relay], expires_at: Any) -> None:
    made = relay(says({**KEY, "expires_at": expires_at}))
    error = failing(made, lambda driver: driver.extend(REF, INTENT.expires_at, Deadline.after(5)))
    assert error.kind is Kind.PROTOCOL


@pytest.mark.parametrize(
    ("reply", "seen"),
    [
        (says({"valid": True}), Probe.ACCEPTED),
        (says({"valid": False}), Probe.REJECTED),
        (says({"error": {"code": "invalid_api_key"}}, "401 Unauthorized"), Probe.REJECTED),
        (says({"valid": "yes"}), Probe.UNKNOWN),
        (says({}), Probe.UNKNOWN),
        (says({"error": {"code": "signature_required"}}, "401 Unauthorized"), Probe.UNKNOWN),
        (answer(b"<html>", "401 Unauthorized", "Content-Type: text/html"), Probe.UNKNOWN),
        (answer(b"<html>", "200 OK", "Content-Type: text/html"), Probe.UNKNOWN),
        (says({"error": {"code": "key_not_found"}}, "404 Not Found"), Probe.UNKNOWN),
        (says({"error": {"code": "rate_limit_exceeded"}}, "429 Too Many Requests"), Probe.UNKNOWN),
        (says({"error": {"code": "invalid_api_key"}}, "500 Internal Server Error"), Probe.UNKNOWN),
        (b"", Probe.UNKNOWN),
        (b"garbage\r\n\r\n", Probe.UNKNOWN),
    ],
)
def test_a_probe_believes_only_the_relay_itself_and_never_raises(
    relay: Callable[..., Relay], reply: bytes, seen: Probe
) -> None:
    made = relay(reply)
    assert made.driver.probe(SecretString(MINTED), Deadline.after(0.5)) is seen
    assert made.server.requests[0].values("Authorization") == [f"Bearer {MINTED}"]


def test_a_probe_of_what_can_be_no_key_is_unknown(relay: Callable[..., Relay]) -> None:
    assert relay(says({})).driver.probe(SecretString("größe"), Deadline.after(1)) is Probe.UNKNOWN


def test_a_closed_driver_finishes_what_others_still_ask(relay: Callable[..., Relay]) -> None:
    made = relay(says({**KEY, "key": MINTED}, "201 Created"))
    made.driver.close()
    assert made.driver.mint(INTENT, Deadline.after(5)).ref.key_id == "key_01"


def test_an_echoed_key_is_in_no_error(relay: Callable[..., Relay]) -> None:
    echo = {"error": {"code": "internal_error", "message": f"Bearer {MANAGEMENT_KEY} and {MANAGEMENT_KEY}!"}}
    made = relay(says(echo, "500 Internal Server Error", f"X-Request-Id: {MANAGEMENT_KEY}"))
    for call in (
        mint,
        lambda driver: driver.check(Deadline.after(5)),
        lambda driver: driver.find(INTENT, Deadline.after(5)),
        lambda driver: driver.revoke(REF, Deadline.after(5)),
        lambda driver: driver.extend(REF, INTENT.expires_at, Deadline.after(5)),
        lambda driver: list(driver.list("vlt-", Deadline.after(5))),
    ):
        assert "internal_error" in failing(made, call).safe_message
