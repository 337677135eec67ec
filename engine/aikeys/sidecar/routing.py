"""Whose path is it: the engine's, an intercept's, or the upstream's own."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from aikeys.framework.request import Mount
    from aikeys.sidecar.intercepts import Intercept

# The upstream's to answer even on our mounts: neither can yield a secret, and its answer (CORS, the
# header operation) is the right one.
PASSING_METHODS = frozenset({"HEAD", "OPTIONS"})


class Owner(enum.Enum):
    ENGINE = "engine"
    INTERCEPT = "intercept"
    PASS = "pass"


class Mounts(Protocol):
    def match(self, path: str, namespace: str = "") -> tuple[Mount, str] | None: ...


@dataclass(frozen=True, slots=True)
class Route:
    """`mount` and `relative` are set for ENGINE ("creds/demo"), `intercepts` in their order for INTERCEPT."""

    owner: Owner
    mount: Mount | None = None
    relative: str = ""
    intercepts: tuple[Intercept, ...] = ()


_PASS = Route(Owner.PASS)


def route(
    path: str, method: str, mounts: Mounts, intercepts: Sequence[Intercept], namespace: str = ""
) -> Route:
    """`path` is canonical, decoded and without "/v1/"; `namespace` is "" for the root.

    A request in another namespace is the upstream's: the mount table holds mounts of the root only, and the
    header is never resolved here.
    """
    if namespace:
        return _PASS
    found = mounts.match(path, namespace)
    if found is not None:
        if method in PASSING_METHODS:
            return _PASS
        return Route(Owner.ENGINE, mount=found[0], relative=found[1])
    fitting = tuple(
        intercept
        for intercept in intercepts
        if (intercept.methods is None or method in intercept.methods) and intercept.pattern.fullmatch(path)
    )
    return Route(Owner.INTERCEPT, intercepts=fitting) if fitting else _PASS


def owner(
    path: str, method: str, mounts: Mounts, intercepts: Sequence[Intercept], namespace: str = ""
) -> Owner:
    """Only whose it is."""
    return route(path, method, mounts, intercepts, namespace).owner
