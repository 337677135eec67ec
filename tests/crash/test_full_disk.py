"""The disk is full: nothing is made that could not be recorded, what is to end ends, and when there is room all goes on."""

from __future__ import annotations

import contextlib
import resource
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.crash.conftest import Relays
from tests.crash.door import Door
from tests.realparts.process import processes_of_session
from tests.realparts.requirements import missing
from tests.realparts.server import Server
from tests.sidecar_stack import eventually

from aikeys.relay_simulator.control import SimulatorControl

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

DISK_MIB = 48
# Seconds. The leases of `short` end while the disk is full.
SHORT = 6
CLIENTS = 8


class FullTmpfs:
    """A small file system of its own, filled to the last byte by somebody else's file."""

    #: Whether room that is kept aside helps.
    spares = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m,mode=0700", "none", str(folder)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            missing("tmpfs", f"mount says: {done.stderr.strip()}")

    def fill(self, door: Door) -> None:
        with (self.folder / "somebody-elses").open("ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (65_536, 4096, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))

    def empty(self, door: Door) -> None:
        (self.folder / "somebody-elses").unlink()

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.folder)], check=False)


class FileSizeLimit:
    """No file of the sidecar's may grow (RLIMIT_FSIZE): what needs no right and no file system."""

    spares = False

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def fill(self, door: Door) -> None:
        self._limit(door, 4096)

    def empty(self, door: Door) -> None:
        self._limit(door, resource.RLIM_INFINITY)

    def close(self) -> None:
        """Nothing to take back."""

    def _limit(self, door: Door, size: int) -> None:
        for pid in processes_of_session(door.pid):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


BOTH = pytest.mark.parametrize("disk", [FullTmpfs, FileSizeLimit], ids=["tmpfs", "limit"], indirect=True)


@pytest.fixture
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[FullTmpfs | FileSizeLimit]:
    made = request.param(tmp_path / "disk")
    yield made
    made.close()


@pytest.fixture
def door(openbao: Server, relays: Relays, disk: FullTmpfs | FileSizeLimit) -> Iterator[Door]:
    with relays.take(alone=True) as relay:
        made = Door(openbao, relay, disk.folder)
        yield made
        made.close()


def said(answer: httpx.Response | None) -> str:
    assert answer is not None
    return " ".join(answer.json()["errors"])


def refused_for_want_of_room(answer: httpx.Response | None) -> bool:
    """A 503 that names the disk."""
    if answer is None or answer.status_code != 503:
        return False
    text = said(answer)
    assert "no space left" in text or "the disk of the database" in text, text
    return True


@BOTH
def test_on_a_full_disk_no_key_is_made_and_those_that_end_end(
    door: Door, disk: FullTmpfs | FileSizeLimit
) -> None:
    door.start()
    door.mount(door.busy)
    door.ok("POST", f"{door.busy}/roles/short", {"ttl": SHORT, "max_ttl": 60, "permissions": ["chat"]})
    keep, end = (door.key(door.busy) for _ in range(2))
    with SimulatorControl(door.relay.address) as control:
        running_out = [door.ok("GET", f"{door.busy}/creds/short") for _ in range(4)]
        disk.fill(door)

        def read(_: int) -> httpx.Response | None:
            return door.ask("GET", f"{door.busy}/creds/demo")

        # What SQLite has written before it may write again, so the first few may still fit.
        eventually(lambda: refused_for_want_of_room(read(0)), seconds=30, pause=0)
        before = len(control.calls("POST", "/v1/keys"))
        with ThreadPoolExecutor(CLIENTS) as clients:
            assert all(map(refused_for_want_of_room, clients.map(read, range(3 * CLIENTS))))
        assert len(control.calls("POST", "/v1/keys")) == before, "the relay was asked for a key"
        assert door.works(keep[1]), "nothing else has ended"

        revoked = door.ask("POST", "sys/leases/revoke", {"lease_id": end[0], "sync": True})
        if disk.spares:
            assert revoked is not None
            assert revoked.status_code == 204, revoked.text
            assert not door.works(end[1])
            for lease in running_out:
                eventually(lambda lease=lease: not door.works(lease["data"]["api_key"]), seconds=40)  # type: ignore[misc]
            assert refused_for_want_of_room(read(0))
        mounting = door.ask("POST", f"sys/mounts/{door.path()}", {"type": "ai-keys"})
        assert mounting is not None
        assert mounting.status_code == 204 or refused_for_want_of_room(mounting)

        disk.empty(door)
        eventually(lambda: getattr(read(0), "status_code", 0) == 200, seconds=30, what="keys again")
        door.ok("POST", "sys/leases/revoke", {"lease_id": end[0], "sync": True})
        assert not door.works(end[1])
        door.promises.ended |= {end[0], *(lease["lease_id"] for lease in running_out)}
        eventually(lambda: not door.promises.ended & door.lease_ids(), seconds=40, what="the leases' end")
        assert door.works(keep[1])
        door.remember()
        door.judge(control)


@pytest.mark.parametrize("disk", [FullTmpfs], indirect=True)
def test_on_a_full_disk_the_sidecar_starts_and_ends_what_it_was_to_end(door: Door, disk: FullTmpfs) -> None:
    door.start()
    door.mount(door.busy)
    door.ok("POST", f"{door.busy}/roles/short", {"ttl": SHORT, "max_ttl": 60, "permissions": ["chat"]})
    running_out = [door.ok("GET", f"{door.busy}/creds/short") for _ in range(4)]
    door.kill()
    disk.fill(door)

    door.start()

    for lease in running_out:
        eventually(lambda lease=lease: not door.works(lease["data"]["api_key"]), seconds=60)  # type: ignore[misc]
    # What SQLite has written before it may write again, so the first few may still fit.
    eventually(
        lambda: refused_for_want_of_room(door.ask("GET", f"{door.busy}/creds/demo")), seconds=30, pause=0
    )
    disk.empty(door)
    eventually(
        lambda: getattr(door.ask("GET", f"{door.busy}/creds/demo"), "status_code", 0) == 200, seconds=30
    )
