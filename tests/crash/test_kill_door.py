"""The real sidecar is killed at each step of mounting, tuning, moving and disabling, and of wrapping, with its clients
busy; after a restart every mount is wholly there or wholly gone, and the relay's books agree."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from tests.crash.conftest import AT_ONCE, ISSUANCES, Relays
from tests.crash.door import Clients, Door
from tests.crash.test_kill import LIFE
from tests.realparts.server import Server
from tests.sidecar_stack import eventually

from aikeys.relay_simulator.control import SimulatorControl
from aikeys.sidecar.intercepts.entries import MARK_OPTION
from aikeys.storage.failpoints import POINTS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OURS = "ai-keys"
THERE, GONE = True, False


@dataclass(frozen=True)
class Scene:
    """`prepare` and `act` are done in order, the process dies in `act`. `nth` time the point is then reached.

    `whole`: whether the mount "target" (or "moved") is there after the restart, None where either will do.
    """

    act: Callable[[Door], object]
    prepare: Callable[[Door], object] = lambda _door: None
    nth: int = 1
    whole: bool | None = None
    target: str = "target"


def enable(door: Door, **options: Any) -> None:
    door.ask("POST", f"sys/mounts/{door.path()}", {"type": OURS, "options": {"team": "ml"}}, **options)


def enable_without_options(door: Door) -> None:
    """The caller's policy knows nothing of the field that holds the mark."""
    policy = f'path "sys/mounts/{door.path()}" {{ capabilities = ["create", "update"] allowed_parameters = {{ "type" = [] }} }}'
    door.ask("POST", f"sys/mounts/{door.path()}", {"type": OURS}, token=door.token(policy))


def enable_half_open(door: Door) -> None:
    """Where the sidecar may write no marker."""
    door.ask("POST", f"sys/mounts/{door.half_open}", {"type": OURS})


def mount(door: Door) -> None:
    door.mount(door.path())
    for _ in range(3):
        door.key(door.path())


def take_its_path(door: Door) -> None:
    door.ask("DELETE", f"sys/mounts/{door.path()}", upstream=True)
    door.ask("POST", f"sys/mounts/{door.path()}", {"type": "kv"})


def tune(door: Door) -> None:
    door.ask("POST", f"sys/mounts/{door.path()}/tune", {"default_lease_ttl": "7m", "description": "tuned"})


def move(door: Door) -> None:
    door.ask("POST", "sys/remount", {"from": door.path(), "to": door.path("moved")})


def disable(door: Door) -> None:
    door.ask("DELETE", f"sys/mounts/{door.path()}")


def disable_in_vain(door: Door) -> None:
    """A wrapping constraint shows only when the caller's own request reaches the upstream."""
    policy = f'path "sys/mounts/{door.path()}" {{ capabilities = ["delete"] min_wrapping_ttl = "1s" }}'
    door.ask("DELETE", f"sys/mounts/{door.path()}", token=door.token(policy))


def wrapped_key(door: Door, seconds: int = 300) -> str:
    answer = door.ask("GET", f"{door.busy}/creds/demo", headers={"X-Vault-Wrap-TTL": f"{seconds}"})
    return "" if answer is None else str(answer.json()["wrap_info"]["token"])


def unwrap(door: Door) -> None:
    door.ask("POST", "sys/wrapping/unwrap", {"token": wrapped_key(door)})


def rewrap(door: Door) -> None:
    door.ask("POST", "sys/wrapping/rewrap", {"token": wrapped_key(door)})


def read_with_a_token(door: Door) -> None:
    token = door.token(f'path "{door.busy}/creds/demo" {{ capabilities = ["read"] }}')
    # The look-ups go on all the time: the process may have been killed, and another not be there yet.
    got = eventually(lambda: door.ask("GET", f"{door.busy}/creds/demo", token=token), seconds=30)
    assert got is not None
    door.promises.keys[got.json()["lease_id"]] = got.json()["data"]["key_id"]
    door.promises.ended.add(got.json()["lease_id"])
    door.mortal = token


def let_it_die(door: Door) -> None:
    """Past the sidecar."""
    door.ask("POST", "auth/token/revoke", {"token": door.mortal}, upstream=True)


# The busy mount is enabled first, so the second time is the target's.
SCENES: Mapping[str, Scene] = {
    "enable.intended": Scene(enable, nth=2, whole=GONE),
    "enable.mounted": Scene(enable, nth=2, whole=THERE),
    "enable.recorded": Scene(enable, nth=2, whole=THERE),
    "enable.ready": Scene(enable, nth=2, whole=THERE),
    "enable.given_up": Scene(enable_without_options, whole=GONE),
    "enable.tainted": Scene(enable_half_open, target="half"),
    "enable.unmounted": Scene(enable_half_open, whole=GONE, target="half"),
    "tune.tuned": Scene(tune, mount, whole=THERE),
    "tune.recorded": Scene(tune, mount, whole=THERE),
    "remount.asked": Scene(move, mount, whole=THERE, target="moved"),
    "remount.leases_ended": Scene(move, mount, whole=THERE, target="moved"),
    "remount.followed": Scene(move, mount, whole=THERE, target="moved"),
    "mount.set_aside": Scene(take_its_path, mount, whole=GONE),
    "disable.tainted": Scene(disable, mount, whole=None),
    "disable.emptied": Scene(disable, mount, whole=None),
    "disable.unmounted": Scene(disable, mount, whole=GONE),
    "disable.refused": Scene(disable_in_vain, mount, whole=THERE),
    "disable.forgotten": Scene(disable, mount, whole=GONE),
    "sweep.claimed": Scene(let_it_die, read_with_a_token, nth=3),
    "sweep.confirmed": Scene(let_it_die, read_with_a_token),
    "sweep.leases_ended": Scene(let_it_die, read_with_a_token),
    "sweep.noted": Scene(let_it_die, read_with_a_token, nth=3),
    "wrap.stored": Scene(wrapped_key),
    "wrap.lapsed": Scene(lambda door: wrapped_key(door, 1)),
    "unwrap.spent": Scene(unwrap),
    "unwrap.taken": Scene(unwrap),
    "rewrap.stored": Scene(rewrap),
    "rewrap.taken": Scene(rewrap),
}


@pytest.fixture(scope="module")
def doors(
    openbao: Server, relays: Relays, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], Door]]:
    made: list[Door] = []

    def make() -> Door:
        made.append(Door(openbao, relays.shared, tmp_path_factory.mktemp("door")))
        return made[-1]

    yield make
    for door in made:
        door.close()


def play(point: str, scene: Scene, door: Door, control: SimulatorControl) -> None:
    door.start(f"{point}=kill:{scene.nth}")
    door.mount(door.busy)
    scene.prepare(door)
    with Clients(door, restless=bool(ISSUANCES)):
        scene.act(door)
        eventually(door.died, seconds=30, what=f"the end at {point}")
    door.start()
    begin = time.monotonic()
    match point.split(".", maxsplit=1)[0]:
        case "sweep":
            eventually(lambda: not door.promises.ended & door.lease_ids(), seconds=30, what="the leases' end")
        case "wrap" | "unwrap" | "rewrap":
            door.ok("POST", f"sys/leases/revoke-prefix/{door.busy}", {"sync": False})
            door.promises.ending |= door.promises.keys.keys()
        case _:
            look_at_the_mount(door, scene)
    door.judge(control, within=30 - (time.monotonic() - begin))
    eventually(lambda: not half_made(door), seconds=30, what="whole mounts")
    end_all(door, control)


def look_at_the_mount(door: Door, scene: Scene) -> None:
    path = door.half_open if scene.target == "half" else door.path(scene.target)
    if scene.whole is THERE:
        eventually(lambda: door.shown(path) == OURS, seconds=30, what=f"the mount {path}")
        if scene.act is tune:
            eventually(lambda: door.ok("GET", f"sys/mounts/{path}")["data"]["description"] == "tuned")
        if scene.act is move:
            assert door.shown(door.path()) == ""
            names = eventually(lambda: door.ask("LIST", f"sys/leases/lookup/{door.path()}/creds/demo"))
            eventually(
                lambda: door.ask("LIST", f"sys/leases/lookup/{door.path()}/creds/demo").status_code == 404,  # type: ignore[union-attr]
                seconds=30,
                what=f"the end of the leases from before the move: {names}",
            )
        if scene.act is enable:
            door.configure(path)
            assert door.ok("GET", f"sys/mounts/{path}")["data"]["options"] == {"team": "ml"}
        assert door.works(door.key(path)[1])
    elif scene.whole is GONE and scene.act is not take_its_path:
        eventually(lambda: door.shown(path) == "", seconds=30, what=f"the end of {path}")
        if scene.target != "half":
            # The same command again, and all is well.
            door.mount(path)
            assert door.works(door.key(path)[1])
    elif scene.act is take_its_path:
        # Whoever took the path has it; or, where the process died before, may take it.
        assert door.shown(path) in {"kv", ""}
    if door.shown(path) == OURS and scene.target != "half":
        # A mount that is tainted, or whole, is disabled by the same command.
        door.ok("DELETE", f"sys/mounts/{path}")
        assert (door.shown(path), door.mounted(path)) == ("", None)


def half_made(door: Door) -> list[str]:
    """Mounts upstream that a sidecar asked for and none knows, and records of mounts that are not there."""
    table = door.ok("GET", "sys/mounts", upstream=True)["data"]
    ours = {path: entry for path, entry in table.items() if door.prefix in path}
    with door.store() as store:
        records = {mount.uuid: mount.path for mount in store.mounts()}
        marks = {enabling.mark for enabling in store.enablings()}
    problems = []
    for path, entry in ours.items():
        mark = str((entry["options"] or {}).get(MARK_OPTION, "")).partition("/")[0]
        if mark and entry["uuid"] not in records:
            problems.append(f"{path} stands there and nobody knows it")
        if mark in marks:
            problems.append(f"{path} is on record as not made yet")
    gone = [path for path in records.values() if path not in ours and not path.startswith("//gone/")]
    return [*problems, *(f"{path} is on record and not there" for path in gone)]


def end_all(door: Door, control: SimulatorControl) -> None:
    """Everything of this sidecar's ends by ordinary commands, and the relay has no key of it left."""
    door.ok("POST", f"sys/leases/revoke-prefix/{door.busy}", {"sync": True})
    door.ok("DELETE", f"sys/mounts/{door.busy}")
    door.promises.ended |= door.promises.keys.keys()
    door.judge(control)
    door.kill()


@pytest.fixture(scope="module")
def plays(
    request: pytest.FixtureRequest, doors: Callable[[], Door], relays: Relays
) -> Iterator[Mapping[str, Future[None]]]:
    """One for each point that is wanted, a few at once."""
    here = [item for item in request.session.items if item.path == request.path]
    wanted = [item.callspec.params["point"] for item in here if hasattr(item, "callspec")]

    def run(point: str) -> None:
        with SimulatorControl(relays.shared.address) as control:
            play(point, SCENES[point], doors(), control)

    # These leave revocations to a process that is gone, which wait for its claims to lapse: they go first.
    order = sorted(wanted, key=lambda point: not point.startswith(("remount.", "sweep.")))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {point: pool.submit(run, point) for point in order}


def test_every_point_has_its_turn() -> None:
    assert sorted([*LIFE, *SCENES]) == sorted(POINTS)


@pytest.mark.parametrize("point", SCENES)
def test_killed_at_each_step_a_mount_is_wholly_there_or_wholly_gone(
    point: str, plays: Mapping[str, Future[None]]
) -> None:
    plays[point].result()
