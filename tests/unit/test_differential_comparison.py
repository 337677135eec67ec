"""The differential run's own eye: it sees every difference that matters, and takes nothing else for one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.differential.allowed import ALLOWED, Case, allowed_by, render
from tests.differential.compare import PAST_MAX, Difference, Leeway, compare, passed, places, seconds_of
from tests.differential.memory import Lease, Memory, Token
from tests.differential.worlds import About, Answer, Ask, Kind, Names, World

PAGE = Path(__file__).resolve().parents[2] / "docs/differences.md"
HEADERS = {"content-type": "application/json", "cache-control": "no-store"}
CAPPED = 'TTL of "1h" exceeded the effective max_ttl of "{}"; TTL value is capped accordingly'
READ = Ask("GET", "m/creds/a", kind=Kind.CREDS)
RENEW = Ask("PUT", "sys/leases/renew", {"lease_id": "@lease-1@"})
LOOKUP = Ask("PUT", "sys/leases/lookup", {"lease_id": "@lease-1@"})


class Side(World):
    """One world that is never asked: it only names things."""

    def __init__(self, engine: str, ttl: str, lease_id: str) -> None:
        super().__init__("http://127.0.0.1:1", "root")
        self.engine, self.ttl = engine, ttl
        self.names.bind("@lease-1@", lease_id)


THEIRS = Side("database", "default_ttl", "m/creds/a/" + "A" * 24)
OURS = Side("ai-keys", "ttl", "m/creds/a/" + "b" * 24)


def envelope(side: Side, **changed: Any) -> dict[str, Any]:
    """What `side` answers about its lease."""
    return {
        "request_id": f"{side.engine[:2].encode().hex()}e15891c-f12c-f3bf-f785-ea386310cf2a"[-36:],
        "lease_id": side.names["@lease-1@"],
        "renewable": True,
        "lease_duration": 60,
        "data": None,
        "wrap_info": None,
        "warnings": None,
        "auth": None,
        **changed,
    }


def answer(
    body: Any, *, status: int = 200, end: str = "\n", at: float = 1000.1, header: tuple[str, str] = ("", "")
) -> Answer:
    content = b"" if body is None else (json.dumps(body) + end).encode()
    return Answer(status, HEADERS | dict([header]), content, at, at + 0.01)


def differences(ask: Ask, theirs: Answer, ours: Answer, leeway: Leeway | None = None) -> list[str]:
    """Where the two differ."""
    both = places(theirs, ask, THEIRS), places(ours, ask, OURS)
    return [found.where for found in compare(*both, leeway or Leeway())]


def test_ids_and_the_engines_own_data_are_no_difference() -> None:
    theirs = envelope(THEIRS, data={"username": "u", "password": "p"}, mount_type="database")
    ours = envelope(OURS, data={"api_key": "k"}, mount_type="ai-keys")

    assert differences(READ, answer(theirs), answer(ours)) == []


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"lease_duration": 61}, ["lease_duration"]),
        ({"lease_duration": 60.0}, ["lease_duration"]),
        ({"lease_duration": "60"}, ["lease_duration"]),
        ({"renewable": False}, ["renewable"]),
        ({"warnings": ["something"]}, ["warnings"]),
        ({"warnings": []}, ["warnings"]),
        ({"lease_id": "m/creds/a/" + "c" * 24}, ["lease_id"]),
        ({"lease_id": ""}, ["lease_id"]),
        ({"request_id": "1"}, ["request_id"]),
        ({"data": {}}, ["data"]),
        ({"more": 1}, ["*", "more"]),
    ],
)
def test_every_field_of_an_answer_is_compared(change: dict[str, Any], where: list[str]) -> None:
    ours = envelope(OURS, **change)

    assert differences(RENEW, answer(envelope(THEIRS)), answer(ours)) == where


def test_a_missing_warning_and_another_text_are_seen() -> None:
    warned = envelope(THEIRS, warnings=[CAPPED.format("58s")], lease_duration=58)
    silent = envelope(OURS, lease_duration=58)
    other = envelope(OURS, warnings=[CAPPED.format("58s").replace("exceeded", "exceeds")], lease_duration=58)

    assert differences(RENEW, answer(warned), answer(silent)) == ["warnings"]
    assert differences(RENEW, answer(warned), answer(other)) == ["warnings"]
    one, another = (
        answer({"errors": [text]}, status=400) for text in ("lease not found", "lease not found.")
    )
    assert differences(RENEW, one, another) == ["errors"]


@pytest.mark.parametrize(
    ("ours", "where"),
    [
        (answer({"errors": []}, status=400), ["status"]),
        (answer({"errors": []}, status=404, end=""), ["body"]),
        (answer({"errors": ["x"]}, status=404), ["errors"]),
        (answer(None, status=404), ["*", "body", "errors"]),
        (answer({"errors": []}, status=404, header=("content-type", "text/html")), ["header content-type"]),
        (answer({"errors": []}, status=404, header=("retry-after", "1")), ["header retry-after"]),
    ],
)
def test_status_headers_and_the_shape_of_the_body_are_compared(ours: Answer, where: list[str]) -> None:
    assert differences(RENEW, answer({"errors": []}, status=404), ours) == where


def test_the_order_of_fields_is_compared() -> None:
    turned = dict(reversed(envelope(OURS).items()))

    assert differences(RENEW, answer(envelope(THEIRS)), answer(turned)) == ["*"]


def view(side: Side, **changed: Any) -> dict[str, Any]:
    """The data of a look-up."""
    return {
        "expire_time": "2026-01-02T03:05:05.9Z",
        "id": side.names["@lease-1@"],
        "issue_time": "2026-01-02T03:04:05.9Z",
        "last_renewal": None,
        "renewable": True,
        "ttl": 58,
        **changed,
    }


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({}, []),
        ({"issue_time": "2026-01-02T04:04:05.1Z", "expire_time": "2026-01-02T04:05:05.1Z"}, []),
        ({"ttl": 57}, ["data.ttl"]),
        ({"expire_time": "2026-01-02T03:05:07Z"}, ["data.life"]),
        ({"last_renewal": "2026-01-02T03:04:05.9Z"}, ["data.last_renewal"]),
        ({"expire_time": "2026-01-02T03:05:05.900Z"}, ["data.expire_time"]),
        ({"expire_time": "2026-01-02T03:05:05.9+00:00"}, ["data.expire_time"]),
        ({"renewable": False}, ["data.renewable"]),
    ],
)
def test_a_look_up_is_compared_by_what_its_times_say(change: dict[str, Any], where: list[str]) -> None:
    theirs = envelope(THEIRS, lease_id="", data=view(THEIRS))
    ours = envelope(OURS, lease_id="", data=view(OURS, **change))

    assert differences(LOOKUP, answer(theirs), answer(ours)) == where


def test_lists_are_compared_by_what_they_hold_and_their_order() -> None:
    def listed(side: Side, *keys: str) -> Answer:
        return answer(envelope(side, lease_id="", data={"keys": list(keys)}))

    ask = Ask("LIST", "sys/leases/lookup/m/creds/a")
    two = listed(THEIRS, "A" * 24, "B" * 24)

    assert differences(ask, two, listed(OURS, "0" * 24, "z" * 24)) == []
    assert differences(ask, two, listed(OURS, "0" * 24)) == ["data.keys"]
    assert differences(ask, two, listed(OURS, "z" * 24, "0" * 24)) == ["data.keys"]
    assert differences(ask, two, listed(OURS, "0" * 24, "z" * 23)) == ["data.keys"]


def test_a_role_is_compared_by_its_ttls_in_either_words() -> None:
    ask = Ask("GET", "m/roles/a", kind=Kind.ROLE)
    theirs = answer(envelope(THEIRS, data={"db_name": "x", "default_ttl": 60, "max_ttl": 0}))

    assert differences(ask, theirs, answer(envelope(OURS, data={"ttl": 60}))) == []
    assert differences(ask, theirs, answer(envelope(OURS, data={"ttl": 61}))) == ["data.ttl"]
    refused = [f'error converting input for field "{side.ttl}": no' for side in (THEIRS, OURS)]
    one, another = (answer({"errors": [text]}, status=400) for text in refused)
    assert differences(ask, one, another) == []


# -- the leeway ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "ours", "seconds"),
    [(1000.1, 1000.2, 0), (1000.48, 1000.51, 1), (1000.9, 1001.1, 1), (1000.2, 1002.2, 4)],
)
def test_the_leeway_is_the_half_seconds_that_began_meanwhile(
    theirs: float, ours: float, seconds: int
) -> None:
    assert passed(answer(None, at=theirs), answer(None, at=ours)) == Leeway(seconds)


def test_only_numbers_that_count_down_have_leeway() -> None:
    def looked_up(side: Side, ttl: int) -> Answer:
        return answer(envelope(side, lease_id="", data=view(side, ttl=ttl)))

    def capped(side: Side, left: int) -> Answer:
        return answer(envelope(side, lease_duration=left, warnings=[CAPPED.format(f"{left}s")]))

    one = Leeway(1)
    assert differences(LOOKUP, looked_up(THEIRS, 58), looked_up(OURS, 57), one) == []
    assert differences(LOOKUP, looked_up(THEIRS, 58), looked_up(OURS, 56), one) == ["data.ttl"]
    assert differences(RENEW, capped(THEIRS, 58), capped(OURS, 57), one) == []
    assert differences(RENEW, capped(THEIRS, 58), capped(OURS, 57)) == ["lease_duration", "warnings"]
    assert differences(RENEW, capped(THEIRS, 58), capped(OURS, 56), one) == ["lease_duration", "warnings"]
    whole, less = answer(envelope(THEIRS, lease_duration=60)), answer(envelope(OURS, lease_duration=59))
    assert differences(RENEW, whole, less, one) == ["lease_duration"], "a TTL that nothing caps is exact"
    assert differences(RENEW, whole, less, Leeway(token_ends=True)) == []


def test_a_second_may_decide_whether_a_maximum_is_met_or_passed() -> None:
    free = answer(envelope(THEIRS, lease_duration=10))
    capped = answer(envelope(OURS, lease_duration=9, warnings=[CAPPED.replace("1h", "10s").format("9s")]))
    assert differences(RENEW, free, capped, Leeway(1)) == []
    assert differences(RENEW, free, capped) == ["lease_duration", "warnings"]

    silent = answer(envelope(OURS, lease_duration=10))
    warned = answer(envelope(THEIRS, lease_duration=10, warnings=[CAPPED.format("10s")]))
    assert differences(RENEW, warned, silent, Leeway(1)) == ["warnings"], "no second can explain that"

    past = answer({"errors": [PAST_MAX]}, status=400)
    last = answer(envelope(OURS, lease_duration=1, warnings=[CAPPED.format("1s")]))
    assert differences(RENEW, past, last, Leeway(1)) == []
    assert "status" in differences(RENEW, past, last)
    long = answer(envelope(OURS, lease_duration=5))
    assert "status" in differences(RENEW, past, long, Leeway(1))


@pytest.mark.parametrize(("text", "seconds"), [("58s", 58), ("1h40m", 6000), ("2h", 7200), ("1h1s", 3601)])
def test_durations_in_texts_are_read(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


# -- what is allowed ----------------------------------------------------------------------------------------------


def test_what_is_allowed_after_a_failed_revocation_is_not_allowed_otherwise() -> None:
    told = "failed to revoke entry: resp: (*logical.Response)(nil) err: "
    sides = [
        places(answer({"errors": [told + why]}, status=400), RENEW, side)
        for why, side in (("no such role", THEIRS), ("the relay is down", OURS))
    ]
    difference = Difference("errors", sides[0]["errors"], sides[1]["errors"])

    def named(about: About, *both: dict[str, Any]) -> str | None:
        ask = Ask("PUT", "sys/leases/revoke", about=about)
        return allowed_by(Case(ask, difference, *both))

    assert named(About.FAILED_REVOCATION, *sides) == "the provider's words"
    assert named(About.NOTHING, *sides) is None
    for text in ("could not revoke", f'failed to revoke "@lease-1@" (1 / 2): {told}the relay is down', told):
        assert named(About.FAILED_REVOCATION, sides[0], {**sides[1], "errors": [text]}) is None


def test_nothing_is_allowed_of_two_ordinary_answers() -> None:
    both = [places(answer(envelope(side)), RENEW, side) for side in (THEIRS, OURS)]
    for where in {*both[0], "data.ttl", "data.revoke_error", "wrap_info.creation_path"}:
        for ask in (RENEW, LOOKUP, READ):
            assert allowed_by(Case(ask, Difference(where, 1, 2), *both)) is None


def test_the_page_for_users_is_the_table() -> None:
    assert PAGE.read_text() == render(), (
        "write it again: python -m tests.differential.allowed > docs/differences.md"
    )
    assert len({entry.name for entry in ALLOWED}) == len(ALLOWED)


# -- names and ends -----------------------------------------------------------------------------------------------


def test_names_are_put_in_and_taken_out_again() -> None:
    names = Names()
    names.bind("@lease-1@", "m/creds/a/" + "x" * 24)
    names.bind("@lease-1.wrap@", "s." + "y" * 24)

    asked = {"lease_id": "@lease-1@", "list": ["@lease-1.wrap@", 5]}
    sent = names.resolve(asked)
    assert sent == {"lease_id": "m/creds/a/" + "x" * 24, "list": ["s." + "y" * 24, 5]}
    assert names.hide(json.dumps(sent)) == json.dumps(asked)
    with pytest.raises(KeyError):
        names.resolve("@lease-2@")
    names.forget()
    assert "@lease-1@" not in names


@pytest.mark.parametrize(
    ("end", "dying"),
    [
        (lambda memory: memory.token_ends("token-1"), ["token-1", "token-2", "token-3", "lease-1", "lease-2", "lease-3"]),
        (
            lambda memory: memory.token_ends("token-1", children_stay=True),
            ["token-1", "token-3", "lease-1", "lease-3"],
        ),
        (lambda memory: memory.token_ends("token-2"), ["token-2", "lease-2"]),
    ],
)  # fmt: skip
def test_what_ends_with_a_token_is_known(end: Callable[[Memory], None], dying: list[str]) -> None:
    memory = Memory()
    memory.tokens = {
        "token-1": Token("token-1"),
        "token-2": Token("token-2", parent="token-1"),
        "token-3": Token("token-3", parent="token-1", batch=True),
    }
    memory.leases = {f"lease-{n}": Lease(f"lease-{n}", token=f"token-{n}") for n in (1, 2, 3)}
    end(memory)
    assert [held.name for held in memory.due(0.0)] == dying


def test_an_end_is_that_of_the_world_where_it_comes_first_and_last() -> None:
    lease = Lease("lease-1")
    lease.ends((100.0, 100.2, 60), (100.1, 103.0, 60))
    assert (lease.first_end, lease.last_end) == (159.0, 163.0)
