"""The plan of `aikeys provision`, and when it is too dangerous to apply."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from aikeys.errors import AikeysError
from aikeys.policy.diff import MARK, Action, Change, Live, compare
from aikeys.policy.folder import Folder


class UnsafePlanError(AikeysError):
    """The plan is not applied as it is; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    changes: tuple[Change, ...]
    owned: int

    @property
    def pending(self) -> list[Change]:
        return [change for change in self.changes if change.action is not Action.UNCHANGED]

    def count(self, action: Action) -> int:
        return Counter(change.action for change in self.changes)[action]

    def raise_if_unsafe(self, *, force: bool) -> None:
        """Raises `UnsafePlanError` for conflicts, and unless forced for the end of more than half of what is ours."""
        conflicts = [
            f"{change.kind} {change.name}" for change in self.changes if change.action is Action.CONFLICT
        ]
        if conflicts:
            raise UnsafePlanError(
                f"not written by aikeys provision and different: {', '.join(conflicts)}; "
                "rename yours, or take them over with --adopt"
            )
        deleted = self.count(Action.DELETE)
        if deleted * 2 > self.owned and not force:
            raise UnsafePlanError(
                f"--prune would delete {deleted} of {self.owned} that are ours: is this the right folder? "
                "If so, add --force"
            )

    def __str__(self) -> str:
        counts = [
            f"{self.count(action)} to {action}"
            for action in (Action.CREATE, Action.UPDATE, Action.DELETE)
            if self.count(action)
        ]
        conflicts = self.count(Action.CONFLICT)
        counts += [f"{conflicts} in conflict"] if conflicts else []
        return ", ".join([*counts, f"{self.count(Action.UNCHANGED)} unchanged"])


def make_plan(folder: Folder, live: Live, *, prune: bool = False, adopt: bool = False) -> Plan:
    """`live` must have been read with everything in it when `prune` is asked for."""
    owned = sum(text.startswith(MARK) for text in live.policies.values())
    owned += sum(held.ours for held in live.approles.values())
    return Plan(tuple(compare(folder, live, prune=prune, adopt=adopt)), owned)
