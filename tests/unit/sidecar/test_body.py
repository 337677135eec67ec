"""A body is read once and strictly; whatever is no plain object of bounded size is a 400 before any token is looked at."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aikeys.framework.response import InvalidRequest
from aikeys.sidecar.body import MAX_DEPTH, MAX_ENTRIES, MAX_STRING_BYTES, read_fields
from aikeys.sidecar.envelope import to_json

FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("body", [b"", b"   \n", b"null", b" null ", b"{}"])
def test_nothing_null_and_an_empty_object_are_no_fields(body: bytes) -> None:
    assert read_fields(body) == {}


def test_numbers_keep_their_exact_value() -> None:
    fields = read_fields(b'{"a": 5.10, "b": 3, "c": 1e2, "d": -0.1}')
    assert fields == {"a": Decimal("5.10"), "b": 3, "c": Decimal("1e2"), "d": Decimal("-0.1")}
    assert isinstance(fields["a"], Decimal)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"[1]", "json: cannot unmarshal array into Go value of type map[string]interface {}"),
        (b'"x"', "json: cannot unmarshal string into Go value of type map[string]interface {}"),
        (b"1", "json: cannot unmarshal number into Go value of type map[string]interface {}"),
        (b"true", "json: cannot unmarshal bool into Go value of type map[string]interface {}"),
        (b'{"a":', "unexpected EOF"),
        (b'{"a":"x', "unexpected EOF"),
        (b"{", "unexpected EOF"),
        (b"{a:1}", "invalid character 'a' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b":2}', "invalid character '\"' after object key:value pair"),
        (b'{"a":NaN}', "invalid character 'N' looking for beginning of value"),
        (b'{"a":-Infinity}', "invalid character 'I' looking for beginning of value"),
        (b'{"a":1}{"b":2}', "invalid character '{' after top-level value"),
        (b'{"a":1}x', "invalid character 'x' after top-level value"),
        (b"a=b", "invalid character 'a' looking for beginning of value"),
        (b'\xef\xbb\xbf{"a":1}', "invalid character '\\ufeff' looking for beginning of value"),
        (b'{"a":"\n"}', "invalid character '\\u000a' in string literal"),
        (b'{"a":1.5e400}', "json: cannot unmarshal number 1.5e400 into Go value of type float64"),
        (b'{"a":1,"a":2}', "duplicate key 'a' in object"),
        (b'{"x":{"a":1,"a":1}}', "duplicate key 'a' in object"),
        (b'{"a":' + b"1" * 101 + b"}", "JSON number value exceeds allowed length"),
        (b'{"a":0.' + b"1" * 101 + b"}", "JSON number value exceeds allowed length"),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "JSON input exceeds allowed nesting depth"),
        (b'{"a":' + b'{"b":' * 100_000, "JSON input exceeds allowed nesting depth"),
        (b'{"a":"' + b"x" * (MAX_STRING_BYTES + 1) + b'"}', "JSON string value exceeds allowed length"),
        (b'{"' + b"x" * (MAX_STRING_BYTES + 1) + b'":1}', "JSON string value exceeds allowed length"),
        (
            b'{"a":"' + "é".encode() * (MAX_STRING_BYTES // 2 + 1) + b'"}',
            "JSON string value exceeds allowed length",
        ),
        (json.dumps({"a": [0] * (MAX_ENTRIES + 1)}).encode(), "JSON array exceeds allowed element count"),
        (
            json.dumps({str(i): 0 for i in range(MAX_ENTRIES + 1)}).encode(),
            "JSON object exceeds allowed entry count",
        ),
    ],
)
def test_what_is_no_plain_object_is_refused_with_the_servers_words(body: bytes, problem: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_fields(body)
    assert refused.value.status == 400
    assert refused.value.texts() == [f"failed to decode JSON input: {problem}"]


def test_the_largest_allowed_shapes_are_read() -> None:
    deep = b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"}"
    assert "a" in read_fields(deep)
    assert read_fields(b'{"a":"' + b"x" * MAX_STRING_BYTES + b'"}')["a"] == "x" * MAX_STRING_BYTES
    assert len(read_fields(json.dumps({"a": [0] * MAX_ENTRIES}).encode())["a"]) == MAX_ENTRIES


def test_brackets_and_quotes_inside_strings_count_for_nothing() -> None:
    tricky = {"a": "[" * 400 + '"{' * 400, "b\\": "\\"}
    assert read_fields(json.dumps(tricky).encode()) == tricky


def test_bytes_that_are_no_utf8_and_half_pairs_become_the_replacement_character() -> None:
    assert read_fields(b'{"a":"\xff"}') == {"a": "\ufffd"}
    fields = read_fields(b'{"a":"\\ud800x", "b":["\\udfff"], "c":"\\ud83d\\ude00"}')
    assert fields == {"a": "\ufffdx", "b": ["\ufffd"], "c": "\U0001f600"}
    assert to_json(fields)


@pytest.mark.parametrize(
    ("body", "content_type", "fields"),
    [
        (b"a=b&c=d", FORM, {"a": "b", "c": "d"}),
        (b"a=b&a=c&a=d", FORM + "; charset=utf-8", {"a": ["b", "c", "d"]}),
        (b"a=", FORM, {"a": ""}),
        (b'{"a":1}', FORM, {"a": 1}),
    ],
)
def test_a_form_is_read_unless_it_looks_like_json(
    body: bytes, content_type: str, fields: dict[str, Any]
) -> None:
    assert read_fields(body, content_type) == fields


def test_a_form_with_too_many_fields_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        read_fields(b"&".join(b"a=b" for _ in range(MAX_ENTRIES + 1)), FORM)


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**15), 10**15) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(max_size=8), values, max_size=6), st.booleans())
def test_every_object_of_ordinary_size_is_read_as_it_was_written(
    fields: dict[str, Any], ascii_only: bool
) -> None:
    assert read_fields(json.dumps(fields, ensure_ascii=ascii_only).encode()) == fields


@given(st.binary(max_size=60))
def test_no_body_makes_anything_but_fields_or_a_400(body: bytes) -> None:
    try:
        fields = read_fields(body)
    except InvalidRequest as refused:
        fields = {"errors": refused.texts()}
    assert to_json(fields)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":"' + b'\\"' * 2_000_000 + b"\\",
        b'{"a":' + b'"' * 4_000_001,
        b"[" + b"[]," * 3_000_000,
        b'{"a":[' + b'"",' * 3_000_000,
        b'{"a":' + b"1" * 8_000_000,
        b"{" * 8_000_000,
        b'"\\' * 4_000_000,
    ],
)
def test_a_large_hostile_body_is_refused_in_a_moment(body: bytes) -> None:
    """Anybody may send one: it is read before the token is looked at."""
    start = time.process_time()
    with pytest.raises(InvalidRequest):
        read_fields(body)
    assert time.process_time() - start < 2.0
