"""`tidy`: the plan, what an apply does of it, and everything that refuses one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from tests.unit.engine.world import Books, Key, World, refused

from aikeys.engine import tidy
from aikeys.errors import StorageError
from aikeys.framework.deadline import Deadline
from aikeys.framework.request import Operation
from aikeys.framework.response import (
    EngineError,
    InvalidRequest,
    RelayRateLimited,
    Response,
    Unavailable,
    UnsupportedOperation,
)
from aikeys.minting.marks import SERIAL
from aikeys.minting.orphans import Standing
from aikeys.minting.resolver import IntentResolver
from aikeys.minting.sweep import Sweep
from aikeys.relays.interface import Driver, KeyInfo, Kind
from aikeys.storage import failpoints

HOUR = 3600.0


@pytest.fixture
def swept(ready: World) -> World:
    """With a resolver that works when it is woken, as the background does."""
    resolver = IntentResolver(ready.store, ready.clock, ready.services.connections.driver)

    def settle() -> None:
        while resolver.run_once():
            pass

    sweep_of(ready).wake = settle
    # No key of these tests ends by itself.
    ready.write("roles/demo", max_ttl="30d")
    return ready


def sweep_of(world: World) -> Sweep:
    assert world.services.sweep is not None
    return world.services.sweep


def leased(world: World) -> Key:
    """A key with its lease."""
    answer = world.issue("demo")
    world.lease(answer)
    assert answer.data is not None
    return world.books.keys[answer.data["key_id"]]


def orphan(world: World) -> Key:
    """A key whose lease was lost."""
    answer = world.issue("demo")
    world.store.delete_lease(world.lease(answer).lease_id)
    assert answer.data is not None
    return world.books.keys[answer.data["key_id"]]


def newer(world: World) -> Key:
    """A key that this database never asked for, but a copy of it did."""
    key = orphan(world)
    metadata = {**key.intent.metadata, SERIAL: "zzzzzzzzzz.4.1700000000"}
    key.intent = replace(key.intent, metadata=metadata)
    return key


def plan(world: World, **data: Any) -> dict[str, Any]:
    found = world.read("tidy", data)
    assert found is not None
    return found


def write(world: World, **data: Any) -> Response:
    answer = world.write("tidy", **data)
    assert answer is not None
    return answer


def apply(world: World, **data: Any) -> dict[str, Any]:
    answer = write(world, apply=True, **data)
    assert answer.data is not None
    return answer.data


def live(books: Books) -> set[str]:
    return {key_id for key_id, key in books.keys.items() if key.revoked_at is None}


def test_a_plan_tells_of_each_key_that_no_lease_knows_what_becomes_of_it(swept: World) -> None:
    kept, lost = leased(swept), orphan(swept)
    swept.clock.moved += 2 * HOUR
    young, under_way = orphan(swept), swept.issue("demo")
    stranger = orphan(swept)
    stranger.intent = replace(stranger.intent, metadata={})
    found = plan(swept)

    assert found["keys"] == [lost.ref.key_id]
    assert found["counts"] == {
        "leased": 1, "open": 1, "orphan": 1, "young": 1, "unmarked": 1, "newer": 0
    }  # fmt: skip
    assert set(found["key_info"]) == {lost.ref.key_id, young.ref.key_id, stranger.ref.key_id}
    assert found["key_info"][lost.ref.key_id] == {
        "name": lost.ref.name,
        "role": "demo",
        "created_at": "2026-01-02T03:04:05Z",
        "expires_at": lost.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "age": 7200,
        "ends": True,
        "reason": "no lease knows it",
    }
    assert not found["key_info"][young.ref.key_id]["ends"]
    assert "younger than safety_buffer" in found["key_info"][young.ref.key_id]["reason"]
    assert found["key_info"][stranger.ref.key_id]["age"] is None
    assert "somebody else made it" in found["key_info"][stranger.ref.key_id]["reason"]
    assert under_way.data is not None
    assert live(swept.books) >= {kept.ref.key_id, under_way.data["key_id"]}
    assert swept.books.count("revoke") == 0, "a plan ends nothing"


def test_an_apply_ends_the_keys_of_the_plan_and_no_others(swept: World) -> None:
    keys = [leased(swept), leased(swept)]
    lost = [orphan(swept), orphan(swept)]
    swept.clock.moved += 2 * HOUR
    keys.append(orphan(swept))
    done = apply(swept, plan=plan(swept)["plan"])

    assert sorted(done["revoked"]) == sorted(key.ref.key_id for key in lost)
    assert done["pending"] == []
    assert live(swept.books) == {key.ref.key_id for key in keys}
    assert swept.store.intents() == []
    assert plan(swept)["keys"] == []


def test_a_write_without_apply_is_the_plan(swept: World) -> None:
    orphan(swept)
    swept.clock.moved += 2 * HOUR
    answer = write(swept)
    assert answer.data == plan(swept)
    assert len(live(swept.books)) == 1


def test_the_end_of_each_key_is_on_record_before_the_relay_hears_of_it(ready: World) -> None:
    lost = orphan(ready)
    ready.clock.moved += 2 * HOUR
    ready.books.calls.clear()
    seen: list[Any] = []
    sweep_of(ready).wake = lambda: seen.extend(
        [*ready.store.intents(), *[call for call, _key in ready.books.calls]]
    )
    failpoints.arm("tidy.recorded=error:1")
    try:
        with pytest.raises(StorageError):
            apply(ready)
    finally:
        failpoints.arm("")
    assert seen == []
    (record,) = ready.store.intents()
    assert record.key_ref == lost.ref.to_json()
    assert [call for call, _key in ready.books.calls] == ["list"]
    # Another process finds it, and so does a sweep.
    assert plan(ready)["counts"]["open"] == 1
    IntentResolver(ready.store, ready.clock, ready.services.connections.driver).run_once()
    assert live(ready.books) == set()


def test_what_the_relay_does_not_end_in_time_is_pending_and_ends_later(
    swept: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tidy, "WAIT_SECONDS", 0.2)
    lost = orphan(swept)
    swept.clock.moved += 2 * HOUR
    swept.books.faults["revoke"] = refused(Kind.UNAVAILABLE, "the relay is away")
    done = apply(swept)
    assert (done["revoked"], done["pending"]) == ([], [lost.ref.key_id])
    del swept.books.faults["revoke"]
    swept.clock.moved += 60
    sweep_of(swept).wake()
    assert live(swept.books) == set()


def test_an_apply_of_a_plan_that_is_another_by_now_ends_nothing(swept: World) -> None:
    orphan(swept)
    swept.clock.moved += 2 * HOUR
    seen = plan(swept)["plan"]
    orphan(swept)
    swept.clock.moved += 2 * HOUR
    with pytest.raises(InvalidRequest, match=r"another by now.*read it again"):
        apply(swept, plan=seen)
    assert len(live(swept.books)) == 2
    assert len(apply(swept, plan=plan(swept)["plan"])["revoked"]) == 2


def test_a_safety_buffer_below_what_a_mint_takes_is_refused(swept: World) -> None:
    with pytest.raises(InvalidRequest, match="safety_buffer must be at least 30s"):
        plan(swept, safety_buffer="29s")
    swept.books.capabilities = replace(swept.books.capabilities, list_lag=4.5)
    with pytest.raises(InvalidRequest, match="at least 35s"):
        apply(swept, safety_buffer="30s")


def test_a_shorter_safety_buffer_reaches_younger_keys(swept: World) -> None:
    lost = orphan(swept)
    swept.clock.moved += 40
    assert plan(swept)["keys"] == []
    assert plan(swept, safety_buffer="30s")["keys"] == [lost.ref.key_id]
    assert apply(swept, safety_buffer=30)["revoked"] == [lost.ref.key_id]


def test_an_unusual_number_of_keys_ends_only_by_force(swept: World) -> None:
    for _ in range(10):
        orphan(swept)
    swept.clock.moved += 2 * HOUR
    answer = swept.do(Operation.READ, "tidy")
    assert answer is not None
    assert [text.split(":")[0] for text in answer.warnings] == ["an apply is refused"]
    with pytest.raises(InvalidRequest, match="force=true"):
        apply(swept)
    assert len(live(swept.books)) == 10
    assert swept.store.intents() == []
    assert len(apply(swept, force=True)["revoked"]) == 10


def test_more_keys_than_anybody_reads_are_counted(swept: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidy, "DESCRIBED", 2)
    for _ in range(3):
        orphan(swept)
    swept.clock.moved += 2 * HOUR
    answer = swept.do(Operation.READ, "tidy")
    assert answer is not None
    assert answer.data is not None
    assert (len(answer.data["keys"]), len(answer.data["key_info"])) == (3, 2)
    assert answer.warnings == ["only the first 2 of 3 keys are described"]


@pytest.mark.parametrize(
    ("kind", "error", "status"),
    [
        (Kind.PROTOCOL, Unavailable, 503),
        (Kind.UNAVAILABLE, Unavailable, 503),
        (Kind.TIMEOUT, Unavailable, 503),
        (Kind.RATE_LIMITED, RelayRateLimited, 502),
        (Kind.AUTH, InvalidRequest, 400),
    ],
)
def test_a_list_that_cannot_be_read_whole_is_no_plan(
    swept: World, kind: Kind, error: type[EngineError], status: int
) -> None:
    orphan(swept)
    swept.clock.moved += 2 * HOUR
    swept.books.faults["list"] = refused(kind, "what it said", retry_after=3)
    requests: list[Callable[[], object]] = [lambda: plan(swept), lambda: apply(swept, force=True)]
    for request in requests:
        with pytest.raises(error, match=r"could not be read whole.*nothing was ended: what it said") as told:
            request()
        assert told.value.status == status
    assert len(live(swept.books)) == 1


def test_a_key_that_this_database_never_asked_for_refuses_plan_and_apply(swept: World) -> None:
    orphan(swept)
    strange = newer(swept)
    swept.clock.moved += 2 * HOUR
    for request in (
        lambda: plan(swept),
        lambda: write(swept),
        lambda: apply(swept),
        lambda: apply(swept, force=True),
    ):
        with pytest.raises(InvalidRequest, match=f"never asked for, {strange.ref.key_id}"):
            request()
    assert len(live(swept.books)) == 2
    assert swept.store.intents() == []


def accepted_by(world: World) -> str:
    with pytest.raises(InvalidRequest) as refusal:
        plan(world)
    assert refusal.value.data is not None
    digest: str = refusal.value.data["plan"]
    assert f"plan={digest}" in refusal.value.message
    return digest


def test_an_operator_can_take_such_keys_for_this_databases_own(swept: World) -> None:
    lost, strange, kept = orphan(swept), newer(swept), leased(swept)
    swept.clock.moved += 2 * HOUR
    answer = write(swept, accept_restored=True, plan=accepted_by(swept))
    assert answer.data is not None
    assert sorted(answer.data["keys"]) == sorted([lost.ref.key_id, strange.ref.key_id])
    assert len(live(swept.books)) == 3, "which ends none of them"
    apply(swept, plan=answer.data["plan"])
    assert live(swept.books) == {kept.ref.key_id}


def test_they_are_accepted_by_what_was_seen_and_in_a_step_of_its_own(swept: World) -> None:
    newer(swept)
    swept.clock.moved += 2 * HOUR
    digest = accepted_by(swept)
    with pytest.raises(InvalidRequest, match="not one step"):
        write(swept, accept_restored=True, apply=True, plan=digest)
    with pytest.raises(InvalidRequest, match="needs the plan"):
        write(swept, accept_restored=True)
    newer(swept)
    with pytest.raises(InvalidRequest, match="another by now"):
        write(swept, accept_restored=True, plan=digest)
    with pytest.raises(InvalidRequest, match="never asked for"):
        plan(swept)


def test_the_plan_of_a_refusal_is_not_one_that_can_be_applied(swept: World) -> None:
    newer(swept)
    swept.clock.moved += 2 * HOUR
    digest = accepted_by(swept)
    write(swept, accept_restored=True, plan=digest)
    with pytest.raises(InvalidRequest, match="another by now"):
        apply(swept, plan=digest)


def test_without_a_relay_there_is_nothing_to_tidy(world: World) -> None:
    with pytest.raises(InvalidRequest, match="no relay yet: write ai-keys/config"):
        plan(world)


@pytest.mark.parametrize("operation", [Operation.DELETE, Operation.LIST, Operation.PATCH])
def test_nothing_else_can_be_done_there(world: World, operation: Operation) -> None:
    with pytest.raises(UnsupportedOperation):
        world.do(operation, "tidy")


@pytest.mark.parametrize(
    "data",
    [
        {"apply": "perhaps"},
        {"safety_buffer": "soon"},
        {"safety_buffer": -1},
        {"force": []},
        {"plan": {"a": 1}},
    ],
)
def test_what_cannot_be_read_is_refused(swept: World, data: dict[str, Any]) -> None:
    orphan(swept)
    swept.clock.moved += 2 * HOUR
    with pytest.raises(InvalidRequest, match="Field validation failed"):
        write(swept, **{"apply": True, **data})
    assert len(live(swept.books)) == 1


def test_a_key_that_is_made_while_the_relay_is_listed_is_somebodys(swept: World) -> None:
    """The relay is read first, then what is known: the other way round this key would be nobody's."""
    driver = swept.services.connections.driver(swept.mount.uuid)

    class Slow:
        def list(self, prefix: str, deadline: Deadline) -> Iterator[KeyInfo]:
            leased(swept)
            swept.issue("demo")
            yield from driver.list(prefix, deadline)

    made = sweep_of(swept).plan(swept.mount, cast("Driver", Slow()), timedelta(), Deadline.after(10))
    assert [judged.standing for judged in made.keys] == [Standing.LEASED, Standing.OPEN]
