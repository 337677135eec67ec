"""A role: what the keys minted under a name may do and how long they live. No IO."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aikeys.framework.durations import format_duration
from aikeys.framework.money import Money
from aikeys.framework.response import InvalidRequest
from aikeys.leases.arithmetic import effective_max
from aikeys.relays.interface import Budget, Capabilities, Scopes
from aikeys.storage.records import IssueLimits

# A role's name travels in the key's metadata at the relay, whose values hold 256 characters.
NAME_MAX = 128
# The relay takes 16 pairs; some of them are the engine's own, and begin so.
METADATA_MAX_PAIRS = 10
METADATA_OWN = "aikeys_"
METADATA_MAX_KEY = 64
METADATA_MAX_VALUE = 256
# Each issue of a limited role reads up to so many entries of an index, and the latest issues are kept: both are
# meant for what a role may need, not for what a relay can bear.
MAX_LEASES = 100_000
MAX_ISSUE_LIMIT = 10_000
DEFAULT_ISSUE_PERIOD = 60
MAX_ISSUE_PERIOD = 30 * 24 * 3600
# Names of this form stand in the shadow mount so that a LIST can be proven; they are no roles.
_RESERVED = re.compile(r"aikeys-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Role:
    """`ttl` and `max_ttl` in seconds, 0 for the mount's own. `issue_limit` keys may be issued in any `issue_period`
    seconds, and `max_leases` leases exist at once; 0: no limit."""

    ttl: int = 0
    max_ttl: int = 0
    scopes: Scopes = field(default_factory=Scopes)
    metadata: Mapping[str, str] = field(default_factory=dict)
    verify_revocation: bool = False
    budget: str | dict[str, str] = ""
    max_leases: int = 0
    issue_limit: int = 0
    issue_period: int = DEFAULT_ISSUE_PERIOD

    @classmethod
    def from_entry(cls, entry: Mapping[str, Any]) -> Role:
        """From the stored fields: those that were written, each in its coerced form. A zero limit is none."""
        budget = entry.get("budget", "")
        money = Money.of(budget)
        scopes = Scopes(
            permissions=tuple(dict.fromkeys(entry.get("permissions", ()))),
            allowed_models=tuple(dict.fromkeys(entry.get("allowed_models", ()))),
            rate_limit=entry.get("rate_limit") or None,
            max_tpm=entry.get("max_tpm") or None,
            budget=Budget(money.limit, money.currency, money.period) if money else None,
            team_id=entry.get("team_id", ""),
        )
        return cls(
            ttl=entry.get("ttl", 0),
            max_ttl=entry.get("max_ttl", 0),
            scopes=scopes,
            metadata=dict(entry.get("metadata", {})),
            verify_revocation=entry.get("verify_revocation", False),
            budget=budget,
            max_leases=entry.get("max_leases", 0),
            issue_limit=entry.get("issue_limit", 0),
            issue_period=entry.get("issue_period") or DEFAULT_ISSUE_PERIOD,
        )

    @property
    def limits(self) -> IssueLimits | None:
        """What is looked at before a key is asked for; None when there is nothing to look at."""
        if not self.max_leases and not self.issue_limit:
            return None
        return IssueLimits(self.max_leases, self.issue_limit, self.issue_period)

    def key_metadata(self, name: str, mount_path: str) -> dict[str, str]:
        """What the relay keeps with a key: the role's own pairs, and where the key comes from."""
        return {
            **self.metadata,
            f"{METADATA_OWN}role": name,
            f"{METADATA_OWN}mount": mount_path[:METADATA_MAX_VALUE],
        }

    def effective_max(self, mount_max: int) -> int:
        """How long a key of this role can live by renewals, in seconds."""
        return effective_max(self.max_ttl, mount_max)

    def effective_ttl(self, mount_default: int, mount_max: int) -> int:
        """How long a key lives that is never renewed, in seconds."""
        return min(self.ttl or mount_default, self.effective_max(mount_max))


def check_name(name: str) -> None:
    """Raise InvalidRequest for a name no role may have."""
    if len(name) > NAME_MAX:
        raise InvalidRequest(f"the name of a role may have at most {NAME_MAX} characters, not {len(name)}")
    if _RESERVED.fullmatch(name):
        raise InvalidRequest(f"role name {name!r} is reserved: any other than aikeys-<16 hex digits> will do")


def check_role(role: Role) -> None:
    """Raise InvalidRequest for what no relay is needed to see."""
    if role.max_ttl and role.ttl > role.max_ttl:
        raise InvalidRequest(
            f"ttl of {format_duration(role.ttl)} must not be greater than max_ttl of {format_duration(role.max_ttl)}"
        )
    for name in ("rate_limit", "max_tpm"):
        if (getattr(role.scopes, name) or 0) < 0:
            raise InvalidRequest(f"{name} must not be negative")
    for name, most in (("max_leases", MAX_LEASES), ("issue_limit", MAX_ISSUE_LIMIT)):
        if not 0 <= getattr(role, name) <= most:
            raise InvalidRequest(f"{name} must be from 1 to {most}, or 0 for no limit")
    if role.issue_period > MAX_ISSUE_PERIOD:
        raise InvalidRequest(f"issue_period must be at most {format_duration(MAX_ISSUE_PERIOD)}")
    for name in ("permissions", "allowed_models"):
        if not all(getattr(role.scopes, name)):
            raise InvalidRequest(f"{name} holds an empty name")
    if len(role.metadata) > METADATA_MAX_PAIRS:
        raise InvalidRequest(
            f"metadata may hold at most {METADATA_MAX_PAIRS} pairs, not {len(role.metadata)}"
        )
    for key, value in role.metadata.items():
        if key.startswith(METADATA_OWN):
            raise InvalidRequest(f"metadata keys that begin with {METADATA_OWN} are the engine's own")
        if not 0 < len(key) <= METADATA_MAX_KEY or len(value) > METADATA_MAX_VALUE:
            raise InvalidRequest(
                f"metadata keys have 1 to {METADATA_MAX_KEY} characters and values at most {METADATA_MAX_VALUE}"
            )


def check_lifetime(role: Role, mount_max: int, relay: str, capabilities: Capabilities) -> list[str]:
    """Refuse a role whose keys could outlive what the relay can end by itself; warn of one that is too short for it.

    The relay's own expiry is the last line behind the lease: a role that goes beyond it has none.
    """
    least, greatest = capabilities.upstream_expiry
    longest = role.effective_max(mount_max)
    if longest > greatest:
        raise InvalidRequest(
            f'relay "{relay}" ends every key after {format_duration(greatest)} at most, but keys of this role could '
            f"live {format_duration(longest)}: set a smaller max_ttl, or tune max_lease_ttl of the mount"
        )
    if longest < least:
        warning = (
            f'relay "{relay}" cannot end a key by itself before {format_duration(least)}: keys of this role are '
            f"revoked after {format_duration(longest)} at most, but should revocation fail they end only then"
        )
        return [warning]
    return []
