"""A relay that answers what a test says, and the driver that asks it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.transport.server import Peer, Received, ScriptedServer, answer

from aikeys.framework.deadline import Deadline
from aikeys.redaction import SecretString
from aikeys.relays.holysheep import HolySheepDriver
from aikeys.relays.interface import (
    DriverError,
    KeyRef,
    MintIntent,
    RelayConfig,
    Scopes,
)

MANAGEMENT_KEY = "management-key-of-no-known-pattern"
MINTED = "minted-key-of-no-known-pattern-0001"
NAME = "vlt-abcdefgh-abcdefghijklmnop"
INTENT = MintIntent(
    "abcdefghijklmnop",
    NAME,
    "aikeys-abcdefghijklmnop",
    Scopes(rate_limit=60),
    datetime(2030, 1, 1, tzinfo=UTC),
)
END = int(INTENT.expires_at.timestamp())
REF = KeyRef("holysheep", "http://127.0.0.1/v1", "key_01", NAME)
KEY = {"id": "key_01", "name": NAME, "status": "active", "expires_at": END, "rate_limit": 60}


def says(body: Any, status: str = "200 OK", *headers: str) -> bytes:
    return answer(json.dumps(body).encode(), status, "Content-Type: application/json", *headers)


class Relay:
    """A driver and the scripted relay it asks."""

    def __init__(self, server: ScriptedServer, **config: Any) -> None:
        self.server = server
        self.driver = HolySheepDriver(
            RelayConfig("holysheep", f"{server.url}/v1", SecretString(MANAGEMENT_KEY), **config)
        )


@pytest.fixture
def relay() -> Iterator[Callable[..., Relay]]:
    """Make one that answers every request so, or as a function of the request says."""
    opened: list[tuple[ScriptedServer, HolySheepDriver]] = []

    def make(reply: bytes | Callable[[Received], bytes], **config: Any) -> Relay:
        def script(peer: Peer) -> None:
            while (request := peer.request()) is not None:
                peer.send(reply if isinstance(reply, bytes) else reply(request))

        server = ScriptedServer(script)
        server.__enter__()
        made = Relay(server, **config)
        opened.append((server, made.driver))
        return made

    yield make
    for server, driver in opened:
        driver.close()
        server.__exit__(None, None, None)


def failing(relay: Relay, call: Callable[[HolySheepDriver], object]) -> DriverError:
    with pytest.raises(DriverError) as failed:
        call(relay.driver)
    error = failed.value
    shown = f"{error!r} {error} {vars(error)} {error.__cause__!r} {error.__context__!r}"
    assert MANAGEMENT_KEY not in shown
    assert MINTED not in shown
    return error


def mint(driver: HolySheepDriver) -> object:
    return driver.mint(INTENT, Deadline.after(5))


def page(names: list[int], more: Any) -> bytes:
    data = [{"id": f"key_{n}", "name": f"vlt-abcdefgh-{n}", "status": "active"} for n in names]
    return says({"object": "list", "data": data, "has_more": more, "last_id": None})
