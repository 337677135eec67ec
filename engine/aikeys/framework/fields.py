"""Typed fields with Vault's own coercions (sdk/framework/field_data.go over mapstructure's weak decoding).

What a client may send for a field, and the text it gets when it sends something else, is what OpenBao 2.7 does, with
two differences: a null counts as absent everywhere, and an error never repeats a value, since that may be a secret.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from aikeys.framework.durations import DurationError, IntegerError, in_int64, parse_duration
from aikeys.framework.money import MoneyError, check_money

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
# An empty text is false in weak decoding, though not for strconv.ParseBool.
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False", ""})
_NAME = re.compile(r"\w(([\w\-.]+)?\w)?", re.ASCII)
# Go's base-0 integers: 0x, 0b, 0o or a bare 0 in front, underscores between digits.
_GO_INTEGER = re.compile(
    r"[+-]?(?:0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO](?:_?[0-7])+|0(?:_?[0-7])*|[1-9](?:_?[0-9])*)"
)


class FieldType(enum.Enum):
    """Vault's field types; the value is what `path-help` prints."""

    STRING = "string"
    NAME = "name string"
    INT = "int"
    BOOL = "bool"
    DURATION = "duration (sec)"
    COMMA_STRINGS = "slice"
    KV_PAIRS = "keypair"
    MAP = "map"
    MONEY = "money"


class FieldError(ValueError):
    """One field's value cannot be read as its type.

    The text names the field, as Vault does: `error converting input for field "ttl": ...`.
    """


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a path (Vault: `framework.FieldSchema`).

    A `secret` one is never shown and is blanked before a request is shown to anybody else. `required`, `deprecated`
    and `allowed_values` only document: the handler is what checks. `query`: it may stand in the query of a read.
    """

    type: FieldType
    description: str
    default: Any = None
    required: bool = False
    secret: bool = False
    deprecated: bool = False
    query: bool = False
    allowed_values: tuple[str, ...] = ()

    def default_or_zero(self) -> Any:
        return _ZERO[self.type]() if self.default is None else self.default


@dataclass(frozen=True, slots=True)
class FieldData:
    """The input of one request: what the path captured and what was sent, coerced (Vault: `framework.FieldData`).

    `raw` is what was sent for the fields of the path, nulls included: a merge patch needs them.
    """

    fields: Mapping[str, Field]
    values: dict[str, Any]
    raw: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(
        cls, fields: Mapping[str, Field], data: Mapping[str, Any], captures: Mapping[str, str] | None = None
    ) -> FieldData:
        """Coerce everything that is known; unknown names are not an error here. Raises `FieldError`."""
        raw = {name: data[name] for name in fields if name in data}
        if captures:
            for name in captures:
                raw.pop(name, None)
        values = {
            name: convert(name, fields[name].type, value) for name, value in raw.items() if value is not None
        }
        if captures:
            values.update(captures)
        return cls(fields, values, raw)

    def __contains__(self, name: str) -> bool:
        """Whether the field was given, a null not counting."""
        return name in self.values

    def __getitem__(self, name: str) -> Any:
        """The value given, else the field's default, else its type's zero."""
        if name in self.values:
            return self.values[name]
        return self.fields[name].default_or_zero()

    def given(self) -> dict[str, Any]:
        """What was sent and is not null, without what the path captured, in the order of the schema."""
        return {name: self.values[name] for name in self.fields if name in self.raw and name in self.values}


def convert(name: str, kind: FieldType, value: Any) -> Any:
    """`value` as `kind`; raises `FieldError` with Vault's text.

    Results: str, int, bool, whole seconds, list of str, dict of str to str, dict; money as `money.check_money` says.
    """
    try:
        return _CONVERSIONS[kind](name, value)
    except (_Mismatch, DurationError, MoneyError) as error:
        raise FieldError(f'error converting input for field "{name}": {error}') from None


class _Mismatch(ValueError):
    pass


def _go_type(value: object) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, Mapping):
        return "map[string]interface {}"
    if isinstance(value, list | tuple):
        return "[]interface {}"
    return "json.Number"


def _unconvertible(expected: str, value: object, name: str = "") -> _Mismatch:
    return _Mismatch(f"'{name}' expected type '{expected}', got unconvertible type '{_go_type(value)}'")


def _is_scalar(value: object) -> bool:
    return isinstance(value, str | bool | int | float | Decimal)


def _text(value: object, name: str = "") -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "1" if value else "0"
    if isinstance(value, int | float | Decimal):
        return str(value)
    raise _unconvertible("string", value, name)


def _string(_name: str, value: object) -> str:
    return _text(value)


def _name_string(_name: str, value: object) -> str:
    text = _text(value)
    if not _NAME.fullmatch(text):
        raise _Mismatch("field does not match the formatting rules")
    return text


def _bool(_name: str, value: object) -> bool:
    if isinstance(value, bool):
        return value
    if not _is_scalar(value):
        raise _unconvertible("bool", value)
    text = _text(value)
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise _Mismatch("'' cannot parse value as 'bool': strconv.ParseBool: invalid syntax")


def _int(_name: str, value: object) -> int:
    if not _is_scalar(value):
        raise _unconvertible("int", value)
    text = _text(value) or "0"
    try:
        return _parse_go_integer(text)
    except IntegerError as error:
        raise _Mismatch(f"'' cannot parse value as 'int': strconv.ParseInt: {error}") from None


def _parse_go_integer(text: str) -> int:
    if not _GO_INTEGER.fullmatch(text):
        raise IntegerError("invalid syntax")
    sign = "-" if text.startswith("-") else ""
    digits = text.lstrip("+-").replace("_", "").lower()
    for prefix, base in (("0x", 16), ("0b", 2), ("0o", 8)):
        if digits.startswith(prefix):
            return in_int64(sign + digits[2:], base)
    return in_int64(sign + digits, 8 if digits.startswith("0") else 10)


def _duration(_name: str, value: object) -> int:
    seconds = parse_duration(value)
    if seconds < 0:
        raise _Mismatch(f"cannot provide negative value '{seconds}'")
    return seconds


def _lifted(value: object) -> list[Any]:
    """Weak decoding into a list: what is none becomes a list of one, an empty object an empty list."""
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, Mapping) and not value:
        return []
    return [value]


def _texts(items: list[Any]) -> tuple[list[str], list[str]]:
    """The items as texts (null is empty), and the complaints about those that are none."""
    texts, complaints = [], []
    for index, item in enumerate(items):
        try:
            texts.append("" if item is None else _text(item, f"[{index}]"))
        except _Mismatch as error:
            complaints.append(str(error))
    return texts, complaints


def _comma_strings(_name: str, value: object) -> list[str]:
    if value == "":
        return []
    if _is_scalar(value) and not isinstance(value, bool):
        value = _text(value).split(",")
    texts, complaints = _texts(_lifted(value))
    if complaints:
        listed = "\n".join(f"* {complaint}" for complaint in complaints)
        raise _Mismatch(f"{len(complaints)} error(s) decoding:\n\n{listed}")
    return [text.strip() for text in texts]


def _kv_pairs(name: str, value: object) -> dict[str, str]:
    objects = _objects(value)
    if objects is not None:
        merged = {str(key): item for part in objects for key, item in part.items()}
        texts, complaints = _texts(list(merged.values()))
        if not complaints:
            return dict(zip(merged, texts, strict=True))
    texts, complaints = _texts(_lifted(value))
    if complaints:
        raise _Mismatch("decoding failed due to the following error(s):\n\n" + "\n".join(complaints))
    pairs = {}
    for index, text in enumerate(texts):
        key, separator, rest = text.partition("=")
        if not key or not separator:
            raise _Mismatch(f'invalid key pair at index {index} in field "{name}"')
        pairs[key] = rest
    return pairs


def _objects(value: object) -> list[Mapping[str, Any]] | None:
    """Weak decoding into an object: an object, or a list of objects (nulls left out); None when it is neither."""
    if isinstance(value, Mapping):
        return [value]
    if not isinstance(value, list | tuple):
        return None
    if value and all(item is None for item in value):
        return []
    items = [item for item in value if not (item is None or item == [])]
    return items if all(isinstance(item, Mapping) for item in items) else None


def _map(_name: str, value: object) -> dict[str, Any]:
    objects = _objects(value)
    if objects is None:
        items = list(value) if isinstance(value, list | tuple) else []
        for index, item in enumerate(items):
            if not (item is None or item == [] or isinstance(item, Mapping)):
                raise _unconvertible("map[string]interface {}", item, f"[{index}]")
        raise _unconvertible("map[string]interface {}", value)
    return {str(key): item for part in objects for key, item in part.items()}


def _money(_name: str, value: object) -> str | dict[str, str]:
    return check_money(value)


_CONVERSIONS: dict[FieldType, Callable[[str, Any], Any]] = {
    FieldType.STRING: _string,
    FieldType.NAME: _name_string,
    FieldType.INT: _int,
    FieldType.BOOL: _bool,
    FieldType.DURATION: _duration,
    FieldType.COMMA_STRINGS: _comma_strings,
    FieldType.KV_PAIRS: _kv_pairs,
    FieldType.MAP: _map,
    FieldType.MONEY: _money,
}

_ZERO: dict[FieldType, Callable[[], Any]] = {
    FieldType.STRING: str,
    FieldType.NAME: str,
    FieldType.INT: int,
    FieldType.BOOL: bool,
    FieldType.DURATION: int,
    FieldType.COMMA_STRINGS: list,
    FieldType.KV_PAIRS: dict,
    FieldType.MAP: dict,
    FieldType.MONEY: lambda: None,
}
