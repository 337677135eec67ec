"""A sidecar on an older copy of its database, on a twin of it, and the sweep from time to time.

Every key that the newest database has leases of works throughout, until an operator has said otherwise.
"""

from __future__ import annotations

import copy
import json
import secrets
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.realparts.openbao import OpenBaoProcess
from tests.sidecar_stack import MOUNT, SidecarStack
from tests.sidecar_stack import eventually as _eventually

TIDY = f"{MOUNT}/tidy"
HOUR = 3600
# Processes start and stop here, on machines that are busy.
eventually = partial(_eventually, seconds=30.0)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SidecarStack]:
    folder = tmp_path_factory.mktemp("older")
    with OpenBaoProcess(folder / "upstream") as upstream, SidecarStack(upstream, folder) as stack:
        stack.request("PUT", f"{MOUNT}/roles/long", {"ttl": "1h", "max_ttl": "2h", "permissions": "chat"})
        yield stack


@pytest.fixture
def stack(running: SidecarStack) -> Iterator[SidecarStack]:
    """Each test begins and ends with no key at the relay that the database does not know."""
    if running.settings:
        restart(running)
    yield running
    running.control.clear_faults()
    running.request("PUT", f"sys/leases/revoke-prefix/{MOUNT}", {"sync": True})
    for key_id in running.live_keys():
        relay(running, "DELETE", f"/keys/{key_id}")


def relay(stack: SidecarStack, method: str, path: str, body: Any = None) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {stack.relay.management_key}"}
    with httpx.Client(trust_env=False, timeout=10) as client:
        answer = client.request(method, stack.relay.base_url + path, json=body, headers=headers)
    assert answer.status_code in {200, 201}, answer.text
    key: dict[str, Any] = answer.json()
    return key


class Held:
    """A key with a lease."""

    def __init__(self, stack: SidecarStack) -> None:
        self._stack = stack
        secret = stack.read_key("long")
        self.lease_id, self.key_id = secret["lease_id"], secret["data"]["key_id"]
        self.key = secret["data"]["api_key"]

    def works(self) -> bool:
        return self._stack.works(self.key)

    def revoke(self) -> None:
        answer = self._stack.request("PUT", "sys/leases/revoke", {"lease_id": self.lease_id, "sync": True})
        assert answer.status_code == 204, answer.text

    def grow_old(self) -> None:
        """As if it had been asked for two hours ago."""
        metadata = self._stack.key_truth(self.key_id)["metadata"]
        serial = metadata["aikeys_serial"].rpartition(".")[0]
        changed = {**metadata, "aikeys_serial": f"{serial}.{int(time.time() - 2 * HOUR)}"}
        relay(self._stack, "PATCH", f"/keys/{self.key_id}", {"metadata": changed})


def orphan(stack: SidecarStack, like: Held) -> str:
    """A key two hours old that nobody knows, made by hand with the mark of another."""
    truth = stack.key_truth(like.key_id)
    serial = truth["metadata"]["aikeys_serial"].rpartition(".")[0]
    end = "".join(secrets.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(16))
    body = {
        "name": truth["name"].rpartition("-")[0] + "-" + end,
        "metadata": {"aikeys_serial": f"{serial}.{int(time.time() - 2 * HOUR)}"},
    }
    return str(relay(stack, "POST", "/keys", body)["id"])


def tidy(stack: SidecarStack, **body: Any) -> dict[str, Any]:
    answer = stack.request("PUT", TIDY, body) if body else stack.request("GET", TIDY)
    assert answer.status_code == 200, answer.text
    data: dict[str, Any] = answer.json()["data"]
    return data


def refusal(stack: SidecarStack, **body: Any) -> httpx.Response:
    answer = stack.request("PUT", TIDY, body) if body else stack.request("GET", TIDY)
    assert answer.status_code == 400, answer.text
    return answer


def logged(stack: SidecarStack, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in stack.log.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def data_of(stack: SidecarStack) -> Path:
    return stack.folder / "data"


def restart(stack: SidecarStack, **settings: str) -> None:
    """The sidecar started anew, with these settings."""
    stack.stop_sidecar()
    with closing(sqlite3.connect(data_of(stack) / "aikeys.db", isolation_level=None)) as database:
        # A sweep that was under way when it stopped keeps its claim for some minutes.
        database.execute("DELETE FROM chores")
    stack.settings = settings
    stack.start_sidecar()


def put_back(stack: SidecarStack, saved: Path) -> None:
    """The sidecar's data are as they were saved, and it runs on them."""
    stack.stop_sidecar()
    shutil.rmtree(data_of(stack))
    shutil.copytree(saved, data_of(stack))
    stack.start_sidecar()


def save(stack: SidecarStack, to: Path) -> None:
    """A backup, while the sidecar runs."""
    shutil.copytree(data_of(stack), to, ignore=shutil.ignore_patterns("aikeys.db*"))
    with (
        closing(sqlite3.connect(data_of(stack) / "aikeys.db")) as live,
        closing(sqlite3.connect(to / "aikeys.db")) as saved,
    ):
        live.backup(saved)


def test_an_older_copy_of_the_database_ends_nobodys_key(stack: SidecarStack, tmp_path: Path) -> None:
    before = Held(stack)
    lost = orphan(stack, before)
    save(stack, tmp_path / "older")
    since = [Held(stack), Held(stack)]
    save(stack, tmp_path / "newest")
    stack.settings = {"AIKEYS_TIDY_INTERVAL": "1"}
    put_back(stack, tmp_path / "older")
    for body in ({}, {"apply": True}, {"apply": True, "force": True}):
        (said,) = refusal(stack, **body).json()["errors"]
        assert "2 key(s) with this mount's mark that this database never asked for" in said
        assert "Put the newest database in place" in said
    eventually(
        lambda: [run for run in logged(stack, "tidy_refused") if "never asked for" in run["reason"]],
        what="the refusal of the sweep from time to time",
    )
    assert all(held.works() for held in [before, *since])
    assert lost in stack.live_keys()
    meanwhile = Held(stack)
    assert meanwhile.works(), "keys are issued all the same"
    meanwhile.revoke()
    # The remedy: the newest database.
    put_back(stack, tmp_path / "newest")
    eventually(lambda: lost not in stack.live_keys(), what="the end of the orphan")
    assert tidy(stack)["counts"]["leased"] == 3
    assert all(held.works() for held in [before, *since])


def test_an_operator_who_gives_the_newest_database_up_says_so_and_loses_those_keys(
    stack: SidecarStack, tmp_path: Path
) -> None:
    before = Held(stack)
    save(stack, tmp_path / "older")
    young, old = Held(stack), Held(stack)
    put_back(stack, tmp_path / "older")
    answer = refusal(stack)
    plan = answer.json()["data"]["plan"]
    assert f"write accept_restored=true and plan={plan} to tidy" in answer.json()["errors"][0]
    refusal(stack, accept_restored=True)
    refusal(stack, accept_restored=True, plan="0" * 32)
    refusal(stack, accept_restored=True, apply=True, plan=plan)
    refusal(stack)
    assert tidy(stack, accept_restored=True, plan=plan)["counts"]["young"] == 2
    assert young.works()
    assert old.works()
    old.grow_old()
    assert tidy(stack, apply=True)["revoked"] == [old.key_id]
    assert not old.works()
    assert young.works(), "it is not older than the safety buffer"
    assert before.works()


def test_a_twin_of_the_sidecar_and_itself_refuse_as_soon_as_they_see_each_others_keys(
    stack: SidecarStack, tmp_path: Path
) -> None:
    first = Held(stack)
    twin = copy.copy(stack)
    twin.folder, twin.settings = tmp_path, dict(stack.settings)
    twin._sidecar, twin._port = None, 0
    save(stack, data_of(twin))
    twin.start_sidecar()
    try:
        lost = orphan(stack, first)
        assert tidy(stack)["keys"] == tidy(twin)["keys"] == [lost], "what both know, both judge alike"
        theirs = Held(twin)
        assert tidy(twin)["counts"]["newer"] == 0
        refusal(stack, apply=True)
        ours = Held(stack)
        refusal(twin, apply=True)
        assert all(held.works() for held in [first, theirs, ours])
        theirs.revoke()
        assert tidy(stack, apply=True)["revoked"] == [lost], "once the twin has no key left"
    finally:
        twin.stop_sidecar()


def test_a_mint_that_was_under_way_when_the_copy_was_made_keeps_its_key(
    stack: SidecarStack, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    stack.control.fault("latency", method="POST", path="/v1/keys", seconds=8.0, when="after")
    held: list[Held] = []
    slow = threading.Thread(target=lambda: held.append(Held(stack)))
    slow.start()
    try:
        eventually(lambda: len(stack.live_keys()) == 1, what="the key at the relay")
        save(stack, older)
    finally:
        slow.join()
    held.append(Held(stack))
    with closing(sqlite3.connect(older / "aikeys.db")) as saved:
        # As if half a minute had passed: the mint is surely over, and its outcome unknown to this copy.
        assert saved.execute("UPDATE intents SET due_at = 0 WHERE state = 'minting'").rowcount == 1
        saved.commit()
    put_back(stack, older)
    eventually(
        lambda: [
            line for line in logged(stack, "a mint intent stays open") if "never asked for" in line["reason"]
        ],
        what="a look at what was left",
    )
    assert all(one.works() for one in held)
    assert stack.key_truth(held[0].key_id)["name"] == logged(stack, "a mint intent stays open")[0]["key_name"]


def test_from_time_to_time_it_is_done_without_being_asked_under_the_same_guards(stack: SidecarStack) -> None:
    restart(stack, AIKEYS_TIDY_INTERVAL="1", AIKEYS_WORKERS="2")
    held = [Held(stack) for _ in range(12)]
    first = orphan(stack, held[0])
    eventually(lambda: first not in stack.live_keys(), what="the end of the orphan")
    eventually(lambda: [run for run in logged(stack, "tidied") if run["ended"]], what="a word about it")
    # No sweep sees some of them before there are too many.
    stack.control.fault("error", method="GET", path="/v1/keys", count=None)
    many = {orphan(stack, held[0]) for _ in range(21)}
    stack.control.clear_faults()
    eventually(
        lambda: [run for run in logged(stack, "tidy_refused") if "21 of the 33" in run["reason"]],
        what="the refusal to end so many",
    )
    # Both workers gave serials; neither takes the other's keys for strange ones.
    assert tidy(stack)["counts"]["leased"] == len(held)
    assert many <= stack.live_keys()
    assert all(one.works() for one in held)
