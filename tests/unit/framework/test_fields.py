"""Fields are read with Vault's own coercions and refused in Vault's own words."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from tests.unit.framework.coercion_cases import ALL, IDS, Refused

from aikeys.framework.fields import Field, FieldData, FieldError, FieldType, convert


@pytest.mark.parametrize(("kind", "text", "wanted"), ALL, ids=IDS)
def test_a_field_is_read_as_vault_reads_it(kind: FieldType, text: str, wanted: Any) -> None:
    value = json.loads(text)
    if not isinstance(wanted, Refused):
        read = convert("field", kind, value)
        assert read == wanted
        assert type(read) is type(wanted)
        return
    with pytest.raises(FieldError) as refused:
        convert("field", kind, value)
    reason = wanted.text.replace("{name}", "field")
    assert str(refused.value) == f'error converting input for field "field": {reason}'


@pytest.mark.parametrize("good", ["a", "A_1", "a-b.c", "a..b", "9"])
def test_a_name_string_has_word_characters_at_both_ends(good: str) -> None:
    assert convert("n", FieldType.NAME, good) == good


@pytest.mark.parametrize("bad", ["", "-a", "a-", "a b", "\u00e9", "a\n"])
def test_a_name_string_of_another_form_is_refused(bad: str) -> None:
    with pytest.raises(FieldError, match="field does not match the formatting rules"):
        convert("n", FieldType.NAME, bad)


def test_a_number_keeps_its_digits_when_the_parser_keeps_them() -> None:
    assert convert("s", FieldType.STRING, Decimal("1.50")) == "1.50"
    assert convert("l", FieldType.COMMA_STRINGS, Decimal("1.50")) == ["1.50"]


def test_a_number_of_thousands_of_digits_is_out_of_range_and_no_crash() -> None:
    with pytest.raises(FieldError, match="value out of range"):
        convert("n", FieldType.INT, "9" * 5000)
    with pytest.raises(FieldError, match="invalid duration"):
        convert("d", FieldType.DURATION, "9" * 5000 + "s")
    with pytest.raises(FieldError, match="value out of range"):
        convert("d", FieldType.DURATION, "9" * 5000 + "d")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (FieldType.BOOL, "hunter2-secret"),
        (FieldType.INT, "hunter2-secret"),
        (FieldType.COMMA_STRINGS, [{"key": "hunter2-secret"}]),
        (FieldType.KV_PAIRS, ["hunter2-secret"]),
        (FieldType.MAP, "hunter2-secret"),
        (FieldType.NAME, "hunter2 secret"),
        (FieldType.MONEY, "hunter2-secret"),
        (FieldType.MONEY, {"limit": "hunter2-secret"}),
    ],
)
def test_an_error_never_repeats_the_value(kind: FieldType, value: Any) -> None:
    with pytest.raises(FieldError) as refused:
        convert("field", kind, value)
    assert "hunter2" not in str(refused.value)


FIELDS = {
    "name": Field(FieldType.STRING, "captured"),
    "ttl": Field(FieldType.DURATION, "with a default", default=60),
    "models": Field(FieldType.COMMA_STRINGS, "a list"),
    "pairs": Field(FieldType.KV_PAIRS, "pairs"),
    "budget": Field(FieldType.MONEY, "money"),
}


def test_a_null_counts_as_absent() -> None:
    data = FieldData.of(FIELDS, {"ttl": None, "models": None})

    assert "ttl" not in data
    assert data["ttl"] == 60
    assert data["models"] == []
    assert data.given() == {}
    assert data.raw == {"ttl": None, "models": None}, "a merge patch still sees the nulls"


def test_what_the_path_captured_wins_over_the_body_and_is_not_what_was_given() -> None:
    data = FieldData.of(FIELDS, {"name": ["not", "a", "name"], "ttl": "1h"}, {"name": "demo"})

    assert data["name"] == "demo"
    assert data.given() == {"ttl": 3600}


def test_unknown_fields_are_not_an_error() -> None:
    assert FieldData.of(FIELDS, {"zzz": object()}).given() == {}


def test_a_zero_list_is_fresh_each_time() -> None:
    FieldData.of(FIELDS, {})["models"].append("leaked")

    assert FieldData.of(FIELDS, {})["models"] == []
