"""Programs that are recorded: `python -m tests.crash.recorded NAME ARGUMENTS`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.crash.engine import QUICK_LEASES, QUICK_MINT, Place
from tests.crash.worker import say, work
from tests.unit.storage.samples import lease, mount

from aikeys.framework.clock import SystemClock
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.storage import open_store, sqlite


def life(arguments: dict[str, str]) -> None:
    """The worker on an engine's folder. `pragma` is set on each connection, last."""
    if pragma := arguments.pop("pragma", ""):
        sqlite._PRAGMAS = (*sqlite._PRAGMAS, pragma)  # type: ignore[assignment]
    place = Place(Path(arguments.pop("folder")), **arguments)
    work(place, QUICK_MINT, QUICK_LEASES, threads=8, count=12, stay=0.5)


def first_start(arguments: dict[str, str]) -> None:
    """A store comes to be, and keeps what it is given."""
    store = open_store(Path(arguments["database"]), KeyFileSeal(Path(arguments["key"])), clock=SystemClock())
    store.put_mount(mount())
    say("mounted")
    for number in range(3):
        store.put_lease(lease(number))
        say("stored", lease(number).lease_id)
    store.close()


if __name__ == "__main__":
    {"life": life, "first_start": first_start}[sys.argv[1]](json.loads(sys.argv[2]))
