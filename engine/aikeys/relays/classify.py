"""What a failed relay call means, on two axes: what went wrong, and what may have happened. Pure.

| Situation | kind | outcome of a mint |
|---|---|---|
| name, TCP, TLS or connect timeout: no byte was sent | unavailable | not applied |
| silence, reset or end after the first byte | timeout | unknown |
| an answer that is no HTTP, cut short or too large | protocol | unknown |
| a redirect (never followed) | config | unknown |
| 400 413 415 422 and the like | invalid_request | not applied |
| 401, 402, 403 | auth, quota, forbidden | not applied |
| 404 of a mint, 404 of a path | config | not applied |
| 404 of a key | not_found | not applied |
| 409 | conflict | unknown, where the relay's code does not say more |
| 408, 425, 500, 502, 504 and every other 5xx | unavailable | unknown |
| 503 | unavailable | unknown, not applied with `X-Not-Applied: 1` |
| 429 | rate_limited | not applied |
| 2xx that is not what was asked for | protocol | unknown |

A call that changes nothing is never applied. In doubt the outcome is unknown: that costs a look at the relay, while
a wrong "not applied" would cost an orphan.
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

import httpx

from aikeys.redaction import redactor
from aikeys.relays.interface import DriverError, Kind, Outcome
from aikeys.transport import RawResponse, request_was_sent

MAX_MESSAGE = 400
MAX_DEPTH = 32
# What an error text is read up to; the rest is cut at a gap, so that no half of a secret is left at the end.
_MAX_READ = 16 * 1024
# A relay that asks for more patience (seconds) is asked again all the same.
MAX_RETRY_AFTER = 3600.0

_CODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_LAST_WORD = re.compile(r"\S+\Z")

Verdict = tuple[Kind, Outcome]
Verdicts = Mapping[tuple[int, str], Verdict]


class Call(enum.Enum):
    """What was asked of the relay: the same answer means different things to different questions."""

    MINT = "mint"
    REVOKE = "revoke"
    EXTEND = "extend"
    READ = "read"


_BY_STATUS: Mapping[int, Verdict] = {
    400: (Kind.INVALID_REQUEST, Outcome.NOT_APPLIED),
    401: (Kind.AUTH, Outcome.NOT_APPLIED),
    402: (Kind.QUOTA, Outcome.NOT_APPLIED),
    403: (Kind.FORBIDDEN, Outcome.NOT_APPLIED),
    404: (Kind.CONFIG, Outcome.NOT_APPLIED),
    405: (Kind.CONFIG, Outcome.NOT_APPLIED),
    407: (Kind.CONFIG, Outcome.NOT_APPLIED),
    408: (Kind.UNAVAILABLE, Outcome.UNKNOWN),
    409: (Kind.CONFLICT, Outcome.UNKNOWN),
    410: (Kind.CONFIG, Outcome.NOT_APPLIED),
    411: (Kind.INVALID_REQUEST, Outcome.NOT_APPLIED),
    412: (Kind.CONFLICT, Outcome.NOT_APPLIED),
    413: (Kind.INVALID_REQUEST, Outcome.NOT_APPLIED),
    414: (Kind.INVALID_REQUEST, Outcome.NOT_APPLIED),
    415: (Kind.INVALID_REQUEST, Outcome.NOT_APPLIED),
    421: (Kind.CONFIG, Outcome.NOT_APPLIED),
    422: (Kind.INVALID_REQUEST, Outcome.NOT_APPLIED),
    425: (Kind.UNAVAILABLE, Outcome.UNKNOWN),
    428: (Kind.INVALID_REQUEST, Outcome.NOT_APPLIED),
    429: (Kind.RATE_LIMITED, Outcome.NOT_APPLIED),
    431: (Kind.INVALID_REQUEST, Outcome.NOT_APPLIED),
}


def of_exception(error: httpx.TransportError, call: Call) -> DriverError:
    """A call that got no answer."""
    if not request_was_sent(error):
        wrong_by_us = isinstance(error, httpx.LocalProtocolError | httpx.UnsupportedProtocol)
        kind = Kind.CONFIG if wrong_by_us else Kind.UNAVAILABLE
        if isinstance(error, httpx.PoolTimeout):
            kind = Kind.TIMEOUT
        return DriverError(kind, Outcome.NOT_APPLIED, clean(str(error)))
    kind = Kind.PROTOCOL if isinstance(error, httpx.ProtocolError) else Kind.TIMEOUT
    return DriverError(kind, _outcome(Outcome.UNKNOWN, call), clean(str(error)))


def of_response(
    response: RawResponse,
    call: Call,
    verdicts: Verdicts,
    *,
    now: datetime,
    message: str = "",
    key_id: str = "",
) -> DriverError:
    """An answer that is not the one asked for. `verdicts` are the relay's own, by status and code.

    `message` replaces the relay's. Its code counts only together with its status: a 500 stays unknown whatever it
    says of itself.
    """
    status = response.status
    error = _envelope(response)
    code = error.get("code")
    code = _harmless(code, _CODE)
    kind, outcome = verdicts.get((status, code)) or _by_status(response)
    if kind is Kind.NOT_FOUND and call is Call.MINT:
        kind = Kind.CONFIG
    if not message:
        said = error.get("message")
        if status < 300:
            message = "the relay's answer is not the JSON that was asked for"
        elif 300 <= status < 400:
            message = "the relay redirects, which is never followed: give its own address as base_url"
        else:
            message = said if isinstance(said, str) else ""
    whole = " ".join(filter(None, (f"the relay answered {status}", code))) + (
        f": {message}" if message else ""
    )
    return DriverError(
        kind,
        _outcome(outcome, call),
        clean(whole),
        retry_after=retry_after(response.header(b"retry-after"), now),
        http_status=status,
        upstream_code=code,
        request_id=_request_id(response),
        key_id=key_id or key_id_of(error.get("existing_id")),
    )


def protocol_error(response: RawResponse, call: Call, message: str, *, key_id: str = "") -> DriverError:
    """A 2xx that cannot be used: whatever was asked was probably done. `key_id` as in `DriverError`."""
    return DriverError(
        Kind.PROTOCOL,
        _outcome(Outcome.UNKNOWN, call),
        clean(f"the relay answered {response.status}, but {message}"),
        http_status=response.status,
        request_id=_request_id(response),
        key_id=key_id,
    )


def json_object(response: RawResponse) -> dict[str, Any]:
    """The answer's JSON object. ValueError, whose text names no content, when it is anything else."""
    media_type = (response.header(b"content-type") or b"").split(b";")[0].strip().lower()
    if media_type != b"application/json" and not media_type.endswith(b"+json"):
        raise ValueError("it is not labelled as JSON")
    if (response.header(b"content-encoding") or b"identity").strip().lower() != b"identity":
        raise ValueError("it is compressed, which was not asked for")
    body = response.body
    # Only a text with many brackets can be deep; all others need no second look.
    if body.count(b"{") + body.count(b"[") > MAX_DEPTH and _depth(body) > MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    try:
        value = _DECODER.decode(body.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(value, dict):
        raise ValueError("it is no JSON object")  # noqa: TRY004 - one error for all
    return value


def key_id_of(value: Any) -> str:
    """`value` if it can be a key's id: fit for a path, and no secret, since ids are shown and stored. Else ""."""
    return _harmless(value, _KEY_ID)


def retry_after(value: bytes | None, now: datetime) -> float | None:
    """Seconds to wait, at most an hour, from a Retry-After header in either of its forms; None when it says none."""
    text = (value or b"").decode("latin-1").strip()
    if not text:
        return None
    if text.isascii() and text.isdigit():
        return min(MAX_RETRY_AFTER, float(text[:9]))
    moment = http_date(text)
    return None if moment is None else min(MAX_RETRY_AFTER, max(0.0, (moment - now).total_seconds()))


def http_date(text: str) -> datetime | None:
    """An HTTP date as UTC."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def clean(text: str) -> str:
    """Without secrets, on one line, at most 400 characters. Redacted before it is cut."""
    if len(text) > _MAX_READ:
        text = _LAST_WORD.sub("", text[:_MAX_READ])
    text = _UNPRINTABLE.sub(" ", redactor.redact(text)).strip()
    return text if len(text) <= MAX_MESSAGE else text[: MAX_MESSAGE - 3] + "..."


def _by_status(response: RawResponse) -> Verdict:
    status = response.status
    if status < 300:
        return Kind.PROTOCOL, Outcome.UNKNOWN
    if status < 400:
        return Kind.CONFIG, Outcome.UNKNOWN
    if status == 503 and (response.header(b"x-not-applied") or b"").strip() == b"1":
        return Kind.UNAVAILABLE, Outcome.NOT_APPLIED
    if status >= 500:
        return Kind.UNAVAILABLE, Outcome.UNKNOWN
    return _BY_STATUS.get(status, (Kind.PROTOCOL, Outcome.UNKNOWN))


def _outcome(outcome: Outcome, call: Call) -> Outcome:
    return Outcome.NOT_APPLIED if call is Call.READ else outcome


def _envelope(response: RawResponse) -> dict[str, Any]:
    try:
        error = json_object(response).get("error")
    except ValueError:
        return {}
    return error if isinstance(error, dict) else {}


def _request_id(response: RawResponse) -> str:
    return _harmless((response.header(b"x-request-id") or b"").decode("latin-1").strip(), _REQUEST_ID)


def _harmless(value: Any, form: re.Pattern[str]) -> str:
    """`value` if it has this form and holds no secret, "" otherwise."""
    good = isinstance(value, str) and form.fullmatch(value) is not None and redactor.redact(value) == value
    return value if good else ""


def _depth(body: bytes) -> int:
    """The deepest nesting of brackets outside strings."""
    deepest = depth = 0
    for bracket in _BRACKETS.finditer(body):
        if bracket[0] in (b"{", b"["):
            depth += 1
            deepest = max(deepest, depth)
        elif bracket[0] in (b"}", b"]"):
            depth -= 1
    return deepest


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_refuse_constant)
# A string is taken as a whole, so that brackets in it do not count; an unfinished one too.
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*+"?|[\[\]{}]', re.DOTALL)
# It becomes a segment of a path: no dot segment, nothing that is a delimiter there.
_KEY_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.:-]{0,127}")
