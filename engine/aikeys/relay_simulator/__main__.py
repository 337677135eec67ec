"""``python -m aikeys.relay_simulator``."""

import typer

from aikeys.relay_simulator.command import relay_simulator

typer.run(relay_simulator)
