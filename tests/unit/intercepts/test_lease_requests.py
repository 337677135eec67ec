"""Only the upstream's own answer behind its access check lets a lease of ours be touched."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from aikeys.framework.durations import DurationError
from aikeys.sidecar.exchange import Reply
from aikeys.sidecar.intercepts.lease_requests import (
    Endpoint,
    FailingLease,
    LeaseRequest,
    as_prefix,
    go_time,
    listed_keys,
    merge_count,
    merge_failing,
    merged_keys,
    proves,
    shown_limit,
    touches,
)

LEASE = "ai-keys/creds/demo/D9D9CCNM368y6Ml8TI2095X5"


def reply(status: int, body: Any = None) -> Reply:
    return Reply(status, b"" if body is None else json.dumps(body).encode() + b"\n")


DENIED = reply(403, {"errors": ["1 error occurred:\n\t* permission denied\n\n"]})
NO_TOKEN = reply(403, {"errors": ["permission denied"]})
SEALED = reply(503, {"errors": ["Vault is sealed"]})
LIMITED = reply(429, {"errors": ['request path "sys/leases/renew": rate limit quota exceeded']})
UNSUPPORTED = reply(404, {"errors": ["1 error occurred:\n\t* unsupported path\n\n"]})
INVALID_LEASE = reply(400, {"errors": ["invalid lease"]})
NOT_FOUND = reply(400, {"errors": ["lease not found"]})
EMPTY_LIST = reply(404, {"errors": []})
KEYS = reply(200, {"data": {"keys": ["auth/"]}})
DONE, QUEUED = reply(204), reply(202)
LEASED = reply(200, {"lease_id": LEASE, "data": None})
BAD_INCREMENT = reply(400, {"errors": ["Field validation failed: error converting input"]})
WRAPPED = reply(200, {"data": None, "wrap_info": {"token": "s.x"}})
# A proxy's page, a truncated body, and look-alikes of proofs.
PAGE = Reply(204, b"<html>")
CUT = Reply(400, b'{"errors":["lease not fou')
TWO = reply(400, {"errors": ["lease not found", "and more"]})
BARE_404 = Reply(404, b"404 page not found\n")
FIVE_HUNDRED = reply(500, {"errors": ["lease not found"]})

ALL = [
    DENIED, NO_TOKEN, SEALED, LIMITED, UNSUPPORTED, INVALID_LEASE, NOT_FOUND, EMPTY_LIST, KEYS, DONE, QUEUED,
    LEASED, BAD_INCREMENT, WRAPPED, PAGE, CUT, TWO, BARE_404, FIVE_HUNDRED, Reply(200, b"")
]  # fmt: skip
PROOFS = {
    Endpoint.LOOKUP: [INVALID_LEASE],
    Endpoint.RENEW: [NOT_FOUND],
    Endpoint.REVOKE: [DONE, QUEUED],
    Endpoint.REVOKE_PREFIX: [DONE, QUEUED],
    Endpoint.REVOKE_FORCE: [DONE, QUEUED],
    Endpoint.LIST: [EMPTY_LIST, KEYS],
}


@pytest.mark.parametrize("endpoint", Endpoint)
def test_exactly_the_answer_about_an_unknown_lease_proves(endpoint: Endpoint) -> None:
    assert [answer for answer in ALL if proves(endpoint, answer)] == PROOFS[endpoint]


def test_the_keys_of_a_list_are_told_from_an_empty_one_and_from_neither() -> None:
    assert listed_keys(KEYS) == ["auth/"]
    assert listed_keys(EMPTY_LIST) == []
    assert [listed_keys(answer) for answer in (DENIED, BARE_404, UNSUPPORTED, WRAPPED)] == [None] * 4


@pytest.mark.parametrize(
    ("in_path", "fields", "named"),
    [
        ("", {"lease_id": LEASE}, LEASE),
        (LEASE, {}, LEASE),
        ("other/creds/x/1", {"lease_id": LEASE}, LEASE),
        (LEASE, {"lease_id": ""}, LEASE),
        (LEASE, {"lease_id": None}, LEASE),
        ("", {}, ""),
    ],
)
def test_the_lease_in_the_body_goes_before_the_one_in_the_path(
    in_path: str, fields: dict[str, Any], named: str
) -> None:
    for endpoint in (Endpoint.LOOKUP, Endpoint.RENEW, Endpoint.REVOKE):
        asked = LeaseRequest.of(endpoint, in_path, fields)
        assert asked is not None
        assert asked.lease_id == named


def test_a_prefix_is_the_one_of_the_path() -> None:
    asked = LeaseRequest.of(Endpoint.REVOKE_PREFIX, "ai-keys/creds", {"prefix": "other"})
    assert asked is not None
    assert asked.lease_id == "ai-keys/creds"


@pytest.mark.parametrize("value", [["a"], 5, {"x": 1}, True])
def test_a_lease_id_that_is_no_text_is_left_to_the_upstream(value: object) -> None:
    assert LeaseRequest.of(Endpoint.RENEW, "", {"lease_id": value}) is None


def test_what_is_sent_upstream_holds_the_same_names_and_no_foreign_value() -> None:
    fields = {"lease_id": LEASE, "increment": 60, "comment": "x" * 1000}
    asked = LeaseRequest.of(Endpoint.RENEW, "", fields)
    assert asked is not None
    assert asked.proof_body() == {"lease_id": LEASE, "increment": 60, "comment": ""}
    assert asked.warnings() == ["Endpoint ignored these unrecognized parameters: [comment]"]


def test_unknown_fields_are_reported_sorted_and_known_ones_not_at_all() -> None:
    asked = LeaseRequest.of(Endpoint.RENEW, LEASE, {"zz": 1, "aa": 2, "increment": None})
    assert asked is not None
    assert asked.warnings() == ["Endpoint ignored these unrecognized parameters: [aa zz]"]
    plain = LeaseRequest.of(Endpoint.LOOKUP, "", {"lease_id": LEASE})
    assert plain is not None
    assert plain.warnings() == []


@pytest.mark.parametrize(
    ("value", "seconds"), [(None, 0), (0, 0), (90, 90), ("90", 90), ("1h", 3600), ("", 0), ("1d", 86400)]
)
def test_an_increment_is_a_duration(value: object, seconds: int) -> None:
    asked = LeaseRequest.of(Endpoint.RENEW, LEASE, {"increment": value})
    assert asked is not None
    assert asked.increment() == seconds


@pytest.mark.parametrize("value", [-5, "-5s", "1.5", 1.5, True, [1]])
def test_what_is_no_increment_is_refused_even_if_the_upstream_let_it_pass(value: object) -> None:
    asked = LeaseRequest.of(Endpoint.RENEW, LEASE, {"increment": value})
    assert asked is not None
    with pytest.raises(DurationError):
        asked.increment()


@pytest.mark.parametrize(
    ("prefix", "mount", "expected"),
    [
        ("", "ai-keys/", True),
        ("ai-keys/", "ai-keys/", True),
        ("ai-keys/creds/demo/", "ai-keys/", True),
        ("team/", "team/ai-keys/", True),
        ("ai/", "ai-keys/", False),
        ("ai-keys-2/", "ai-keys/", False),
        ("auth/", "ai-keys/", False),
    ],
)
def test_a_prefix_touches_the_mounts_below_and_above_it(prefix: str, mount: str, expected: bool) -> None:
    assert touches(prefix, mount) is expected


def test_a_prefix_is_a_directory() -> None:
    assert [as_prefix(text) for text in ("", "a", "a/", "a/b")] == ["", "a/", "a/", "a/b/"]


def test_lists_of_both_sides_become_one_without_repetition() -> None:
    assert merged_keys(["auth/", "ai-keys/"], ["ai-keys/", "team/"]) == ["ai-keys/", "auth/", "team/"]


def test_counts_of_both_sides_add_up() -> None:
    theirs = {"lease_count": 3, "counts": {"database_1": 2, "kv_1": 1}}
    assert merge_count(theirs, {"kv_1": 2, "kv_2": 0}) == {
        "lease_count": 5,
        "counts": {"database_1": 2, "kv_1": 3},
    }
    assert merge_count({"lease_count": 0, "counts": {}}, {}) == {"lease_count": 0, "counts": {}}


def test_failing_leases_follow_the_upstreams_and_keep_to_the_limit() -> None:
    theirs = {"lease_count": 1, "leases": [{"lease_id": "db/x", "mount_id": "database_1", "error": "e"}]}
    ours = [
        FailingLease("ai-keys/creds/demo/1", "kv_1", "relay down"),
        FailingLease("ai-keys/2", "kv_1", "x"),
    ]

    whole = merge_failing(theirs, ours, 2, None)
    assert [lease["lease_id"] for lease in whole["leases"]] == ["db/x", "ai-keys/creds/demo/1", "ai-keys/2"]
    assert whole["leases"][1] == {
        "lease_id": "ai-keys/creds/demo/1", "mount_id": "kv_1", "error": "relay down"
    }  # fmt: skip
    assert whole["lease_count"] == 3
    assert len(merge_failing(theirs, ours, 2, 2)["leases"]) == 2


def test_the_limit_of_the_failing_leases_is_ten_thousand_unless_said() -> None:
    assert [shown_limit(value) for value in (None, "", "none", "7")] == [10_000, 10_000, None, 7]


def test_times_are_printed_as_go_prints_them() -> None:
    moment = datetime(2026, 11, 21, 7, 0, 30, 253_780, tzinfo=UTC)
    assert go_time(moment) == "2026-11-21T07:00:30.25378Z"
    assert go_time(moment.replace(microsecond=0)) == "2026-11-21T07:00:30Z"
    berlin = timezone(timedelta(hours=1))
    assert go_time(datetime(2026, 1, 1, 1, 0, 0, 5, tzinfo=berlin)) == "2026-01-01T00:00:00.000005Z"
