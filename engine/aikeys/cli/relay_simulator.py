"""``aikeys relay-simulator``."""

from aikeys.relay_simulator.command import relay_simulator

__all__ = ["relay_simulator"]
