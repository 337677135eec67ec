"""The list of guards, read from ``guards.toml``: what each holds, how it is turned off, which test then goes red."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("guards.toml")


@dataclass(frozen=True, slots=True)
class Guard:
    """`off` stands in place of `on`, which occurs once in `file`, when the guard is off."""

    name: str
    promise: str
    file: str
    on: str
    off: str
    tests: tuple[str, ...]

    def turned_off(self, source: str) -> str:
        """The source without the guard. ValueError when the guard is not there, or not only once."""
        found = source.count(self.on)
        if found != 1:
            raise ValueError(f"{self.name}: what is to be turned off occurs {found} times in {self.file}")
        return source.replace(self.on, self.off)


def guards() -> list[Guard]:
    listed = tomllib.loads(LIST.read_text())["guard"]
    return [Guard(**{**entry, "tests": tuple(entry["tests"])}) for entry in listed]
