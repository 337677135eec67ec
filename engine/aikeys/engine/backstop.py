"""When the relay itself ends a key: the last line behind the lease, should nobody be left to revoke. No IO."""

from __future__ import annotations

from datetime import datetime, timedelta

from aikeys.relays.interface import Capabilities

# An end is refused when it lies outside what the relay allows by the relay's clock, after the way there.
RELAY_CLOCK_MARGIN = timedelta(seconds=10)
_SECOND = timedelta(seconds=1)


def relay_end(lease_end: datetime, now: datetime, capabilities: Capabilities) -> datetime:
    """The whole second at which the relay ends a key whose lease ends at `lease_end` at the latest.

    Later than the lease only where the relay allows no shorter life; earlier only where it allows no longer one,
    which a role written through `roles/` can miss by the margin alone.
    """
    least, greatest = capabilities.upstream_expiry
    earliest = now + timedelta(seconds=least) + RELAY_CLOCK_MARGIN
    latest = now + timedelta(seconds=greatest) - RELAY_CLOCK_MARGIN
    return whole_second(min(max(lease_end, earliest), max(latest, earliest)))


def whole_second(moment: datetime) -> datetime:
    """`moment`, or the next whole second: relays know no fractions."""
    return moment if moment.microsecond == 0 else moment.replace(microsecond=0) + _SECOND


def rfc3339(moment: datetime) -> str:
    """A UTC moment in whole seconds, as Vault writes times: 2026-01-02T03:04:05Z."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
