"""Asking both worlds as somebody would who remembers what was given and when it ends.

Only the moments in which something ends are left out: before each request, what ends now is waited for in both worlds,
within the bounds below.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace

from tests.differential.compare import WRAPPING_TAIL, Leeway
from tests.differential.memory import Held, Lease, Memory, Token
from tests.differential.pair import Both, Pair
from tests.differential.worlds import ROOT, About, Ask, World

#: Nothing is asked so many seconds before an end: a call takes a moment, and ends are cut to the second.
MARGIN_SECONDS = 1.0
#: Within so many seconds of its end a lease is gone, and a dead token's leases are: the servers' own workers take up
#: to three, ours look for dead tokens from time to time.
SETTLE_SECONDS = 30.0

numbers = itertools.count(1)


class Asking:
    """At one mount, where `memory` is what was handed out.

    `spoiled`: something ended in the middle of a request, so that nothing can be said any more, and nothing is asked.
    """

    def __init__(self, pair: Pair, mount: str) -> None:
        pair.begin()
        self.pair = pair
        self.mount = mount
        self.memory = Memory()
        self.spoiled = False

    def ask(self, ask: Ask, leeway: Leeway | None = None) -> Both | None:
        """Ask both and compare; None when `spoiled`. Raises `Unequal`."""
        if self.spoiled:
            return None
        self.settle()
        token = self.memory.tokens.get(ask.token)
        if token is not None and token.uses == 1 and not token.over:
            ask = replace(ask, about=About.LAST_USE)
        both = self.pair.send(replace(ask, token=_as_sent(ask.token)))
        if self.memory.due(both.ended):
            self.pair.spoiled += 1
            self.spoiled = True
            return None
        self.pair.judge(both, leeway)
        if token is not None and token.uses is not None and not token.over:
            token.uses -= 1
            if token.uses == 0:
                self.memory.token_ends(token.name)
        return both

    # -- ends ---------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Wait until what ends now is over in both worlds; raises `Unequal` about what is not."""
        while due := self.memory.due(time.time() + MARGIN_SECONDS):
            late = max((held.last_end for held in due if held.last_end and not held.dying), default=0.0)
            time.sleep(max(0.0, late - time.time()))
            for held in due:
                if isinstance(held, Token):
                    self.memory.token_ends(held.name)
            ended = [held for held in self.memory.all() if held.dying or held in due]
            for held in ended:
                held.dying, held.over = False, True
            self._are_gone(ended)

    def wait_for_the_next_end(self, within: float) -> None:
        """If there is one so soon."""
        ends = [held.first_end for held in self.memory.due(time.time() + within) if held.first_end]
        if ends and not self.spoiled:
            time.sleep(max(0.0, min(ends) - time.time()))
            self.settle()

    def _are_gone(self, ended: list[Held]) -> None:
        for token in (held for held in ended if isinstance(held, Token)):
            ask = Ask("POST", "auth/token/lookup", {"token": token.named})
            self.pair.settles(f"the end of {token.named}", _refuses(ask), seconds=SETTLE_SECONDS)
        leases = [held for held in ended if isinstance(held, Lease)]
        for role in sorted({lease.role for lease in leases}):
            names = ", ".join(lease.named for lease in leases if lease.role == role)
            left = len(self.memory.live_leases(role))
            self.pair.settles(
                f"the end of {names} (with {left} left of role {role})",
                self._has_left(role, left),
                seconds=SETTLE_SECONDS,
            )

    def _has_left(self, role: str, left: int) -> Callable[[World], bool]:
        def has_left(world: World) -> bool:
            listed = len(self.listed(world, role))
            # What ends next may be over by now as well.
            due = [held for held in self.memory.due(time.time()) if isinstance(held, Lease)]
            return left - sum(lease.role == role for lease in due) <= listed <= left

        return has_left

    def ended(self, leases: list[Lease], both: Both) -> None:
        for lease in leases:
            if not lease.over:
                # A 202 says that it is under way.
                lease.dying, lease.over = both.theirs.status == 202, both.theirs.status != 202

    def timed(self, held: Held, both: Both, ttls: list[int]) -> None:
        held.ends(
            *((answer.started, answer.ended, ttl) for answer, ttl in zip(both.answers, ttls, strict=True))
        )

    # -- leeway -------------------------------------------------------------------------------------------------

    def leeway(self, lease: str) -> Leeway:
        held = self.memory.leases[lease]
        return held.leeway + held.renewed

    def leeway_of_token(self, token: str) -> Leeway:
        held = self.memory.tokens.get(token)
        return Leeway(token_ends=held is not None and held.batch)

    # -- names --------------------------------------------------------------------------------------------------

    def stands_for_nothing(self, *names: str) -> None:
        """Until something is made, a name stands for a lease or a token that never was."""
        for name in names:
            number = next(numbers)
            nothing = f"{self.mount}/creds/a/none{number:020d}" if "lease" in name else f"none{number:020d}"
            if name.endswith(".wrap"):
                nothing = f"s.none{number:020d}"
            self.pair.bind(f"@{name}@", nothing, nothing)

    def listed(self, world: World, role: str) -> list[str]:
        """The leases a world has of a role, by the ends of their ids."""
        answer = world.send(Ask("LIST", f"sys/leases/lookup/{self.mount}/creds/{role}")).json
        keys = (answer.get("data") or {}).get("keys", [])
        return [key for key in keys if not WRAPPING_TAIL.fullmatch(key)]


def _as_sent(token: str) -> str:
    if token == "nobody":
        return ""
    if token == "root" or token.startswith("@"):
        return ROOT if token == "root" else token
    return f"@{token}@"


def _refuses(ask: Ask) -> Callable[[World], bool]:
    return lambda world: world.send(ask).status != 200
