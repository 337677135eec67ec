"""Durations as Vault reads and prints them.

Reading follows `parseutil.ParseDurationSecond` and Go's `time.ParseDuration`, their error texts included; printing
follows `humanDuration` (sdk/framework/lease.go). Inside the engine a duration is whole seconds.
"""

from __future__ import annotations

import re
from decimal import Decimal

INT64_MAX = 2**63 - 1
_INT64_LIMIT = 2**63
_DECIMAL = re.compile(r"[+-]?[0-9]+")
# Longer than any int64: told apart before `int()` meets its own limit on digits.
_MOST_DIGITS = 25
_SECOND = 1_000_000_000
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # the micro sign
    "\u03bcs": 1_000,  # the Greek letter mu
    "ms": 1_000_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
}
_OVERFLOW = "multiplication of durations resulted in overflow, one operand may be too large"


class DurationError(ValueError):
    """The value is no duration; the text is Vault's."""


class IntegerError(ValueError):
    """The text is no 64-bit integer; the message is the reason Go's strconv gives."""


def parse_duration(value: object) -> int:
    """`value` in whole seconds, cut toward zero.

    A number or a text of digits means seconds; other texts are Go durations ("1h30m", "1.5h") or whole days ("7d");
    an empty text is 0. A JSON number with a fraction is refused, as Vault does. Negative values are returned: whoever
    may not have one says so itself. Raises `DurationError`.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise DurationError("could not parse duration from input")
    text = value if isinstance(value, str) else str(value)
    if not text:
        return 0
    try:
        return _times(parse_int64(text), _SECOND)
    except IntegerError:
        pass
    if text.endswith("d"):
        try:
            days = parse_int64(text[:-1])
        except IntegerError as error:
            raise DurationError(f"strconv.ParseInt: parsing {quote(text[:-1])}: {error}") from None
        return _times(days, 86_400 * _SECOND)
    return _whole_seconds(_parse_go(text))


def go_duration(seconds: int) -> str:
    """Go's `Duration.String` for whole seconds: "0s", "1m40s", "1h0m0s"."""
    sign, rest = ("-", -seconds) if seconds < 0 else ("", seconds)
    hours, rest = divmod(rest, 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{sign}{hours}h{minutes}m{rest}s"
    return f"{sign}{minutes}m{rest}s" if minutes else f"{sign}{rest}s"


def format_duration(seconds: int) -> str:
    """The form of Vault's warnings, zero units dropped: "30m", "1m40s", "1h", "1h0m5s" as "1h5s"."""
    text = go_duration(seconds)
    if text.endswith("m0s"):
        text = text[:-2]
    return text.replace("h0m", "h", 1)


def parse_int64(text: str) -> int:
    """Go's `strconv.ParseInt(text, 10, 64)`; raises `IntegerError`."""
    if not _DECIMAL.fullmatch(text):
        raise IntegerError("invalid syntax")
    return in_int64(text, 10)


def in_int64(digits: str, base: int) -> int:
    """The number that `digits` (syntax already checked) spell, if 64 bits hold it; raises `IntegerError`."""
    significant = digits.lstrip("+-").lstrip("0")
    # 64 binary digits are the longest legal form.
    if len(significant) > (_MOST_DIGITS if base == 10 else 64):
        raise IntegerError("value out of range")
    number = int(digits, base)
    if not -_INT64_LIMIT <= number <= INT64_MAX:
        raise IntegerError("value out of range")
    return number


def quote(text: str) -> str:
    """Go's `strconv.Quote` for what may stand in an error text."""
    short = {'"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r"}
    short |= {"\t": "\\t", "\v": "\\v"}
    out = []
    for character in text:
        code = ord(character)
        if character in short:
            out.append(short[character])
        elif code < 0x20 or code == 0x7F:
            out.append(f"\\x{code:02x}")
        elif character.isprintable():
            out.append(character)
        else:
            out.append(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}")
    return '"' + "".join(out) + '"'


def _times(number: int, unit: int) -> int:
    nanoseconds = number * unit
    if not -_INT64_LIMIT <= nanoseconds <= INT64_MAX:
        raise DurationError(_OVERFLOW)
    return number * (unit // _SECOND)


def _whole_seconds(nanoseconds: int) -> int:
    return nanoseconds // _SECOND if nanoseconds >= 0 else -(-nanoseconds // _SECOND)


def _parse_go(text: str) -> int:
    """Nanoseconds by Go's `time.ParseDuration`, step by step, since its errors name the step."""
    invalid = DurationError(f"time: invalid duration {_quote_time(text)}")
    negative = text.startswith("-")
    rest = text[1:] if text[:1] in ("-", "+") else text
    if rest == "0":
        return 0
    if not rest:
        raise invalid
    total = 0
    while rest:
        whole, rest = _leading_digits(rest)
        fraction = ""
        point = rest.startswith(".")
        if point:
            fraction, rest = _leading_digits(rest[1:])
        if not whole and not fraction:
            raise invalid
        if len(whole.lstrip("0")) > _MOST_DIGITS or int(whole or "0") > _INT64_LIMIT:
            raise invalid
        name, rest = _leading_unit(rest)
        if not name:
            raise DurationError(f"time: missing unit in duration {_quote_time(text)}")
        unit = _UNITS.get(name)
        if unit is None:
            raise DurationError(f"time: unknown unit {_quote_time(name)} in duration {_quote_time(text)}")
        # Digits of the fraction beyond the 18th cannot change a nanosecond.
        total += int(whole or "0") * unit + int(fraction[:18] or "0") * unit // 10 ** len(fraction[:18])
        if total > _INT64_LIMIT:
            raise invalid
    if not negative and total > INT64_MAX:
        raise invalid
    return -total if negative else total


def _leading_digits(text: str) -> tuple[str, str]:
    end = 0
    while end < len(text) and "0" <= text[end] <= "9":
        end += 1
    return text[:end], text[end:]


def _leading_unit(text: str) -> tuple[str, str]:
    end = 0
    while end < len(text) and text[end] != "." and not "0" <= text[end] <= "9":
        end += 1
    return text[:end], text[end:]


def _quote_time(text: str) -> str:
    """The quoting of Go's time package: bytes outside printable ASCII as \\x.., quotes and backslashes escaped."""
    out = []
    for byte in text.encode("utf-8", "replace"):
        character = chr(byte)
        if byte >= 0x80 or byte < 0x20:
            out.append(f"\\x{byte:02x}")
        elif character in '"\\':
            out.append("\\" + character)
        else:
            out.append(character)
    return '"' + "".join(out) + '"'
