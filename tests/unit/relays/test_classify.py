"""The table of failures: every row, and that doubt is never taken for "nothing happened"."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aikeys.redaction import REDACTED, SecretString
from aikeys.relays import classify
from aikeys.relays.classify import Call
from aikeys.relays.holysheep import VERDICTS
from aikeys.relays.interface import DriverError, Kind, Outcome
from aikeys.transport import RawResponse
from aikeys.transport.failures import failure

NOW = datetime(2026, 1, 1, tzinfo=UTC)
JSON = (b"Content-Type", b"application/json; charset=utf-8")


def response(
    status: int, body: Any = None, *headers: tuple[bytes, bytes], media_type: bytes | None = None
) -> RawResponse:
    label = JSON if media_type is None else (b"Content-Type", media_type)
    content = body if isinstance(body, bytes) else json.dumps(body if body is not None else {}).encode()
    return RawResponse(status, b"", [label, *headers], content)


def refused(
    status: int, code: str = "", *headers: tuple[bytes, bytes], call: Call = Call.MINT
) -> DriverError:
    body = {"error": {"code": code, "message": "said so", "type": "t", "param": None, "request_id": "r"}}
    return classify.of_response(response(status, body, *headers), call, VERDICTS, now=NOW)


@pytest.mark.parametrize(
    ("status", "code", "kind", "outcome"),
    [
        (400, "invalid_request", Kind.INVALID_REQUEST, Outcome.NOT_APPLIED),
        (400, "unknown_field", Kind.INVALID_REQUEST, Outcome.NOT_APPLIED),
        (400, "invalid_expiry", Kind.INVALID_REQUEST, Outcome.NOT_APPLIED),
        (401, "invalid_api_key", Kind.AUTH, Outcome.NOT_APPLIED),
        (401, "signature_required", Kind.AUTH, Outcome.NOT_APPLIED),
        (401, "timestamp_out_of_range", Kind.AUTH, Outcome.NOT_APPLIED),
        (402, "budget_exceeded", Kind.QUOTA, Outcome.NOT_APPLIED),
        (403, "insufficient_scope", Kind.FORBIDDEN, Outcome.NOT_APPLIED),
        (404, "not_found", Kind.CONFIG, Outcome.NOT_APPLIED),
        (404, "key_not_found", Kind.CONFIG, Outcome.NOT_APPLIED),
        (405, "", Kind.CONFIG, Outcome.NOT_APPLIED),
        (408, "", Kind.UNAVAILABLE, Outcome.UNKNOWN),
        (409, "name_conflict", Kind.CONFLICT, Outcome.UNKNOWN),
        (409, "idempotency_in_progress", Kind.UNAVAILABLE, Outcome.UNKNOWN),
        (409, "key_revoked", Kind.CONFLICT, Outcome.NOT_APPLIED),
        (409, "something_new", Kind.CONFLICT, Outcome.UNKNOWN),
        (412, "etag_mismatch", Kind.CONFLICT, Outcome.NOT_APPLIED),
        (413, "body_too_large", Kind.INVALID_REQUEST, Outcome.NOT_APPLIED),
        (415, "unsupported_media_type", Kind.INVALID_REQUEST, Outcome.NOT_APPLIED),
        (418, "", Kind.PROTOCOL, Outcome.UNKNOWN),
        (422, "account_key_limit", Kind.QUOTA, Outcome.NOT_APPLIED),
        (422, "idempotency_key_reused", Kind.CONFLICT, Outcome.UNKNOWN),
        (422, "other", Kind.INVALID_REQUEST, Outcome.NOT_APPLIED),
        (425, "", Kind.UNAVAILABLE, Outcome.UNKNOWN),
        (429, "rate_limit_exceeded", Kind.RATE_LIMITED, Outcome.NOT_APPLIED),
        (500, "internal_error", Kind.UNAVAILABLE, Outcome.UNKNOWN),
        (502, "upstream_error", Kind.UNAVAILABLE, Outcome.UNKNOWN),
        (503, "unavailable", Kind.UNAVAILABLE, Outcome.UNKNOWN),
        (504, "upstream_timeout", Kind.UNAVAILABLE, Outcome.UNKNOWN),
        (599, "", Kind.UNAVAILABLE, Outcome.UNKNOWN),
        (301, "", Kind.CONFIG, Outcome.UNKNOWN),
        (307, "", Kind.CONFIG, Outcome.UNKNOWN),
        (202, "", Kind.PROTOCOL, Outcome.UNKNOWN),
        (204, "", Kind.PROTOCOL, Outcome.UNKNOWN),
    ],
)
def test_a_refused_mint_has_the_tables_kind_and_outcome(
    status: int, code: str, kind: Kind, outcome: Outcome
) -> None:
    error = refused(status, code)
    assert (error.kind, error.outcome, error.http_status) == (kind, outcome, status)
    assert error.upstream_code == code


@pytest.mark.parametrize("call", [Call.REVOKE, Call.EXTEND])
def test_a_key_not_found_is_told_from_a_path_not_found(call: Call) -> None:
    assert refused(404, "key_not_found", call=call).kind is Kind.NOT_FOUND
    assert refused(404, "not_found", call=call).kind is Kind.CONFIG
    page = response(404, b"<html>key_not_found</html>", media_type=b"text/html")
    assert classify.of_response(page, call, VERDICTS, now=NOW).kind is Kind.CONFIG


@settings(deadline=None)
@given(status=st.integers(300, 599), code=st.sampled_from([code for _, code in VERDICTS]))
def test_a_code_counts_only_with_its_own_status(status: int, code: str) -> None:
    error = refused(status, code)
    if (status, code) not in VERDICTS:
        assert (error.kind, error.outcome) == (refused(status).kind, refused(status).outcome)


def test_a_server_error_is_not_applied_only_when_the_relay_says_so() -> None:
    assert refused(503, "unavailable", (b"X-Not-Applied", b"1")).outcome is Outcome.NOT_APPLIED
    assert refused(503, "unavailable", (b"X-Not-Applied", b"0")).outcome is Outcome.UNKNOWN
    assert refused(500, "internal_error", (b"X-Not-Applied", b"1")).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("status", [202, 302, 400, 409, 429, 500, 503])
def test_a_call_that_changes_nothing_is_never_applied(status: int) -> None:
    assert refused(status, call=Call.READ).outcome is Outcome.NOT_APPLIED
    error = classify.of_exception(failure(httpx.ReadTimeout, "slow", sent=True), Call.READ)
    assert error.outcome is Outcome.NOT_APPLIED


@pytest.mark.parametrize(
    ("exception", "sent", "kind", "outcome"),
    [
        (httpx.ConnectError, False, Kind.UNAVAILABLE, Outcome.NOT_APPLIED),
        (httpx.ConnectTimeout, False, Kind.UNAVAILABLE, Outcome.NOT_APPLIED),
        (httpx.WriteError, False, Kind.UNAVAILABLE, Outcome.NOT_APPLIED),
        (httpx.PoolTimeout, False, Kind.TIMEOUT, Outcome.NOT_APPLIED),
        (httpx.LocalProtocolError, False, Kind.CONFIG, Outcome.NOT_APPLIED),
        (httpx.UnsupportedProtocol, False, Kind.CONFIG, Outcome.NOT_APPLIED),
        (httpx.WriteError, True, Kind.TIMEOUT, Outcome.UNKNOWN),
        (httpx.WriteTimeout, True, Kind.TIMEOUT, Outcome.UNKNOWN),
        (httpx.ReadTimeout, True, Kind.TIMEOUT, Outcome.UNKNOWN),
        (httpx.ReadError, True, Kind.TIMEOUT, Outcome.UNKNOWN),
        (httpx.RemoteProtocolError, True, Kind.PROTOCOL, Outcome.UNKNOWN),
    ],
)
def test_a_mint_without_an_answer_is_unknown_once_a_byte_was_sent(
    exception: type[httpx.TransportError], sent: bool, kind: Kind, outcome: Outcome
) -> None:
    error = classify.of_exception(failure(exception, "why", sent=sent), Call.MINT)
    assert (error.kind, error.outcome, error.safe_message) == (kind, outcome, "why")


def test_an_exception_that_does_not_say_whether_bytes_were_sent_is_unknown() -> None:
    assert classify.of_exception(httpx.ConnectError("x"), Call.MINT).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"7", 7.0),
        (b" 7 ", 7.0),
        (b"0", 0.0),
        (b"99999999999999999999", classify.MAX_RETRY_AFTER),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True).encode(), 30.0),
        (format_datetime(NOW - timedelta(seconds=30), usegmt=True).encode(), 0.0),
        (b"-5", None),
        (b"soon", None),
        (b"1e9", None),
        (b"Thu, 99 Foo 2026 00:00:00 GMT", None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_both_forms_and_bounded(value: bytes | None, seconds: float | None) -> None:
    headers = () if value is None else ((b"Retry-After", value),)
    assert refused(429, "rate_limit_exceeded", *headers).retry_after == seconds


def test_the_relays_words_reach_the_message_with_code_and_request_id() -> None:
    error = refused(403, "insufficient_scope", (b"X-Request-Id", b"req_01"))
    assert error.safe_message == "the relay answered 403 insufficient_scope: said so"
    assert str(error) == error.safe_message
    assert error.request_id == "req_01"


def test_no_secret_passes_through_a_message() -> None:
    key = SecretString("a-management-key-of-no-known-pattern")
    body = {
        "error": {
            "code": key.reveal(),
            "message": f"{key.reveal()} and sk-holysheep-{'A' * 32} are no good " + "x" * 1000,
        }
    }
    error = classify.of_response(
        response(500, body, (b"X-Request-Id", key.reveal().encode())), Call.MINT, VERDICTS, now=NOW
    )
    shown = repr(vars(error))
    assert key.reveal() not in shown
    assert "AAAA" not in shown
    assert error.safe_message.count(REDACTED) == 2
    assert len(error.safe_message) == classify.MAX_MESSAGE


def test_a_secret_at_the_cut_of_a_long_message_is_not_left_in_half() -> None:
    key = SecretString("Qj7x" * 750)
    # Redaction shortens what stands before, so that what stands at the cut comes into sight.
    assert "Qj7x" not in classify.clean((key.reveal() + " ") * 20)


def test_a_message_is_one_line_of_printable_text() -> None:
    assert classify.clean("a\r\nb\x1b[31m\tc\u2028d\x00") == "a b [31m c d"


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (b"<html></html>", b"text/html"),
        (b"{}", b"text/html"),
        (b"{}", b""),
        (b"[]", b"application/json"),
        (b'"x"', b"application/json"),
        (b"", b"application/json"),
        (b'{"a":1', b"application/json"),
        (b'{"a":NaN}', b"application/json"),
        (b'{"a":Infinity}', b"application/json"),
        (b"\xff\xfe{\x00}\x00", b"application/json"),
        (b'\xef\xbb\xbf{"a":1}', b"application/json"),
        (b'{"a":"\xff"}', b"application/json"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, b"application/json"),
        (b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}", b"application/json"),
        (b'{"a":' + b"9" * 5000 + b"}", b"application/json"),
    ],
)
def test_what_is_no_plain_json_object_is_refused(body: bytes, media_type: bytes) -> None:
    with pytest.raises(ValueError, match=r"^it is "):
        classify.json_object(response(200, body, media_type=media_type))


def test_compressed_json_is_refused() -> None:
    with pytest.raises(ValueError, match="compressed"):
        classify.json_object(response(200, {}, (b"Content-Encoding", b"gzip")))


@pytest.mark.parametrize(
    "value",
    [
        {"a": [{"b": "c"}] * 200},
        {"a": "[" * 500 + '\\"' + "{" * 500},
        {"a": json.loads("[" * 31 + "]" * 31)},
    ],
)
def test_many_brackets_are_not_taken_for_deep_ones(value: Any) -> None:
    assert classify.json_object(response(200, value)) == value


@pytest.mark.parametrize("value", ["key_01JABC", "a", "a.b:c-d_e", "x" * 128])
def test_a_key_id_is_taken_when_it_fits_a_path(value: str) -> None:
    assert classify.key_id_of(value) == value


@pytest.mark.parametrize(
    "value", ["", ".", "..", "../x", "a/b", "a b", "a%2Fb", "a?b", "é", "x" * 129, "a\n", 5, None]
)
def test_a_key_id_that_could_lead_elsewhere_is_none(value: Any) -> None:
    assert classify.key_id_of(value) == ""


def test_a_key_id_that_is_the_key_itself_is_none() -> None:
    key = SecretString("a-minted-key-of-no-known-pattern")
    assert classify.key_id_of(key.reveal()) == ""


def test_the_key_that_stands_in_the_way_is_named() -> None:
    body = {"error": {"code": "name_conflict", "message": "taken", "existing_id": "key_01"}}
    assert classify.of_response(response(409, body), Call.MINT, VERDICTS, now=NOW).key_id == "key_01"
