"""A query as Go's servers read it, because their policies judge what the engine acts on."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aikeys.sidecar.exchange import Exchange, read_query


@pytest.mark.parametrize(
    ("query", "pairs"),
    [
        ("", []),
        ("a=1&b", [("a", "1"), ("b", "")]),
        ("a=1&a=2", [("a", "1"), ("a", "2")]),
        ("%61=%31+2", [("a", "1 2")]),
        ("a=b=c&=d", [("a", "b=c"), ("", "d")]),
        ("ttl=1h;x&b=2", [("b", "2")]),
        ("a;ttl=1h", []),
        ("ttl=%zz&b=2", [("b", "2")]),
        ("t%tl=1&%=2&a=%4", []),
        ("&&a=1&", [("a", "1")]),
    ],
)
def test_a_pair_with_a_semicolon_or_a_broken_escape_is_no_pair(
    query: str, pairs: list[tuple[str, str]]
) -> None:
    assert read_query(query) == pairs


def test_a_flag_in_a_pair_that_the_server_drops_is_not_set() -> None:
    exchange = Exchange("GET", "ai-keys/roles", "/v1/ai-keys/roles", "list=true;x&list=%zz", [])
    assert exchange.list_flag is None


@given(st.text(st.sampled_from("a1=&;%+4x"), max_size=20))
def test_what_is_read_was_there(query: str) -> None:
    assert set(read_query(query)) <= set(parse_qsl(query, keep_blank_values=True))
