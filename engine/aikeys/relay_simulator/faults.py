"""The fault plan: which calls go wrong, and how. Decides only; `plane` carries it out."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

MOMENTS = ("before", "processing", "after")


@dataclass(frozen=True, slots=True)
class Kind:
    """What a fault of this kind does, and its parameters with their defaults."""

    story: str
    defaults: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()


KINDS: Mapping[str, Kind] = {
    "latency": Kind(
        "waits before the call is read, while it is processed (admitted, not committed), or after it committed",
        {"seconds": 0.0, "when": "before"},
        ("seconds",),
    ),
    "refuse": Kind("resets the connection (RST) without reading the body; nothing is applied"),
    "close": Kind("closes the connection (FIN) without reading the body; nothing is applied"),
    "commit_then_drop": Kind("commits, then closes the connection without an answer", {"rst": True}),
    "commit_then_500": Kind(
        "commits, then answers internal_error (or another status of the table)", {"status": 500}
    ),
    "commit_then_truncate": Kind(
        "commits, then sends only the first bytes of the answer (half without `bytes`); with framing `short` as a "
        "whole HTTP message, with `full` it promises all of it and closes",
        {"bytes": None, "framing": "full"},
    ),
    "html": Kind("answers an HTML page", {"status": 200, "commit": False}),
    "redirect": Kind(
        "sends the client to another origin",
        {"location": "http://relay.invalid/elsewhere", "status": 302, "commit": False},
    ),
    "rate_limit": Kind("answers 429, with Retry-After unless that is null", {"retry_after": 1}),
    "unavailable": Kind(
        "answers 503, with X-Not-Applied unless told otherwise, with Retry-After unless null",
        {"not_applied": True, "retry_after": None, "commit": False},
    ),
    "error": Kind("answers a status of the table with its code", {"status": 500, "commit": False}),
    "slow_body": Kind("sends half of the answer, waits, sends the rest", {"seconds": 0.0}, ("seconds",)),
    "content_type": Kind("answers truly, but labels it wrongly", {"value": "text/html; charset=utf-8"}),
    "clock_skew": Kind("answers with a Date header that is off", {"seconds": 0}, ("seconds",)),
    "duplicate": Kind(
        "the network delivers the call twice; the client sees one answer", {"answer": "second"}
    ),
    "echo_key": Kind(
        "answers an error whose text repeats the caller's key and, when it committed, the new one",
        {"status": 500, "commit": False},
    ),
    "list_lag": Kind(
        "the key this call makes stays out of lists for so long", {"seconds": 0.0}, ("seconds",)
    ),
    "revoke_lag": Kind(
        "nodes (or the one in `lag_node`) go on accepting the key this call ends",
        {"seconds": 0.0, "lag_node": None},
        ("seconds",),
    ),
}


@dataclass(slots=True)
class Fault:
    """One line of the plan: fires on the `nth` matching call and the `count` - 1 that follow (None: all)."""

    id: str
    kind: str
    parameters: dict[str, Any]
    method: str = "*"
    path: str = "*"
    nth: int = 1
    count: int | None = 1
    node: int | None = None
    matched: int = 0
    fired: int = 0

    def matches(self, method: str, path: str, node: int) -> bool:
        """Whether this call is one of those counted."""
        return self.method in ("*", method) and self.node in (None, node) and fnmatchcase(path, self.path)

    def meets(self) -> bool:
        """Count one more matching call; whether it is hit."""
        self.matched += 1
        hit = self.matched >= self.nth and (self.count is None or self.matched < self.nth + self.count)
        self.fired += hit
        return hit

    @property
    def over(self) -> bool:
        """Whether it can never fire again."""
        return self.count is not None and self.matched >= self.nth + self.count - 1

    def render(self) -> dict[str, Any]:
        """The entry of ``GET /_sim/faults``."""
        return {
            "id": self.id,
            "kind": self.kind,
            "method": self.method,
            "path": self.path,
            "nth": self.nth,
            "count": self.count,
            "node": self.node,
            "matched": self.matched,
            "fired": self.fired,
            **self.parameters,
        }


class FaultPlan:
    """All faults that were asked for. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._numbers = itertools.count(1)
        self.armed = False
        """Whether any fault may still fire: the fast path asks only this."""

    def add(self, description: Mapping[str, Any]) -> Fault:
        """Parse and arm one; a ``ValueError`` says what is wrong with it."""
        fault = _parse(description, f"fault_{next(self._numbers)}")
        with self._lock:
            self._faults.append(fault)
            self.armed = True
        return fault

    def list(self) -> list[dict[str, Any]]:
        """All, spent ones too, with how often they matched and fired."""
        with self._lock:
            return [fault.render() for fault in self._faults]

    def clear(self, fault_id: str | None = None) -> int:
        """Remove one or all; how many were removed."""
        with self._lock:
            kept = [fault for fault in self._faults if fault_id is not None and fault.id != fault_id]
            removed = len(self._faults) - len(kept)
            self._faults = kept
            self.armed = any(not fault.over for fault in kept)
        return removed

    def take(self, method: str, path: str, node: int) -> tuple[Fault, ...]:
        """The faults that hit this call, in the order they were added."""
        with self._lock:
            hit = tuple(
                fault
                for fault in self._faults
                if not fault.over and fault.matches(method, path, node) and fault.meets()
            )
            self.armed = any(not fault.over for fault in self._faults)
        return hit


def _parse(description: Mapping[str, Any], fault_id: str) -> Fault:
    given = dict(description)
    kind = given.pop("kind", None)
    if kind not in KINDS:
        raise ValueError(f"kind is one of: {', '.join(KINDS)}")
    method, path = given.pop("method", "*"), given.pop("path", "*")
    nth, count, node = given.pop("nth", 1), given.pop("count", 1), given.pop("node", None)
    if not isinstance(method, str) or not isinstance(path, str):
        raise ValueError("method and path are strings; path may have wildcards")  # noqa: TRY004 - one error for all
    if not _positive(nth) or not (count is None or _positive(count)):
        raise ValueError("nth is 1 or more; count is 1 or more, or null for every call from then on")
    if node not in (None, 0, 1):
        raise ValueError("node is 0, 1 or null")
    missing = [name for name in KINDS[kind].needs if name not in given]
    if missing:
        raise ValueError(f"{kind} needs {', '.join(missing)}")
    parameters = dict(KINDS[kind].defaults)
    for name, value in given.items():
        if name not in parameters:
            raise ValueError(f"{kind} has no parameter {name!r}")
        _check(name, value)
        parameters[name] = value
    return Fault(fault_id, kind, parameters, method.upper(), path, nth, count, node)


def _positive(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _check(name: str, value: Any) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    whole = isinstance(value, int) and not isinstance(value, bool)
    good = {
        "seconds": number,
        "when": value in MOMENTS,
        "rst": isinstance(value, bool),
        "commit": isinstance(value, bool),
        "not_applied": isinstance(value, bool),
        "status": whole and 200 <= value <= 599,
        "bytes": value is None or (whole and value >= 0),
        "framing": value in ("short", "full"),
        "location": isinstance(value, str),
        "value": isinstance(value, str),
        "retry_after": value is None or (whole and value >= 0),
        "answer": value in ("first", "second"),
        "lag_node": value in (None, 0, 1),
    }[name]
    if not good:
        raise ValueError(f"{name} has a value it cannot have")
