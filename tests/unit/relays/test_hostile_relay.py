"""A relay that lies, repeats itself or never ends, over real sockets: no lie becomes a key, a revocation or a loop."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.transport.server import Peer, Received, ScriptedServer, always, answer

from aikeys.framework.deadline import Deadline
from aikeys.redaction import SecretString
from aikeys.relays.holysheep import HolySheepDriver
from aikeys.relays.interface import (
    DriverError,
    KeyRef,
    Kind,
    MintIntent,
    Outcome,
    Probe,
    RelayConfig,
    Scopes,
)

MANAGEMENT_KEY = "management-key-of-no-known-pattern"
MINTED = "minted-key-of-no-known-pattern-0001"
NAME = "vlt-abcdefgh-abcdefghijklmnop"
INTENT = MintIntent(
    "abcdefghijklmnop",
    NAME,
    "aikeys-abcdefghijklmnop",
    Scopes(rate_limit=60),
    datetime(2030, 1, 1, tzinfo=UTC),
)
END = int(INTENT.expires_at.timestamp())
REF = KeyRef("holysheep", "http://127.0.0.1/v1", "key_01", NAME)
KEY = {"id": "key_01", "name": NAME, "status": "active", "expires_at": END, "rate_limit": 60}


def says(body: Any, status: str = "200 OK", *headers: str) -> bytes:
    return answer(json.dumps(body).encode(), status, "Content-Type: application/json", *headers)


class Relay:
    """A driver and the scripted relay it asks."""

    def __init__(self, server: ScriptedServer, **config: Any) -> None:
        self.server = server
        self.driver = HolySheepDriver(
            RelayConfig("holysheep", f"{server.url}/v1", SecretString(MANAGEMENT_KEY), **config)
        )


@pytest.fixture
def relay() -> Iterator[Callable[..., Relay]]:
    """Make one that answers every request so, or as a function of the request says."""
    opened: list[tuple[ScriptedServer, HolySheepDriver]] = []

    def make(reply: bytes | Callable[[Received], bytes], **config: Any) -> Relay:
        def script(peer: Peer) -> None:
            while (request := peer.request()) is not None:
                peer.send(reply if isinstance(reply, bytes) else reply(request))

        server = ScriptedServer(script)
        server.__enter__()
        made = Relay(server, **config)
        opened.append((server, made.driver))
        return made

    yield make
    for server, driver in opened:
        driver.close()
        server.__exit__(None, None, None)


def failing(relay: Relay, call: Callable[[HolySheepDriver], object]) -> DriverError:
    with pytest.raises(DriverError) as failed:
        call(relay.driver)
    error = failed.value
    shown = f"{error!r} {error} {vars(error)} {error.__cause__!r} {error.__context__!r}"
    assert MANAGEMENT_KEY not in shown
    assert MINTED not in shown
    return error


def mint(driver: HolySheepDriver) -> object:
    return driver.mint(INTENT, Deadline.after(5))


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


def page(names: list[int], more: Any) -> bytes:
    data = [{"id": f"key_{n}", "name": f"vlt-abcdefgh-{n}", "status": "active"} for n in names]
    return says({"object": "list", "data": data, "has_more": more, "last_id": None})


@pytest.mark.parametrize(
    "reply",
    [
        page([1, 2], True),
        page([1, 1], False),
        page([], True),
        page([1], "yes"),
        says({"data": {}, "has_more": False}),
        says({"data": ["key_01"], "has_more": False}),
        says({"data": [{"id": "key_1", "name": NAME, "status": "odd"}], "has_more": False}),
        says({}),
    ],
    ids=[
        "same page for ever",
        "twice on a page",
        "empty for ever",
        "no bool",
        "no list",
        "no key",
        "odd",
        "nothing",
    ],
)
def test_a_list_that_lies_is_an_error_and_ends(relay: Callable[..., Relay], reply: bytes) -> None:
    made = relay(reply)
    started = time.monotonic()
    error = failing(made, lambda driver: list(driver.list("vlt-", Deadline.after(20))))
    assert (error.kind, error.outcome) == (Kind.PROTOCOL, Outcome.NOT_APPLIED)
    assert time.monotonic() - started < 5


def test_a_list_whose_pages_overlap_ends_at_the_second(relay: Callable[..., Relay]) -> None:
    made = relay(page([1, 2], True))
    found: list[str] = []
    error = failing(
        made, lambda driver: found.extend(i.ref.key_id for i in driver.list("vlt-", Deadline.after(20)))
    )
    assert error.kind is Kind.PROTOCOL
    assert (found, len(made.server.requests)) == (["key_1", "key_2"], 2)


def test_a_list_of_ever_new_keys_ends_at_the_deadline_or_the_limit(
    relay: Callable[..., Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aikeys.relays.holysheep._MAX_PAGES", 5)
    counter = iter(range(10_000))
    made = relay(lambda request: page([next(counter)], True))
    error = failing(made, lambda driver: list(driver.list("vlt-", Deadline.after(20))))
    assert error.kind is Kind.PROTOCOL
    assert len(made.server.requests) == 5


def test_a_list_that_ignores_the_filter_shows_nothing_of_others(relay: Callable[..., Relay]) -> None:
    others = [
        {"id": "key_1", "name": "vlt-other000-1", "status": "active"},
        {"id": "key_2", "name": "vlt-abcdefgh-2", "status": "active"},
        {"id": "key_3", "name": "vlt-abcdefgh-3", "status": "revoked"},
        {"id": "key_4", "name": "production", "status": "active"},
    ]
    made = relay(says({"data": others, "has_more": False}))
    found = list(made.driver.list("vlt-abcdefgh-", Deadline.after(5)))
    assert [info.ref.key_id for info in found] == ["key_2"]


def test_find_takes_only_keys_of_exactly_the_intents_name(relay: Callable[..., Relay]) -> None:
    def reply(request: Received) -> bytes:
        if "?" not in request.line:
            return says({**KEY, "id": "key_0", "name": NAME + "x"})
        data = [{**KEY, "id": "key_1", "status": "expired"}, {**KEY, "id": "key_2", "name": NAME + "x"}]
        return says({"data": data, "has_more": False})

    found = relay(reply).driver.find(INTENT, Deadline.after(5))
    assert [info.ref.key_id for info in found] == ["key_1"]


@pytest.mark.parametrize("path_is_wrong", [True, False])
def test_find_does_not_take_a_wrong_address_for_no_key(
    relay: Callable[..., Relay], path_is_wrong: bool
) -> None:
    code = "not_found" if path_is_wrong else "key_not_found"

    def reply(request: Received) -> bytes:
        if "?" in request.line:
            return says({"data": [], "has_more": False})
        return says({"error": {"code": code, "message": "no"}}, "404 Not Found")

    made = relay(reply)
    if path_is_wrong:
        assert failing(made, lambda driver: driver.find(INTENT, Deadline.after(5))).kind is Kind.CONFIG
    else:
        assert made.driver.find(INTENT, Deadline.after(5)) == []


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"kind": "data", "scopes": ["keys:read", "keys:write"]}, Kind.FORBIDDEN),
        ({"kind": "management", "scopes": ["keys:read"]}, Kind.FORBIDDEN),
        ({"kind": "management", "scopes": "keys:read,keys:write"}, Kind.FORBIDDEN),
        (
            {"kind": "management", "scopes": ["keys:read", "keys:write"], "name_prefix": "prod-"},
            Kind.FORBIDDEN,
        ),
        ({}, Kind.FORBIDDEN),
        ([], Kind.PROTOCOL),
    ],
)
def test_a_credential_that_cannot_do_the_work_does_not_check_out(
    relay: Callable[..., Relay], body: Any, kind: Kind
) -> None:
    error = failing(relay(says(body)), lambda driver: driver.check(Deadline.after(5)))
    assert (error.kind, error.outcome) == (kind, Outcome.NOT_APPLIED)


@pytest.mark.parametrize("prefix", [None, "", "vlt-", "vlt-abcdefgh-", "v"])
def test_a_credential_bound_to_our_names_checks_out(relay: Callable[..., Relay], prefix: str | None) -> None:
    scopes = ["keys:read", "keys:write", "usage:read"]
    relay(says({"kind": "management", "scopes": scopes, "name_prefix": prefix})).driver.check(
        Deadline.after(5)
    )


def signed(secret: str = "hs-sign-test-secret") -> dict[str, Any]:
    return {"signing_secret": SecretString(secret), "signing_key_id": "mgmt_01"}


def test_a_relay_with_another_clock_is_asked_again_once_with_its_own_time(
    relay: Callable[..., Relay],
) -> None:
    def reply(request: Received) -> bytes:
        if abs(int(request.values("X-Timestamp")[0]) - 1767225600) > 300:
            error = {"error": {"code": "timestamp_out_of_range"}}
            return says(error, "401 Unauthorized", "Date: Thu, 01 Jan 2026 00:00:00 GMT")
        return says({**KEY, "key": MINTED}, "201 Created")

    made = relay(reply, **signed())
    made.driver.mint(INTENT, Deadline.after(5))
    first, second = made.server.requests
    assert first.body == second.body
    assert first.values("Idempotency-Key") == second.values("Idempotency-Key")
    assert first.values("X-Nonce") != second.values("X-Nonce")
    made.driver.mint(INTENT, Deadline.after(5))
    assert len(made.server.requests) == 3, "what was learnt is kept"


@pytest.mark.parametrize("date", ["Date: Thu, 01 Jan 2026 00:00:00 GMT", "Date: whenever", "X-No-Date: 1"])
def test_a_relay_that_always_refuses_the_time_is_not_asked_for_ever(
    relay: Callable[..., Relay], date: str
) -> None:
    made = relay(says({"error": {"code": "timestamp_out_of_range"}}, "401 Unauthorized", date), **signed())
    error = failing(made, mint)
    assert (error.kind, error.outcome) == (Kind.AUTH, Outcome.NOT_APPLIED)
    assert len(made.server.requests) <= 2


def test_another_refusal_is_not_repeated_for_its_date(relay: Callable[..., Relay]) -> None:
    date = "Date: Thu, 01 Jan 2026 00:00:00 GMT"
    made = relay(says({"error": {"code": "invalid_signature"}}, "401 Unauthorized", date), **signed())
    failing(made, mint)
    assert len(made.server.requests) == 1


def test_an_unsigned_request_is_not_repeated_for_its_time(relay: Callable[..., Relay]) -> None:
    date = "Date: Thu, 01 Jan 2026 00:00:00 GMT"
    made = relay(says({"error": {"code": "timestamp_out_of_range"}}, "401 Unauthorized", date))
    failing(made, mint)
    assert len(made.server.requests) == 1


def test_the_management_keys_id_is_asked_for_once_and_unsigned(relay: Callable[..., Relay]) -> None:
    def reply(request: Received) -> bytes:
        if "/auth/verify" in request.line:
            return says({"kind": "management", "id": "mgmt_07"})
        return says({**KEY, "key": MINTED}, "201 Created")

    made = relay(reply, signing_secret=SecretString("hs-sign-test-secret"))
    made.driver.mint(INTENT, Deadline.after(5))
    made.driver.mint(INTENT, Deadline.after(5))
    lines = [request.line.split()[1] for request in made.server.requests]
    assert lines == ["/v1/auth/verify", "/v1/keys", "/v1/keys"]
    assert made.server.requests[0].values("X-Signature") == []
    assert made.server.requests[1].values("X-Signature") != []


def test_a_management_key_without_an_id_cannot_sign(relay: Callable[..., Relay]) -> None:
    made = relay(says({"kind": "management"}), signing_secret=SecretString("hs-sign-test-secret"))
    assert failing(made, mint).kind is Kind.CONFIG


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
