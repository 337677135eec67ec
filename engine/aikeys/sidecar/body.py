"""A request's body, read once and strictly. Pure.

The bounds are Vault's own (listener options `max_json_*` and their defaults), the strictness too: a repeated key, a
second value behind the object or a number that is none is refused. The status is 400 throughout: Vault answers
some of these 500, which its clients repeat.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from aikeys.framework.response import InvalidRequest

FORM = "application/x-www-form-urlencoded"
MERGE_PATCH = "application/merge-patch+json"

MAX_DEPTH = 300
MAX_STRING_BYTES = 1024 * 1024
MAX_ENTRIES = 10_000
MAX_NUMBER_LENGTH = 100
MAX_TOKENS = 500_000

_GO_TYPES = {list: "array", str: "string", bool: "bool", int: "number", float: "number", Decimal: "number"}
_GO_CONTEXT = (
    ("Expecting property name", "looking for beginning of object key string"),
    ("Expecting ':'", "after object key"),
    ("Expecting ','", "after object key:value pair"),
    ("Illegal trailing comma", "looking for beginning of value"),
    ("Extra data", "after top-level value"),
    ("Invalid control character", "in string literal"),
    ("Invalid \\", "in string escape code"),
    ("Expecting value", "looking for beginning of value"),
    ("Unexpected UTF-8 BOM", "looking for beginning of value"),
)
_LITERALS = {"n": "null", "t": "true", "f": "false"}
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
# A string (also one that never ends), or one character of structure outside of strings. No step is ever taken back,
# so that the time is linear in the length whatever the text is.
_STRUCTURE = re.compile(r'"(?:[^"\\]++|\\.?)*+(?:"|\Z)|[\[\]{},:]', re.DOTALL)


class BodyError(InvalidRequest):
    """The body cannot be read as the object that Vault expects."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"failed to decode JSON input: {problem}")


def read_fields(body: bytes, content_type: str = "") -> dict[str, Any]:
    """The fields of a write. Empty, blank and `null` bodies are no fields. Raises `BodyError` (400).

    Numbers with a fraction or an exponent become `Decimal`, so that no money is rounded here.
    """
    stripped = body.strip(b" \t\r\n")
    if not stripped:
        return {}
    if stripped[:1] not in {b"{", b"["} and media_type(content_type) == FORM:
        return _read_form(stripped)
    return _read_json(stripped.decode("utf-8", "replace"))


def media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _read_form(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=MAX_ENTRIES)
    except ValueError as error:
        raise InvalidRequest(f"failed to read the form: {error}") from None
    return collect(pairs)


def collect(pairs: list[tuple[str, str]]) -> dict[str, Any]:
    """Go's url.Values as Vault reads them: one value is a string, several are a list."""
    fields: dict[str, Any] = {}
    for name, value in pairs:
        known = fields.get(name)
        if known is None:
            fields[name] = value
        elif isinstance(known, list):
            known.append(value)
        else:
            fields[name] = [known, value]
    return fields


def _read_json(text: str) -> dict[str, Any]:
    _check_structure(text)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_int=_integer,
            parse_float=_fraction,
            parse_constant=_constant,
        )
    except json.JSONDecodeError as error:
        raise BodyError(_in_go_words(error, text)) from None
    except RecursionError:
        raise BodyError("JSON input exceeds allowed nesting depth") from None
    if value is None:
        return {}
    if not isinstance(value, dict):
        kind = _GO_TYPES.get(type(value), "value")
        raise BodyError(f"json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
    for item in _lists(value):
        if len(item) > MAX_ENTRIES:
            raise BodyError("JSON array exceeds allowed element count")
    if "\\u" in text and isinstance(mended := _mended(value), dict):
        # Go reads half of a surrogate pair as the replacement character; no encoder of ours could write it.
        return mended
    return value


def _check_structure(text: str) -> None:
    """Depth, string sizes and the sheer number of tokens, before anything is built from the text."""
    if len(text) <= MAX_TOKENS and text.count("[") + text.count("{") <= MAX_DEPTH:
        # Too small for any bound to matter: nearly every body.
        return
    depth = 0
    for number, found in enumerate(_STRUCTURE.finditer(text)):
        token = found.group()
        if number >= MAX_TOKENS:
            raise BodyError("JSON payload exceeds allowed token count")
        if token in {"{", "["}:
            depth += 1
            if depth > MAX_DEPTH:
                raise BodyError("JSON input exceeds allowed nesting depth")
        elif token in {"}", "]"}:
            depth -= 1
        elif len(token) - 2 > MAX_STRING_BYTES // 4 and len(token.encode()) - 2 > MAX_STRING_BYTES:
            raise BodyError("JSON string value exceeds allowed length")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_ENTRIES:
        raise BodyError("JSON object exceeds allowed entry count")
    built: dict[str, Any] = {}
    for key, value in pairs:
        if key in built:
            raise BodyError(f"duplicate key '{key[:100]}' in object")
        built[key] = value
    return built


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_LENGTH:
        raise BodyError("JSON number value exceeds allowed length")
    return int(text)


def _fraction(text: str) -> Decimal:
    if len(text) > MAX_NUMBER_LENGTH:
        raise BodyError("JSON number value exceeds allowed length")
    number = Decimal(text)
    # What a float64 cannot hold is no number to Go either.
    if number.adjusted() > 308 and number:
        raise BodyError(f"json: cannot unmarshal number {text} into Go value of type float64")
    return number


def _constant(text: str) -> NoReturn:
    raise BodyError(f"invalid character '{text.lstrip('-')[0]}' looking for beginning of value")


def _lists(value: Any) -> Iterator[list[Any]]:
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            pending.extend(item.values())
        elif isinstance(item, list):
            yield item
            pending.extend(item)


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return _LONE_SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_mended(item) for item in value]
    return value


def _in_go_words(error: json.JSONDecodeError, text: str) -> str:
    if error.pos >= len(text) or error.msg.startswith("Unterminated"):
        return "unexpected EOF"
    if error.msg.startswith("Expecting value") and (literal := _LITERALS.get(text[error.pos])):
        return _broken_literal(text[error.pos :], literal)
    context = next((words for start, words in _GO_CONTEXT if error.msg.startswith(start)), error.msg)
    return f"invalid character {_quoted(text[error.pos])} {context}"


def _broken_literal(text: str, literal: str) -> str:
    """Go reads `null`, `true` and `false` letter by letter, and says at which one the text went another way."""
    for expected, character in zip(literal, text, strict=False):
        if character != expected:
            return (
                f"invalid character {_quoted(character)} in literal {literal} (expecting {_quoted(expected)})"
            )
    return "unexpected EOF"


def _quoted(character: str) -> str:
    if character in {"'", '"'}:
        return {"'": r"'\''", '"': "'\"'"}[character]
    return f"'{character}'" if character.isprintable() else f"'\\u{ord(character):04x}'"
