"""Durations are printed in the two forms Vault prints them in."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aikeys.framework.durations import DurationError, format_duration, go_duration, parse_duration, quote


@pytest.mark.parametrize(
    ("seconds", "as_go", "in_warnings"),
    [
        (0, "0s", "0s"),
        (1, "1s", "1s"),
        (58, "58s", "58s"),
        (60, "1m0s", "1m"),
        (100, "1m40s", "1m40s"),
        (1800, "30m0s", "30m"),
        (1798, "29m58s", "29m58s"),
        (3600, "1h0m0s", "1h"),
        (3605, "1h0m5s", "1h5s"),
        (3660, "1h1m0s", "1h1m"),
        (36000, "10h0m0s", "10h"),
        (2764800, "768h0m0s", "768h"),
        (-90, "-1m30s", "-1m30s"),
    ],
)
def test_a_duration_is_printed_as_go_and_as_vaults_warnings_do(
    seconds: int, as_go: str, in_warnings: str
) -> None:
    assert go_duration(seconds) == as_go
    assert format_duration(seconds) == in_warnings


@given(st.integers(min_value=-(10**9), max_value=9 * 10**9))
def test_what_is_printed_reads_back(seconds: int) -> None:
    assert parse_duration(go_duration(seconds)) == seconds
    assert parse_duration(format_duration(seconds)) == seconds
    assert parse_duration(seconds) == parse_duration(str(seconds)) == seconds


@given(st.text(max_size=20))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    with contextlib.suppress(DurationError):
        assert isinstance(parse_duration(text), int)


def test_a_negative_duration_is_read_for_whoever_may_have_one() -> None:
    assert parse_duration("-1h30m") == -5400
    assert parse_duration("-1500ms") == -1, "cut toward zero, as Go does"
    assert parse_duration(-5) == -5


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a", '"a"'),
        ('"\\', '"\\"\\\\"'),
        ("\n\x00\x7f", '"\\n\\x00\\x7f"'),
        ("\u00e9\u200b", '"\u00e9\\u200b"'),
    ],
)
def test_texts_are_quoted_as_strconv_does(text: str, quoted: str) -> None:
    assert quote(text) == quoted
