"""A credential that `config` names instead of holding: where in a KV engine it stands, and reading it.

What is read is kept in memory only, for as long as a driver uses it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from aikeys.framework.deadline import Deadline
from aikeys.framework.response import InvalidRequest

#: The fields of `config` that may be given by reference, and how that field is called.
REFERENCES = {"management_key": "management_key_ref", "signing_secret": "signing_secret_ref"}
EXAMPLE = "secret/data/aikeys/relay#management_key"
REFERENCE_MAX = 512
# Nothing that a server in between could read as a step up, a query or an escape.
_PATH = re.compile(r"[\w.~@+=-]+(?:/[\w.~@+=-]+)+", re.ASCII)
_FIELD = re.compile(r"[\w.~@+=/-]+", re.ASCII)
# What lies there is Vault's own and no KV engine.
_NOT_KV = frozenset({"auth", "cubbyhole", "identity", "sys"})


class ReferenceUnreadable(Exception):
    """What a reference names cannot be read. The message says which, why and what helps; it holds no value.

    `passing`: nobody has to change anything for the next try to succeed.
    """

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.message = message
        self.passing = passing


@dataclass(frozen=True, slots=True)
class Reference:
    """`path` is that of the API below `/v1/`, so with `data/` after the mount of a KV version 2."""

    path: str
    field: str

    @classmethod
    def parse(cls, name: str, text: str) -> Self:
        """From `path#field`. Raises InvalidRequest, naming the config field `name` and what is allowed."""
        path, hash_sign, field = text.partition("#")
        if not hash_sign or not path or not field:
            raise InvalidRequest(f"{name} must be a path and a field with # between them, such as {EXAMPLE}")
        if len(text) > REFERENCE_MAX:
            raise InvalidRequest(f"{name} is longer than {REFERENCE_MAX} characters")
        if not _PATH.fullmatch(path) or {".", ".."} & set(path.split("/")) or path.startswith("v1/"):
            raise InvalidRequest(
                f"{name} must begin with the path of an entry in a KV engine as the API knows it, without v1/ or a "
                f"slash at either end, such as {EXAMPLE}"
            )
        if not _FIELD.fullmatch(field):
            raise InvalidRequest(f"{name} must end with the name of a field, such as {EXAMPLE}")
        if path.partition("/")[0] in _NOT_KV:
            raise InvalidRequest(f"{name} must name an entry of a KV engine, and {path} lies in none")
        return cls(path, field)

    def __str__(self) -> str:
        return f"{self.path}#{self.field}"


#: Reads what a reference of the mount with this uuid names; raises `ReferenceUnreadable`.
ReadReference = Callable[[str, Reference, Deadline], str]


def no_references(_mount_uuid: str, reference: Reference, _deadline: Deadline) -> str:
    """For a door that has no way to read any."""
    raise ReferenceUnreadable(
        f"{reference} cannot be read here: references are for the sidecar; give the value itself",
        passing=False,
    )


def references(entry: Mapping[str, Any]) -> dict[str, Reference]:
    """The references of a config entry, by the names of the fields that they stand for. Raises InvalidRequest."""
    return {
        field: Reference.parse(name, entry[name]) for field, name in REFERENCES.items() if entry.get(name)
    }


def resolved(entry: Mapping[str, Any], read: Callable[[Reference], str]) -> dict[str, Any]:
    """The entry with what its references name. Raises `ReferenceUnreadable`."""
    return {**entry, **{field: read(reference) for field, reference in references(entry).items()}}
