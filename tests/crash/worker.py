"""A process that issues, renews and revokes until it is done or killed, and says on stdout what it was told.

Each line is written only after the engine has confirmed it, so what stands there is what a client would have been
promised: `issued <lease> <key>`, `ending <lease>` (before the question), `revoked <lease>`, `marked <lease>`.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from pathlib import Path

from tests.crash.engine import QUICK_LEASES, QUICK_MINT, Engine, Place

from aikeys.framework.response import EngineError
from aikeys.leases.settings import LeaseSettings
from aikeys.minting.bounds import MintBounds


def say(*words: str) -> None:
    # One write each: a killed process leaves whole lines.
    os.write(sys.stdout.fileno(), (" ".join(words) + "\n").encode())


def session(engine: Engine, number: int) -> None:
    """One client's life with one key."""
    role = "short" if number % 5 == 4 else "demo"
    lease, key_id = engine.issue(role)
    say("issued", lease.lease_id, key_id)
    if role == "short":
        say("ending", lease.lease_id)
        return
    if number % 2:
        engine.leases.renew(lease.lease_id, 900)
        say("renewed", lease.lease_id)
    if number % 3 == 0:
        return
    say("ending", lease.lease_id)
    if number % 3 == 1:
        engine.leases.revoke(lease.lease_id)
        say("revoked", lease.lease_id)
    else:
        engine.leases.revoke(lease.lease_id, sync=False)
        say("marked", lease.lease_id)


def client(engine: Engine, first: int, count: int) -> None:
    for number in range(first, first + count):
        try:
            session(engine, number)
        except EngineError as error:
            say("refused", error.message.replace("\n", " "))


def lose_and_tidy(engine: Engine) -> None:
    """Two leases are lost, as with a damaged database; the sweep ends their keys."""
    for _ in range(2):
        lease, key_id = engine.issue("demo")
        say("issued", lease.lease_id, key_id)
        say("ending", lease.lease_id)
        engine.store.delete_lease(lease.lease_id)
    engine.tidy()


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("folder", "base-url", "management-key", "instance"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--real-bounds", action="store_true")
    options = parser.parse_args()
    place = Place(Path(options.folder), options.base_url, options.management_key, options.instance)
    bounds = (MintBounds(), LeaseSettings()) if options.real_bounds else (QUICK_MINT, QUICK_LEASES)
    engine = Engine(place, *bounds)
    engine.background.start()
    threads = [
        threading.Thread(target=client, args=(engine, number * 1000, options.count))
        for number in range(options.threads)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lose_and_tidy(engine)
    say("done")
    # The background has the last leases to end, and perhaps those of a process that died beside this one.
    threading.Event().wait(4)
    engine.close()


if __name__ == "__main__":
    main()
