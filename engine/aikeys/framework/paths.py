"""One table per path: routing, input checking, help, OpenAPI and the reference page all come from it.

The shape is that of Vault's SDK (sdk/framework/path.go): a regular expression whose named groups are fields, a schema
of fields, and one handler per operation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from aikeys.framework.fields import Field, FieldData
from aikeys.framework.request import Operation, Request
from aikeys.framework.response import Response

Handler = Callable[[Request, FieldData], Response | None]
ExistenceCheck = Callable[[Request, FieldData], bool]


def generic_name(capture: str) -> str:
    """Vault's `framework.GenericNameRegex`: word characters at both ends, "-" and "." allowed between them."""
    return rf"(?P<{capture}>\w(([\w-.]+)?\w)?)"


def _compile(pattern: str) -> re.Pattern[str]:
    # Python wants the dash in a class escaped; Go's \w knows ASCII only.
    return re.compile(pattern.replace(r"[\w-.", r"[\w\-."), re.ASCII)


@dataclass(frozen=True)
class Path:
    """One path of a backend, all of whose texts are shown to users.

    `pattern` has no anchors: the whole path must match. `exists` decides create against update; a path without it is
    only ever updated. `noun` names the thing in operation ids ("ai-keys-read-role"). `returns` documents the data of
    a read (and of a write that answers with data). `leased`: its answers may come with a lease.
    """

    pattern: str
    fields: Mapping[str, Field]
    operations: Mapping[Operation, Handler]
    noun: str
    synopsis: str
    description: str = ""
    exists: ExistenceCheck | None = None
    returns: Mapping[str, Field] = field(default_factory=dict)
    leased: bool = False
    _compiled: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", _compile(self.pattern))
        if Operation.CREATE in self.operations and self.exists is None:
            raise ValueError(f"pattern {self.pattern} has a create operation but no existence check")
        unknown = set(self.captures) - set(self.fields)
        if unknown:
            raise ValueError(f"pattern {self.pattern} captures {sorted(unknown)}, which are no fields")

    @property
    def captures(self) -> tuple[str, ...]:
        return tuple(self._compiled.groupindex)

    @property
    def anchored(self) -> str:
        """The pattern as help shows it."""
        return f"^{self.pattern}$"

    @property
    def has_secrets(self) -> bool:
        return any(item.secret for item in self.fields.values())

    def match(self, path: str) -> dict[str, str] | None:
        """What the path captures, or None when it is another path.

        A name with ".." in it never matches: Vault's storage refuses it, and half of the servers in front would read
        it as a step up.
        """
        found = self._compiled.fullmatch(path)
        if found is None:
            return None
        captured = {name: value for name, value in found.groupdict().items() if value is not None}
        return None if any(".." in value for value in captured.values()) else captured
