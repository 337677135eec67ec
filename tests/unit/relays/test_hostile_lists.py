"""A relay's list of keys is believed only as far as it can be: it may lie, repeat itself, or never end."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from tests.unit.relays.conftest import INTENT, KEY, NAME, Relay, failing, page, says
from tests.unit.transport.server import Received

from aikeys.framework.deadline import Deadline
from aikeys.relays.interface import (
    Kind,
    Outcome,
)


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
