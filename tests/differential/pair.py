"""Both worlds, asked at once: what they answer must be the same, but for what `allowed` lists."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from tests.differential.allowed import Case, allowed_by
from tests.differential.compare import Leeway, compare, passed, places
from tests.differential.worlds import Answer, Ask, Ours, Reference, World

_POLL_SECONDS = 0.1
_SHOWN_BEFORE = 40

T = TypeVar("T")


class Unequal(AssertionError):
    """The two worlds differ where nothing allows it; says in what, and what was asked before."""


@dataclass(frozen=True, slots=True)
class Both:
    """Two answers to one request."""

    ask: Ask
    theirs: Answer
    ours: Answer

    @property
    def ok(self) -> bool:
        """Both have granted it."""
        return self.theirs.status < 300 and self.ours.status < 300

    @property
    def leeway(self) -> Leeway:
        return passed(self.theirs, self.ours)

    @property
    def answers(self) -> tuple[Answer, Answer]:
        return self.theirs, self.ours

    @property
    def ended(self) -> float:
        return max(self.theirs.ended, self.ours.ended)


class Pair:
    """Attributes: `product`, "openbao" or "vault"; `theirs` and `ours`, the worlds; `compared`, how many requests were; `exact`, how many of those with
    no leeway at all; `spoiled`, how many examples ended early, because something ended in the middle of a request;
    `applied`, how often each entry of `allowed` let something through."""

    def __init__(self, product: str, theirs: Reference, ours: Ours) -> None:
        self.product = product
        self.theirs = theirs
        self.ours = ours
        self.compared = 0
        self.exact = 0
        self.spoiled = 0
        self.applied: Counter[str] = Counter()
        self._said: list[str] = []
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="world")

    @property
    def worlds(self) -> tuple[World, World]:
        return self.theirs, self.ours

    def begin(self) -> None:
        """A new example: what was said and named before does not belong to it."""
        self._said.clear()
        for world in self.worlds:
            world.names.forget()

    def in_both(self, do: Callable[[World], T]) -> tuple[T, T]:
        """`do` for each world, at the same time."""
        theirs, ours = self._threads.submit(do, self.theirs), self._threads.submit(do, self.ours)
        return theirs.result(), ours.result()

    def send(self, ask: Ask) -> Both:
        both = Both(ask, *self.in_both(lambda world: world.send(ask)))
        self.theirs.learn(ask.makes, both.theirs)
        self.ours.learn(ask.makes, both.ours)
        self._said += [f"  {ask}", f"      the reference: {both.theirs}", f"      ours:          {both.ours}"]
        return both

    def judge(self, both: Both, leeway: Leeway | None = None) -> Both:
        """Raises `Unequal`. `leeway` is what the numbers brought with them; what passed meanwhile is added."""
        granted = both.leeway + (leeway or Leeway())
        theirs = places(both.theirs, both.ask, self.theirs)
        ours = places(both.ours, both.ask, self.ours)
        left = []
        for difference in compare(theirs, ours, granted):
            name = allowed_by(Case(both.ask, difference, theirs, ours))
            if name is None:
                left.append(difference)
            else:
                self.applied[name] += 1
        self.compared += 1
        self.exact += granted.most == 0
        if left:
            self.fail("\n".join(map(str, left)))
        return both

    def ask(self, ask: Ask, leeway: Leeway | None = None) -> Both:
        return self.judge(self.send(ask), leeway)

    def fail(self, what: str) -> None:
        before = "\n".join(self._said[-_SHOWN_BEFORE:])
        raise Unequal(f"{what}\nafter\n{before}")

    def settles(self, what: str, done: Callable[[World], Any], *, seconds: float) -> None:
        """Both come to it within `seconds`; who does not is named."""
        end = time.monotonic() + seconds
        while not all(states := self.in_both(done)):
            if time.monotonic() > end:
                late = [world.name for world, state in zip(self.worlds, states, strict=True) if not state]
                self.fail(f"{what} did not happen within {seconds:g} s for {' and '.join(late)}")
            time.sleep(_POLL_SECONDS)

    def bind(self, name: str, theirs: str, ours: str) -> None:
        """What `name` stands for in each."""
        self.theirs.names.bind(name, theirs)
        self.ours.names.bind(name, ours)

    def close(self) -> None:
        self._threads.shutdown()
        for world in self.worlds:
            world.close()
