"""A process that issues, renews and revokes until it is done or killed, and says on stdout what it was told.

Each line is written only after the engine has confirmed it, so what stands there is what a client would have been
promised: `issued <lease> <key>`, `ending <lease>` (before the question), `revoked <lease>`, `marked <lease>`.
"""

from __future__ import annotations

import os
import sys
import threading

from tests.crash.engine import Engine, Place

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


def work(
    place: Place,
    bounds: MintBounds,
    leases: LeaseSettings,
    threads: int = 8,
    count: int = 12,
    stay: float = 4.0,
) -> None:
    """`threads` clients with `count` keys each; then the background has `stay` seconds for the last leases to end, and
    perhaps for those of a process that died beside this one."""
    engine = Engine(place, bounds, leases)
    engine.background.start()
    clients = [
        threading.Thread(target=client, args=(engine, number * 1000, count)) for number in range(threads)
    ]
    for thread in clients:
        thread.start()
    for thread in clients:
        thread.join()
    lose_and_tidy(engine)
    say("done")
    threading.Event().wait(stay)
    engine.close()
