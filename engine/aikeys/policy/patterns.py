"""What the paths of rules have in common: an example of a path that a rule matches, and one that two rules share."""

from __future__ import annotations

import re
from itertools import zip_longest

_TEMPLATE = re.compile(r"\{\{.*?\}\}")
# Names that nobody writes into a policy: what they are matched by is a wildcard, or the template itself.
FRESH = "zz-any"
_FILLED = "zz-filled"


def pattern_of(path: str) -> str:
    """The path with a name in the place of each template."""
    return _TEMPLATE.sub(_FILLED, path)


def examples(path: str) -> list[str]:
    """Paths the rule matches: with fresh names for its wildcards, and those it ends with."""
    pattern = pattern_of(path)
    glob = pattern.endswith("*")
    base = "/".join(FRESH if part == "+" else part for part in pattern.removesuffix("*").split("/"))
    if not glob:
        return [base]
    return [one for one in (f"{base}{FRESH}", f"{base}{FRESH}/{FRESH}", f"{base}{FRESH}/", base) if one]


def shared(one: str, other: str) -> str | None:
    """A path that both patterns match, with fresh names where both leave it open; None when there is none."""
    first, second = pattern_of(one), pattern_of(other)
    globs = first.endswith("*"), second.endswith("*")
    a, b = (pattern.removesuffix("*").split("/") for pattern in (first, second))
    if (len(a) > len(b) and not globs[1]) or (len(b) > len(a) and not globs[0]):
        return None
    path = []
    for index, (left, right) in enumerate(zip_longest(a, b)):
        ends = (globs[0] and index == len(a) - 1, globs[1] and index == len(b) - 1)
        part = _shared_segment(left, right, ends)
        if part is None:
            return None
        path.append(part)
    found = "/".join(path)
    if all(globs) and (found.endswith("/") or not found):
        found += FRESH
    return found or None


def _shared_segment(left: str | None, right: str | None, ends: tuple[bool, bool]) -> str | None:
    if left is None or right is None:
        # Beyond the end of the shorter one, which has a trailing `*`.
        rest = right if left is None else left
        return FRESH if rest == "+" else rest
    if left == "+" or right == "+":
        other = right if left == "+" else left
        open_ended = ends[1] if left == "+" else ends[0]
        if other == "+" or (open_ended and not other):
            return FRESH
        return other
    if ends[0] and right.startswith(left):
        return right
    if ends[1] and left.startswith(right):
        return left
    return left if left == right else None
