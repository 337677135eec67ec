"""How long one request may take, and how much it may answer."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol


class HasEnd(Protocol):
    """What a deadline must have: a point of `time.monotonic()`."""

    @property
    def at(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """Timeouts in seconds, each for one wait (a deadline bounds their sum), and sizes in bytes. None is no bound.

    `max_header` counts every byte of an answer that is no body: status line, headers, chunk sizes, trailers.
    `idempotent` declares that sending the request twice does no harm.
    """

    connect: float | None = 5.0
    read: float | None = 30.0
    write: float | None = 30.0
    max_header: int = 64 * 1024
    max_body: int | None = None
    idempotent: bool = False


def wait_seconds(timeout: float | None, deadline: HasEnd | None) -> float | None:
    """How long one wait may be now: the timeout, cut by the deadline, never negative. None is for ever."""
    if deadline is None:
        return timeout
    left = max(0.0, deadline.at - time.monotonic())
    return left if timeout is None or left < timeout else timeout


def wait_milliseconds(timeout: float | None, deadline: HasEnd | None) -> int | None:
    """The same for `select.poll`, rounded up: to wake a millisecond early would only mean another turn."""
    seconds = wait_seconds(timeout, deadline)
    if seconds is None:
        return None
    return int(seconds * 1000) + 1 if seconds > 0 else 0
