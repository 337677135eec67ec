"""The relays there are."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aikeys.relays import holysheep_keys
from aikeys.relays.holysheep import HolySheepDriver
from aikeys.relays.interface import Capabilities, Driver, DriverError, Kind, Outcome, RelayConfig


@dataclass(frozen=True, slots=True)
class _Relay:
    make: Callable[[RelayConfig], Driver]
    capabilities: Capabilities


_RELAYS: Mapping[str, _Relay] = {
    HolySheepDriver.name: _Relay(HolySheepDriver, holysheep_keys.CAPABILITIES),
}


def relay_names() -> list[str]:
    """What `relay` in a mount's config may be."""
    return sorted(_RELAYS)


def make_driver(config: RelayConfig) -> Driver:
    """A driver of its own for this config; close it. No IO. `DriverError` (config) when the config cannot be used."""
    return _relay(config.relay).make(config)


def capabilities_of(name: str) -> Capabilities:
    """What this relay can do, known without asking it."""
    return _relay(name).capabilities


def _relay(name: str) -> _Relay:
    try:
        return _RELAYS[name]
    except KeyError:
        raise DriverError(
            Kind.CONFIG,
            Outcome.NOT_APPLIED,
            f"relay {name[:64]!r} is unknown: allowed are {', '.join(relay_names())}",
        ) from None
