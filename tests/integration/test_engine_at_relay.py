"""The engine with every real part below it: driver, transport, minter, leases and store, at the relay simulator.

The judge is the relay: whether a key works is asked there, and which keys exist is read from its own books.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from aikeys.engine.backend import build_backend
from aikeys.engine.services import Services
from aikeys.framework.clock import SystemClock
from aikeys.framework.request import Caller, Mount, Operation, Request
from aikeys.framework.response import EngineError, InvalidRequest, Response
from aikeys.leases.lease import Registered
from aikeys.leases.manager import LeaseManager
from aikeys.minting.minter import Minter
from aikeys.relay_simulator.control import SimulatorControl
from aikeys.relay_simulator.process import RelaySimulatorProcess
from aikeys.relays import registry
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.sidecar.build import EngineCallbacks
from aikeys.storage import open_store
from aikeys.storage.records import MountRecord

MOUNT = Mount(
    uuid="0000-mount",
    path="ai-keys/",
    accessor="ai-keys_1234",
    instance="abcdefgh",
    default_lease_ttl=2_764_800,
    max_lease_ttl=2_764_800,
)
CALLER = Caller(accessor="acc-1", display_name="app")


@pytest.fixture(scope="module")
def relay_process() -> Iterator[RelaySimulatorProcess]:
    with RelaySimulatorProcess() as process:
        yield process


@pytest.fixture
def control(relay_process: RelaySimulatorProcess) -> Iterator[SimulatorControl]:
    with SimulatorControl(relay_process.address) as control:
        control.reset()
        yield control


class Engine:
    def __init__(self, folder: Path, relay: RelaySimulatorProcess) -> None:
        self.relay = relay
        clock = SystemClock()
        self.store = open_store(folder / "aikeys.db", KeyFileSeal(folder / "seal"), clock=clock)
        self.store.put_mount(
            MountRecord(
                uuid=MOUNT.uuid,
                path=MOUNT.path,
                accessor=MOUNT.accessor,
                instance=MOUNT.instance,
                default_lease_ttl=MOUNT.default_lease_ttl,
                max_lease_ttl=MOUNT.max_lease_ttl,
                marker_key="00" * 32,
            )
        )
        services = Services.of_store(self.store, Minter(self.store, clock), registry, clock)
        self.connections = services.connections
        self.backend = build_backend(services)
        self.leases = LeaseManager(self.store, clock, EngineCallbacks(self.backend), lambda _uuid: MOUNT)

    def close(self) -> None:
        self.connections.close()
        self.store.close()

    def do(self, operation: Operation, path: str, **data: Any) -> Response | None:
        return self.backend.handle(Request(operation, path, MOUNT, data=data, caller=CALLER))

    def write(self, path: str, **data: Any) -> Response | None:
        return self.do(Operation.UPDATE, path, **data)

    def configure(self, **data: Any) -> Response | None:
        given = {"base_url": self.relay.base_url, "management_key": self.relay.management_key, **data}
        return self.write("config", **given)

    def issue(self, role: str = "demo", **data: Any) -> tuple[dict[str, Any], Registered]:
        answer = self.do(Operation.READ, f"creds/{role}", **data)
        assert answer is not None
        assert answer.data is not None
        assert answer.secret is not None
        return answer.data, self.leases.register(MOUNT, f"ai-keys/creds/{role}", answer.secret, CALLER)

    def chat(self, key: str, model: str = "gpt-4.1") -> int:
        body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        with httpx.Client(base_url=self.relay.base_url, timeout=20, trust_env=False) as client:
            answer = client.post("/chat/completions", headers={"Authorization": f"Bearer {key}"}, json=body)
        return answer.status_code


@pytest.fixture
def engine(
    tmp_path: Path, relay_process: RelaySimulatorProcess, control: SimulatorControl
) -> Iterator[Engine]:
    made = Engine(tmp_path, relay_process)
    made.configure()
    made.write(
        "roles/demo", ttl="60s", max_ttl="180s", permissions="chat", allowed_models="gpt-4.1,gpt-4.1-mini"
    )
    yield made
    made.close()


def test_a_key_works_within_its_limits_until_its_lease_is_revoked(engine: Engine) -> None:
    data, lease = engine.issue()

    assert engine.chat(data["api_key"]) == 200
    assert engine.chat(data["api_key"], model="deepseek-v3.2") == 403
    engine.leases.revoke(lease.lease_id, sync=True)
    assert engine.chat(data["api_key"]) == 401


def test_what_creds_says_is_what_the_relay_has(engine: Engine, control: SimulatorControl) -> None:
    engine.write(
        "roles/full",
        ttl=60,
        max_ttl=3600,
        permissions="chat,embeddings",
        allowed_models="gpt-*",
        rate_limit=30,
        max_tpm=5000,
        budget={"limit": "2.50", "currency": "USD", "period": "day"},
        metadata={"owner": "search"},
    )

    data, _lease = engine.issue("full")

    with httpx.Client(base_url=engine.relay.base_url, timeout=20, trust_env=False) as client:
        management = {"Authorization": f"Bearer {engine.relay.management_key}"}
        key = client.get(f"/keys/{data['key_id']}", headers=management).json()
    assert key["permissions"] == data["permissions"] == ["chat", "embeddings"]
    assert key["allowed_models"] == data["allowed_models"] == ["gpt-*"]
    assert (key["rate_limit"], key["max_tpm"]) == (data["rate_limit"], data["max_tpm"]) == (30, 5000)
    assert {name: key["budget"][name] for name in ("limit", "currency", "period")} == data["budget"]
    assert key["expires_at"] == int(datetime.fromisoformat(data["expires_at"]).timestamp())
    assert key["metadata"]["owner"] == "search"


def test_a_renewal_beyond_the_keys_end_moves_that_end_at_the_relay(engine: Engine) -> None:
    data, lease = engine.issue()
    engine.write("roles/demo", max_ttl="1h")

    engine.leases.renew(lease.lease_id, 1800)

    with httpx.Client(base_url=engine.relay.base_url, timeout=20, trust_env=False) as client:
        management = {"Authorization": f"Bearer {engine.relay.management_key}"}
        key = client.get(f"/keys/{data['key_id']}", headers=management).json()
    before = int(datetime.fromisoformat(data["expires_at"]).timestamp())
    assert 3400 <= key["expires_at"] - before <= 3425
    assert engine.chat(data["api_key"]) == 200


def test_a_key_shorter_than_the_relay_allows_is_minted_all_the_same(engine: Engine) -> None:
    engine.write("roles/short", ttl=8, max_ttl=20)

    data, lease = engine.issue("short")

    assert lease.ttl == 8
    assert engine.chat(data["api_key"]) == 200


def test_a_config_the_relay_does_not_accept_is_refused_and_the_old_one_stays(engine: Engine) -> None:
    with pytest.raises(InvalidRequest, match="does not accept the management key"):
        engine.configure(management_key="sk-holysheep-admin-" + "x" * 32)
    with pytest.raises(InvalidRequest, match=r"could not be asked .*verify_connection=false"):
        engine.configure(base_url="http://127.0.0.1:1/v1")

    engine.issue()


def test_a_data_key_is_no_management_key(engine: Engine) -> None:
    data, _lease = engine.issue()

    with pytest.raises(InvalidRequest, match="not a management key"):
        engine.configure(management_key=data["api_key"])


def test_a_role_the_relay_cannot_honour_is_refused_with_what_it_can(engine: Engine) -> None:
    for data, text in (
        ({"permissions": "fly"}, "permissions 'fly' cannot be granted: allowed are chat"),
        ({"rate_limit": 5000}, "it must be from 1 to 1000"),
        ({"budget": {"limit": "5", "currency": "EUR"}}, "the currency is USD"),
        ({"allowed_models": "gpt*4"}, "cannot be enforced"),
    ):
        with pytest.raises(InvalidRequest, match="cannot honour this role") as refused:
            engine.write("roles/bad", ttl=60, **data)
        assert text in str(refused.value)
    assert engine.do(Operation.READ, "roles/bad") is None


def test_a_key_deleted_behind_our_back_is_revoked_once_the_management_key_is_proven(
    engine: Engine, control: SimulatorControl
) -> None:
    _data, lease = engine.issue()
    control.reset()

    engine.leases.revoke(lease.lease_id, sync=True)

    assert engine.leases.lookup(lease.lease_id) is None


def test_a_dead_management_key_does_not_make_leases_vanish(
    engine: Engine, relay_process: RelaySimulatorProcess
) -> None:
    data, lease = engine.issue()
    engine.configure(management_key="sk-holysheep-admin-" + "x" * 32, verify_connection=False)

    with pytest.raises(EngineError, match="failed to revoke entry"):
        engine.leases.revoke(lease.lease_id, sync=True)

    assert engine.leases.lookup(lease.lease_id) is not None
    assert engine.chat(data["api_key"]) == 200
    engine.configure()
    engine.leases.revoke(lease.lease_id, sync=True)
    assert engine.chat(data["api_key"]) == 401


def test_a_verified_revocation_sees_the_key_refused(tmp_path: Path) -> None:
    with RelaySimulatorProcess(revoke_lag_ms=400) as relay:
        engine = Engine(tmp_path, relay)
        engine.configure()
        engine.write("roles/demo", ttl=60, permissions="chat", verify_revocation=True)
        data, lease = engine.issue()
        record = engine.store.lease(lease.lease_id)
        assert record is not None

        report = engine.leases.revocation.attempt(record, "test")

        assert engine.chat(data["api_key"]) == 401
        assert 0.3 < report["lag"] < 2.0
        engine.close()


def test_a_relay_that_wants_signatures_gets_them(tmp_path: Path) -> None:
    secret = "hs-sign-" + "s" * 43
    with RelaySimulatorProcess(signing_secret=secret) as relay:
        engine = Engine(tmp_path, relay)
        engine.configure()
        engine.write("roles/demo", ttl=60, permissions="chat")
        with pytest.raises(InvalidRequest, match="the relay refused to make a key"):
            engine.issue()
        engine.configure(signing_secret=secret)

        data, lease = engine.issue()

        assert engine.chat(data["api_key"]) == 200
        engine.leases.revoke(lease.lease_id, sync=True)
        assert engine.chat(data["api_key"]) == 401
        engine.close()


def test_the_database_holds_no_key(engine: Engine, tmp_path: Path) -> None:
    engine.write("roles/demo", verify_revocation=True)
    data, _lease = engine.issue()

    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith("aikeys.db"))

    assert data["api_key"].encode() not in stored
    assert engine.relay.management_key.encode() not in stored
