"""A token is dead only by the words of a Vault that knows no such token; whatever else is answered ends no lease."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.sidecar.conftest import answer

from aikeys.sidecar.exchange import Reply
from aikeys.sidecar.token_fate import LACKS_POLICY, Answer, Fate, fate_of, next_look, spent

INVALID = "1 error occurred:\n\t* invalid accessor\n\n"
DENIED = "1 error occurred:\n\t* permission denied\n\n"


def token(**changes: Any) -> dict[str, Any]:
    data = {
        "accessor": "a1", "expire_time": "2026-11-21T15:47:43.048922709Z", "num_uses": 0, "ttl": 600, "type": "service",
    }  # fmt: skip
    return {"data": {**data, **changes}}


def test_the_words_of_both_products_for_no_such_token_are_its_death() -> None:
    assert fate_of("a1", answer(400, {"errors": [INVALID]})) == Answer(Fate.DEAD)


def test_a_token_whose_last_use_is_spent_is_dead_before_it_is_revoked() -> None:
    assert fate_of("a1", answer(200, token(num_uses=-1, ttl=0))).fate is Fate.DEAD
    assert [spent({"num_uses": uses}) for uses in (-2, 0, 1, None)] == [True, False, False, False]


@pytest.mark.parametrize(
    ("data", "ttl"),
    [({}, 600), ({"ttl": 0}, 0), ({"ttl": 0, "expire_time": None}, None), ({"num_uses": 1}, 600)],
)
def test_a_token_that_is_told_of_lives(data: dict[str, Any], ttl: int | None) -> None:
    assert fate_of("a1", answer(200, token(**data))) == Answer(Fate.LIVES, ttl)


@pytest.mark.parametrize(
    "reply",
    [
        answer(400, {"errors": ["invalid accessor"]}),
        answer(400, {"errors": [INVALID, INVALID]}),
        answer(400, {"errors": ["1 error occurred:\n\t* missing accessor\n\n"]}),
        answer(400, {"errors": []}),
        answer(400),
        answer(403, {"errors": [INVALID]}),
        answer(404, {"errors": [INVALID]}),
        answer(500, {"errors": [INVALID]}),
        answer(200, {"errors": [INVALID]}),
        answer(200, {"data": None}),
        answer(200, {"data": {}}),
        answer(200, token(accessor="a2")),
        answer(200, token(accessor="a2", num_uses=-1)),
        answer(200, token(ttl="600")),
        answer(200, token(ttl=-1)),
        answer(200, token(ttl=True)),
        answer(200, [token()]),
        answer(204),
        answer(429, {"errors": ["rate limit quota exceeded"]}),
        answer(502, {"errors": []}),
        answer(503, {"errors": ["Vault is sealed"]}),
        Reply(400, b"<html>invalid accessor</html>"),
        Reply(200, b"not json"),
    ],
    ids=lambda reply: f"{reply.status}-{reply.body.decode()[:40]}",
)
def test_nothing_else_tells_anything_and_what_it_was_is_said(reply: Reply) -> None:
    found = fate_of("a1", reply)
    assert found.fate is Fate.UNKNOWN
    assert found.problem


def test_a_missing_right_is_named_with_its_line_of_the_policy() -> None:
    found = fate_of("a1", answer(403, {"errors": [DENIED]}))
    assert found.problem == LACKS_POLICY
    assert 'path "auth/token/lookup-accessor" { capabilities = ["update"] }' in found.problem


def test_the_next_look_comes_right_after_the_end_and_never_later_than_the_interval() -> None:
    assert next_look(Answer(Fate.LIVES, 5), 30) == 6
    assert next_look(Answer(Fate.LIVES, 0), 30) == 1
    assert next_look(Answer(Fate.LIVES, 29), 30) == 30
    assert next_look(Answer(Fate.LIVES, 2_764_800), 30) == 30
    assert next_look(Answer(Fate.LIVES, None), 30) == 30
