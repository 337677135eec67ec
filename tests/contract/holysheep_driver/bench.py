"""The simulator, its control plane and a driver of its management key, in one hand."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from aikeys.framework.deadline import Deadline
from aikeys.redaction import SecretString
from aikeys.relay_simulator.control import SimulatorControl
from aikeys.relay_simulator.process import RelaySimulatorProcess
from aikeys.relays.interface import Driver, DriverError, Minted, MintIntent, RelayConfig, Scopes

PREFIX = "vlt-testtest-"


@dataclass
class Bench:
    """The simulator, its control plane and a driver of its management key."""

    process: RelaySimulatorProcess
    control: SimulatorControl
    driver: Driver
    count: int = 0

    def config(self, **changes: Any) -> RelayConfig:
        config = RelayConfig("holysheep", self.process.base_url, SecretString(self.process.management_key))
        return replace(config, **changes)

    def intent(self, *, life: int = 3600, **scopes: Any) -> MintIntent:
        """A fresh intent of a key that lives so many seconds by the relay's clock."""
        self.count += 1
        return MintIntent(
            intent_id=f"intent{self.count}",
            name=f"{PREFIX}{self.count:016d}",
            idempotency_key=f"aikeys-{time.monotonic_ns()}-{self.count}",
            scopes=Scopes(**scopes),
            expires_at=datetime.fromtimestamp(int(self.control.now()) + life, UTC),
            metadata={"role": "demo"},
        )

    def mint(self, **options: Any) -> Minted:
        return self.driver.mint(self.intent(**options), soon())

    def live(self, name: str = PREFIX) -> list[dict[str, Any]]:
        """What the relay's books say."""
        return [key for key in self.control.keys(name) if key["status"] in ("active", "disabled", "retiring")]


def soon() -> Deadline:
    return Deadline.after(10)


def failing(call: Any, *args: Any) -> DriverError:
    with pytest.raises(DriverError) as failed:
        call(*args)
    return failed.value
