"""One request and one answer, as the rules see them: no Flask, no sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Effects:
    """What faults change about this one call while it is carried out."""

    before_commit: Callable[[], None] | None = None
    """Runs when the call is admitted and not yet committed: time passes here."""
    list_lag: float | None = None
    """Seconds the key made by this call stays invisible."""
    revoke_lag: tuple[float, float] | None = None
    """Seconds each node still accepts the key ended by this call."""


@dataclass(slots=True)
class Call:
    """A request as received."""

    method: str
    path: str
    """As sent, percent-encoding untouched."""
    query: str
    body: bytes
    environ: Mapping[str, Any]
    node: int
    request_id: str
    epoch: int = 0
    """The account's, when the call arrived."""
    cut_short: bool = False
    """Whether the client promised a longer body than it sent."""
    effects: Effects = field(default_factory=Effects)
    principal_id: str | None = None

    def header(self, name: str) -> str | None:
        """A request header."""
        value: str | None = self.environ.get("HTTP_" + name.upper().replace("-", "_"))
        return value

    @property
    def content_type(self) -> str:
        """The media type of the body, without parameters."""
        value: str = self.environ.get("CONTENT_TYPE") or ""
        return value.partition(";")[0].strip().lower()


@dataclass(slots=True)
class Answer:
    """What goes back: a JSON body, or a stream of server-sent events."""

    status: int
    body: dict[str, Any]
    headers: list[tuple[str, str]] = field(default_factory=list)
    events: Iterator[dict[str, Any]] | None = None
