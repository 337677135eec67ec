"""What was handed out, to whom, and when it ends: so that nothing is asked in the very moment of an end. No IO.

The memory only says *when* something should be gone; that it is gone, in both worlds, is what the machine then waits
for. Rules are those of the contract (vault-http.md, A8): a lease ends by its TTL, by revocation or with its token; a
token takes its children along, and a batch token, which cannot be revoked itself, ends with its parent.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.differential.compare import Leeway


@dataclass(slots=True)
class Held:
    """A lease or a token. `first_end` and `last_end` are when it ends in the world where it ends first or last, in
    seconds since the epoch; None: never. `over`: nobody has it any more. `dying`: it is to be over very soon. `leeway`
    is that of its issue.
    """

    name: str
    first_end: float | None = None
    last_end: float | None = None
    dying: bool = False
    over: bool = False
    leeway: Leeway = field(default_factory=Leeway)

    @property
    def named(self) -> str:
        return f"@{self.name}@"

    def ends(self, *moments: tuple[float, float, int]) -> None:
        """`moments` are, of each world, when its call began, when it ended, and the TTL that it answered."""
        # The maximum of a lease counts from its issue, which may cut a fraction of a second off.
        self.first_end = min(begun + ttl - 1 for begun, _, ttl in moments)
        self.last_end = max(ended + ttl for _, ended, ttl in moments)


@dataclass(slots=True)
class Lease(Held):
    """`renewed` is the leeway of its last renewal."""

    role: str = ""
    token: str = ""
    renewed: Leeway = field(default_factory=Leeway)


@dataclass(slots=True)
class Token(Held):
    """`uses` left, None: any number. `parent` is a name, "" for none."""

    batch: bool = False
    parent: str = ""
    uses: int | None = None


class Memory:
    def __init__(self) -> None:
        self.leases: dict[str, Lease] = {}
        self.tokens: dict[str, Token] = {}

    def all(self) -> Iterator[Held]:
        yield from self.tokens.values()
        yield from self.leases.values()

    def due(self, moment: float) -> list[Held]:
        """What ends before `moment`, or is dying."""
        return [
            held
            for held in self.all()
            if not held.over and (held.dying or (held.first_end is not None and held.first_end <= moment))
        ]

    def live_leases(self, role: str) -> list[Lease]:
        return [lease for lease in self.leases.values() if lease.role == role and not lease.over]

    def token_ends(self, name: str, *, children_stay: bool = False) -> None:
        """It and what hangs on it is dying; with `children_stay` its children become orphans (`revoke-orphan`)."""
        token = self.tokens[name]
        if token.over:
            return
        token.dying = True
        for child in self.tokens.values():
            if child.parent != name or child.over or child.dying:
                continue
            if children_stay and not child.batch:
                child.parent = ""
            else:
                self.token_ends(child.name)
        for lease in self.leases.values():
            if lease.token == name and not lease.over:
                lease.dying = True
