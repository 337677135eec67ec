"""Which keys at a relay are a mount's own and nobody's any more, and whether they may be ended. No IO.

A key is an orphan only if everything speaks for it: the mount made it (name and serial), this very database gave the
serial, no lease and no open intent has its name, and it is older than any mint takes. A key that this database never
gave a serial to says that the database is an older copy or has a twin. Then leases may exist of which it knows
nothing, and nothing at all is ended.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from aikeys.framework.response import InvalidRequest
from aikeys.minting.marks import Mark, read_mark
from aikeys.relays.interface import KeyInfo
from aikeys.storage.records import KnownKeys

# How old a key must be. Beyond the longest way from an intent to its lease (`MintBounds`), the lag of a relay's list
# and a clock that is wrong by ten minutes, all together.
SAFETY = timedelta(hours=1)
# No operator gets below that way itself.
LEAST_SAFETY = timedelta(seconds=30)
# So many at once are no accident but a mistake somewhere: in a database, a config, a relay's answer.
SAFE_KEYS = 20
# So is such a share of a mount's keys, once it has so many that a share says something.
SAFE_PERCENT = 30
SHARE_COUNTS_FROM = 10


class Standing(enum.StrEnum):
    """What a key of the relay's list is to the mount."""

    LEASED = "leased"
    OPEN = "open"
    ORPHAN = "orphan"
    YOUNG = "young"
    UNMARKED = "unmarked"
    NEWER = "newer"


@dataclass(frozen=True, slots=True)
class Judged:
    """`age` in seconds by our own clock, None without a mark; negative where the clock was set back since."""

    key: KeyInfo
    standing: Standing
    age: int | None = None
    mark: Mark | None = None


class Restored(InvalidRequest):
    """The relay has keys that this database never asked for."""


class Unsafe(InvalidRequest):
    """More keys would end than one would ever expect."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Every key that the relay lists under the mount's name, in the relay's order."""

    keys: tuple[Judged, ...]

    def of(self, *standings: Standing) -> list[Judged]:
        return [judged for judged in self.keys if judged.standing in standings]

    @property
    def orphans(self) -> list[Judged]:
        return self.of(Standing.ORPHAN)

    @property
    def newer(self) -> list[Judged]:
        return self.of(Standing.NEWER)

    @property
    def marked(self) -> int:
        return len(self.keys) - len(self.of(Standing.UNMARKED))

    @property
    def digest(self) -> str:
        """Stands for the keys that would end; where there are newer ones, for those instead."""
        ids = sorted(judged.key.ref.key_id for judged in self.newer or self.orphans)
        return hashlib.sha256("\n".join([str(bool(self.newer)), *ids]).encode()).hexdigest()[:32]

    def raise_if_restored(self) -> None:
        if self.newer:
            raise Restored(restored_text(self.newer, self.digest), data={"plan": self.digest})

    def raise_if_unsafe(self) -> None:
        """A guard in the manner of octodns: a plan that ends too much is more likely wrong than right."""
        many = len(self.orphans)
        share = self.marked >= SHARE_COUNTS_FROM and many * 100 > SAFE_PERCENT * self.marked
        if many > SAFE_KEYS or share:
            raise Unsafe(
                f"the plan ends {many} of the {self.marked} keys with this mount's mark, which is more than "
                f"{SAFE_KEYS} or {SAFE_PERCENT} %: look at each of them, and if all are to end, write force=true"
            )


def make_plan(
    listed: Iterable[KeyInfo],
    *,
    instance: str,
    known: KnownKeys,
    serials: Mapping[str, int],
    now: datetime,
    safety: timedelta,
) -> Plan:
    """`listed` is what the relay showed before `known` and `serials` were read: what it shows was then on record."""

    def standing(key: KeyInfo, mark: Mark | None) -> Standing:
        if key.ref.name in known.leased:
            return Standing.LEASED
        if key.ref.name in known.open:
            return Standing.OPEN
        if mark is None:
            return Standing.UNMARKED
        if not mark.given(serials):
            return Standing.NEWER
        return Standing.YOUNG if now - mark.at < safety else Standing.ORPHAN

    judged = []
    for key in listed:
        if key.status.live:
            mark = read_mark(instance, key)
            age = None if mark is None else (now - mark.at) // timedelta(seconds=1)
            judged.append(Judged(key, standing(key, mark), age, mark))
    return Plan(tuple(judged))


def ceilings(newer: Iterable[Judged]) -> dict[str, int]:
    """Of every series among them the greatest number."""
    greatest: dict[str, int] = {}
    for judged in newer:
        if judged.mark is not None:
            greatest[judged.mark.series] = max(judged.mark.number, greatest.get(judged.mark.series, 0))
    return greatest


def restored_text(newer: list[Judged], digest: str = "") -> str:
    """What was seen, what it means, and what to do. `digest`: where it can be accepted, by that plan."""
    first = newer[0]
    ends = [judged.key.expires_at for judged in newer]
    last = max((end for end in ends if end is not None), default=None)
    until = f", at {last:%Y-%m-%dT%H:%M:%SZ}" if last is not None and None not in ends else ""
    text = (
        f"the relay has {len(newer)} key(s) with this mount's mark that this database never asked for, "
        f"{first.key.ref.key_id} ({first.key.ref.name}) among them: the database is an older copy of the one that did, "
        "or another sidecar works on a copy of it. Leases that are not known here may hold these keys and others, so "
        "no key is ended that a lease of this database does not hold. Put the newest database in place, or stop the other sidecar. "
        f"Otherwise this is over when the last of these keys has ended{until}"
    )
    if digest:
        text += (
            f"; or write accept_restored=true and plan={digest} to tidy, which takes these keys for this database's "
            "own: the next apply then ends them, and whoever holds one of them loses it"
        )
    return text
