"""Inputs for one field of each type, as JSON texts, and what Vault makes of them.

The unit tests hold our coercions to these results; `tests/integration/test_field_coercions_match_openbao.py` asks a
real server the same questions, so that the table cannot drift from it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from aikeys.framework.fields import FieldType


@dataclass(frozen=True)
class Refused:
    """The end of the error text, after `error converting input for field "<name>": `."""

    text: str


OVERFLOW = Refused("multiplication of durations resulted in overflow, one operand may be too large")
NO_DURATION = Refused("could not parse duration from input")
NO_BOOL = Refused("'' cannot parse value as 'bool': strconv.ParseBool: invalid syntax")
NO_INT = Refused("'' cannot parse value as 'int': strconv.ParseInt: invalid syntax")
INT_RANGE = Refused("'' cannot parse value as 'int': strconv.ParseInt: value out of range")


def invalid(quoted: str) -> Refused:
    return Refused(f'time: invalid duration "{quoted}"')


def unit(name: str, quoted: str) -> Refused:
    return Refused(f'time: unknown unit "{name}" in duration "{quoted}"')


def unconvertible(expected: str, found: str, at: str = "") -> str:
    return f"'{at}' expected type '{expected}', got unconvertible type '{found}'"


DURATIONS: dict[str, Any] = {
    "0": 0,
    "5": 5,
    '"5"': 5,
    '"+5"': 5,
    '"007"': 7,
    '""': 0,
    '"0"': 0,
    '"-0"': 0,
    '"1h"': 3600,
    '"1h30m"': 5400,
    '"1h0m0s"': 3600,
    '"90s"': 90,
    '"1.5h"': 5400,
    '".5h"': 1800,
    '"1.h"': 3600,
    '"+1h"': 3600,
    '"1999ms"': 1,
    '"1\u00b5s"': 0,
    '"1\u03bcs"': 0,
    '"0.0000000001h"': 0,
    '"7d"': 604800,
    '"0d"': 0,
    '"2562047h"': 9223369200,
    "-5": Refused("cannot provide negative value '-5'"),
    '"-5"': Refused("cannot provide negative value '-5'"),
    '"-1d"': Refused("cannot provide negative value '-86400'"),
    '"-1h"': Refused("cannot provide negative value '-3600'"),
    '"-500ms"': 0,
    "5.5": Refused('time: missing unit in duration "5.5"'),
    '"1h30"': Refused('time: missing unit in duration "1h30"'),
    '"1.5d"': Refused('strconv.ParseInt: parsing "1.5": invalid syntax'),
    '"1h2d"': Refused('strconv.ParseInt: parsing "1h2": invalid syntax'),
    '"d"': Refused('strconv.ParseInt: parsing "": invalid syntax'),
    '"99999999999999999999d"': Refused(
        'strconv.ParseInt: parsing "99999999999999999999": value out of range'
    ),
    '"999999999d"': OVERFLOW,
    '"\\t\\"d"': Refused('strconv.ParseInt: parsing "\\t\\"": invalid syntax'),
    '"abc"': invalid("abc"),
    '" 5"': invalid(" 5"),
    '"h"': invalid("h"),
    '"-"': invalid("-"),
    '"."': invalid("."),
    '".s"': invalid(".s"),
    '"999999999999999999999"': invalid("999999999999999999999"),
    '"9223372036854775807s"': invalid("9223372036854775807s"),
    '"3000000h"': invalid("3000000h"),
    '"\\"\u00e9"': invalid('\\"\\xc3\\xa9'),
    '"5 "': unit(" ", "5 "),
    '"1H"': unit("H", "1H"),
    '"0x10"': unit("x", "0x10"),
    '"5_0"': unit("_", "5_0"),
    '"1h-5m"': unit("h-", "1h-5m"),
    '"1h\\n"': unit("h\\x0a", "1h\\x0a"),
    "99999999999": OVERFLOW,
    "true": NO_DURATION,
    "[5]": NO_DURATION,
    "{}": NO_DURATION,
}

BOOLS: dict[str, Any] = {
    "true": True,
    "false": False,
    "1": True,
    "0": False,
    **{f'"{word}"': True for word in ("1", "t", "T", "TRUE", "true", "True")},
    **{f'"{word}"': False for word in ("", "0", "f", "F", "FALSE", "false", "False")},
    **{f'"{word}"': NO_BOOL for word in ("tRue", "yes", "on", " true")},
    "2": NO_BOOL,
    "-1": NO_BOOL,
    "1.0": NO_BOOL,
    "[true]": Refused(unconvertible("bool", "[]interface {}")),
    "{}": Refused(unconvertible("bool", "map[string]interface {}")),
}

INTS: dict[str, Any] = {
    "5": 5,
    '"5"': 5,
    '"+7"': 7,
    '""': 0,
    "true": 1,
    "false": 0,
    '"0x10"': 16,
    '"0X1F"': 31,
    '"010"': 8,
    '"0o17"': 15,
    '"0b11"': 3,
    '"1_000"': 1000,
    '"0x_f"': 15,
    '"0_7"': 7,
    "2147483648": 2147483648,
    '"_1"': NO_INT,
    '"1__0"': NO_INT,
    '"1_"': NO_INT,
    '"0x"': NO_INT,
    '"08"': NO_INT,
    '" 5"': NO_INT,
    '"abc"': NO_INT,
    '"\u0665"': NO_INT,
    '"1.0"': NO_INT,
    "1.5": NO_INT,
    "1e3": NO_INT,
    "99999999999999999999": INT_RANGE,
    '"9223372036854775808"': INT_RANGE,
    "[5]": Refused(unconvertible("int", "[]interface {}")),
    "{}": Refused(unconvertible("int", "map[string]interface {}")),
}

STRINGS: dict[str, Any] = {
    '"x"': "x",
    '" x "': " x ",
    "5": "5",
    "-5": "-5",
    "1.5": "1.5",
    "0.1": "0.1",
    "true": "1",
    "false": "0",
    "[]": Refused(unconvertible("string", "[]interface {}")),
    '["a"]': Refused(unconvertible("string", "[]interface {}")),
    "{}": Refused(unconvertible("string", "map[string]interface {}")),
}

LISTS: dict[str, Any] = {
    '"a,b"': ["a", "b"],
    '"a, b ,c"': ["a", "b", "c"],
    '" a "': ["a"],
    '""': [],
    '","': ["", ""],
    '"a,,b"': ["a", "", "b"],
    '["a","b"]': ["a", "b"],
    '["a","a"]': ["a", "a"],
    '[" a ","b,c"]': ["a", "b,c"],
    '[1,true,null,"x",1.5]': ["1", "1", "", "x", "1.5"],
    "[]": [],
    "{}": [],
    "5": ["5"],
    "1.5": ["1.5"],
    "true": ["1"],
    '{"a":1}': Refused(
        "1 error(s) decoding:\n\n* " + unconvertible("string", "map[string]interface {}", "[0]")
    ),
    '["a",["b"]]': Refused("1 error(s) decoding:\n\n* " + unconvertible("string", "[]interface {}", "[1]")),
    "[{}]": Refused("1 error(s) decoding:\n\n* " + unconvertible("string", "map[string]interface {}", "[0]")),
}

_PAIRS = "decoding failed due to the following error(s):\n\n"
PAIRS: dict[str, Any] = {
    '{"a":"b"}': {"a": "b"},
    '{"a":1,"b":true,"c":null,"d":1.5}': {"a": "1", "b": "1", "c": "", "d": "1.5"},
    '["a=b","c=d=e"]': {"a": "b", "c": "d=e"},
    '["a="]': {"a": ""},
    '"a=b"': {"a": "b"},
    '"a=b,c=d"': {"a": "b,c=d"},
    '[{"a":"b"},{"c":"d"}]': {"a": "b", "c": "d"},
    "[]": {},
    "[[]]": {},
    "{}": {},
    '""': Refused('invalid key pair at index 0 in field "{name}"'),
    "5": Refused('invalid key pair at index 0 in field "{name}"'),
    "true": Refused('invalid key pair at index 0 in field "{name}"'),
    '["a"]': Refused('invalid key pair at index 0 in field "{name}"'),
    '["=b"]': Refused('invalid key pair at index 0 in field "{name}"'),
    '["a=b",5]': Refused('invalid key pair at index 1 in field "{name}"'),
    '[null,"a=b"]': Refused('invalid key pair at index 0 in field "{name}"'),
    '{"a":["x"]}': Refused(_PAIRS + unconvertible("string", "map[string]interface {}", "[0]")),
    '["a=b",{"c":"d"}]': Refused(_PAIRS + unconvertible("string", "map[string]interface {}", "[1]")),
    '["a",["b"]]': Refused(_PAIRS + unconvertible("string", "[]interface {}", "[1]")),
}

_OBJECT = "map[string]interface {}"
MAPS: dict[str, Any] = {
    '{"a":"b"}': {"a": "b"},
    '[{"a":"b"},{"c":"d"}]': {"a": "b", "c": "d"},
    "[]": {},
    "{}": {},
    '["a"]': Refused(unconvertible(_OBJECT, "string", "[0]")),
    '"x"': Refused(unconvertible(_OBJECT, "string")),
    "5": Refused(unconvertible(_OBJECT, "json.Number")),
    "true": Refused(unconvertible(_OBJECT, "bool")),
}

CASES: dict[FieldType, dict[str, Any]] = {
    FieldType.DURATION: DURATIONS,
    FieldType.BOOL: BOOLS,
    FieldType.INT: INTS,
    FieldType.STRING: STRINGS,
    FieldType.COMMA_STRINGS: LISTS,
    FieldType.KV_PAIRS: PAIRS,
    FieldType.MAP: MAPS,
}
ALL = [(kind, text, wanted) for kind, cases in CASES.items() for text, wanted in cases.items()]
IDS = [f"{kind.name.lower()}-{text}" for kind, text, _wanted in ALL]
