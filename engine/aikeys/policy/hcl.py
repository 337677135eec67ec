"""HCL as a small document with line numbers: literal values only, nothing that would have to be computed.

Both servers read policies with HCL's first version, python-hcl2 reads the second. What only one of the two knows
(expressions, interpolation, `null`, heredocs, `key: value`, a line break inside a text) is an error here, so that a
file means the same to this reader and to the servers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import hcl2
from hcl2.rules.abstract import LarkElement
from hcl2.rules.base import AttributeRule, BlockRule, BodyRule
from hcl2.rules.containers import ObjectElemRule, ObjectRule, TupleRule
from hcl2.rules.expressions import ExprTermRule, UnaryOpRule
from hcl2.rules.literal_rules import FloatLitRule, IdentifierRule, IntLitRule, LiteralValueRule
from hcl2.rules.strings import StringPartRule, StringRule
from hcl2.utils import process_escape_sequences
from lark.exceptions import LarkError, UnexpectedInput

from aikeys.errors import AikeysError

Value = str | int | float | bool | list["Value"] | dict[str, "Value"]


class PolicyError(AikeysError):
    """A policy or AppRole file is wrong: `file:line: what is wrong and what is allowed`."""

    def __init__(self, file: str, line: int, problem: str) -> None:
        super().__init__(f"{file}:{line}: {problem}")
        self.file = file
        self.line = line
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Attribute:
    value: Value
    line: int


@dataclass(frozen=True, slots=True)
class Block:
    """`kind "label" { ... }`; the whole document is a block without kind and labels."""

    kind: str
    labels: tuple[str, ...]
    line: int
    attributes: dict[str, Attribute] = field(default_factory=dict)
    blocks: list[Block] = field(default_factory=list)


def read_hcl(text: str, file: str) -> Block:
    """The document `text`. Raises `PolicyError` with the line; `file` is only its name."""
    try:
        parsed = hcl2.parses(text)
    except UnexpectedInput as error:
        raise PolicyError(file, _line_of(error, text), "this is not HCL: " + _found(error, text)) from None
    except LarkError as error:
        raise PolicyError(file, 1, f"this is not HCL: {error}") from None
    return _Reader(file).body(parsed.body, Block("", (), 1))


def _line_of(error: UnexpectedInput, text: str) -> int:
    return error.line if error.line > 0 else text.count("\n") + 1


def _found(error: UnexpectedInput, text: str) -> str:
    if error.line <= 0:
        return "it ends before a block is closed"
    lines = text.splitlines()
    return (
        f"cannot read {lines[error.line - 1].strip()!r}" if error.line <= len(lines) else "it ends too early"
    )


class _Reader:
    def __init__(self, file: str) -> None:
        self._file = file

    def body(self, rule: BodyRule, into: Block) -> Block:
        for child in rule.children:
            line = _line(child)
            if isinstance(child, AttributeRule):
                name = _token(child.identifier)
                if name in into.attributes:
                    first = into.attributes[name].line
                    raise PolicyError(self._file, line, f'"{name}" stands already in line {first}')
                into.attributes[name] = Attribute(self.value(child.expression, line), line)
            elif isinstance(child, BlockRule):
                kind, *labels = child.labels
                block = Block(_token(kind), tuple(self._label(label, line) for label in labels), line)
                into.blocks.append(self.body(child.body, block))
        return into

    def _label(self, rule: LarkElement, line: int) -> str:
        return self._string(rule, line) if isinstance(rule, StringRule) else _token(rule)

    def value(self, rule: LarkElement, line: int) -> Value:
        line = _line(rule) or line
        if isinstance(rule, ExprTermRule):
            inner = [child for child in rule.children if child is not None]
            if len(inner) == 1:
                return self.value(inner[0], line)
            raise PolicyError(self._file, line, "parentheses are not known to the servers")
        if isinstance(rule, StringRule):
            return self._string(rule, line)
        if isinstance(rule, IntLitRule):
            return int(str(rule.token.value))
        if isinstance(rule, FloatLitRule):
            return float(str(rule.token.value))
        if isinstance(rule, UnaryOpRule) and rule.operator == "-":
            number = self.value(rule.expr_term, line)
            if isinstance(number, int | float) and not isinstance(number, bool):
                return -number
        if isinstance(rule, LiteralValueRule) and str(rule.token.value) in {"true", "false"}:
            return str(rule.token.value) == "true"
        if isinstance(rule, TupleRule):
            return [self.value(element, line) for element in rule.elements]
        if isinstance(rule, ObjectRule):
            return self._object(rule.elements, line)
        raise PolicyError(
            self._file,
            line,
            "only literal texts, numbers, true, false, lists and maps are known to the servers",
        )

    def _object(self, elements: Iterable[ObjectElemRule], line: int) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for element in elements:
            line = _line(element) or line
            if not any(child.lark_name() == "EQ" for child in element.children):
                raise PolicyError(self._file, line, 'write `key = value`: the servers do not know ":"')
            rule = element.key.value
            name = self._string(rule, line) if isinstance(rule, StringRule) else None
            if name is None and isinstance(rule, IdentifierRule):
                name = _token(rule)
            if name is None:
                raise PolicyError(self._file, line, "a key is a name or a text")
            if name in found:
                raise PolicyError(self._file, line, f'"{name}" stands there twice')
            found[name] = self.value(element.expression, line)
        return found

    def _string(self, rule: StringRule, line: int) -> str:
        parts = []
        for part in rule.children:
            if not isinstance(part, StringPartRule):
                continue
            (content,) = part.children
            if content.lark_name() != "STRING_CHARS":
                raise PolicyError(
                    self._file, line, "interpolation (${...}, %{...}) is not known to the servers"
                )
            text = str(content.value)
            if "\n" in text:
                raise PolicyError(self._file, line, "a text must end on the line where it begins")
            parts.append(process_escape_sequences(text))
        return "".join(parts)


def _line(rule: LarkElement | None) -> int:
    # An empty rule has no position of its own.
    return int(getattr(getattr(rule, "_meta", None), "line", 0) or 0)


def _token(rule: LarkElement) -> str:
    return str(getattr(rule, "token").value)  # noqa: B009
