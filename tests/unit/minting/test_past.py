"""A database put back from an older copy settles no mint of which it cannot know how it ended."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.unit.minting.conftest import Mint
from tests.unit.minting.relay import LOST, Fault, ScriptedRelay, failure

from aikeys.framework.deadline import Deadline
from aikeys.framework.response import EngineError
from aikeys.minting.bounds import MintBounds
from aikeys.minting.minter import MintedKey, Minter
from aikeys.minting.orphans import ceilings, make_plan
from aikeys.minting.past import BAD_FOR, GOOD_FOR
from aikeys.minting.resolver import IntentResolver
from aikeys.relays.interface import Kind, Outcome
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.storage import SqlStore, open_store

Open = Callable[[str], Mint]


@pytest.fixture
def opened(mint: Mint, tmp_path: Path) -> Iterator[Open]:
    """Another process on the database of that name, at the same relay."""
    stores: list[SqlStore] = []

    def open_again(name: str = "aikeys.db") -> Mint:
        store = open_store(tmp_path / name, KeyFileSeal(tmp_path / "seal.key"), clock=mint.clock)
        stores.append(store)
        bounds = MintBounds()
        return Mint(
            mint.clock,
            store,
            mint.relay,
            Minter(store, mint.clock, bounds, sleep=mint.clock.sleep),
            IntentResolver(store, mint.clock, lambda _uuid: mint.relay, bounds, rng=lambda: 0.5),
        )

    yield open_again
    for store in stores:
        store.close()


def copy(place: Path) -> None:
    """A backup: the database as it is now."""
    for suffix in ("", "-wal"):
        source = place / f"aikeys.db{suffix}"
        if source.exists():
            shutil.copy(source, place / f"copy.db{suffix}")


def becomes_a_lease(mint: Mint, key: MintedKey) -> None:
    mint.store.complete_intent(key.intent_id, mint.lease(key))


def names(relay: ScriptedRelay) -> set[str]:
    return {key.name for key in relay.live}


def test_a_mint_that_was_under_way_in_an_older_copy_keeps_its_key(
    mint: Mint, opened: Open, tmp_path: Path
) -> None:
    under_way = mint.ask()
    copy(tmp_path)
    becomes_a_lease(mint, under_way)
    becomes_a_lease(mint, mint.ask())
    restored = opened("copy.db")
    restored.settle(3600)
    assert len(names(mint.relay)) == 2, "both are held by leases of which the copy knows nothing"
    (record,) = restored.open_intents
    assert record.name == under_way.minted.ref.name
    assert "never asked for" in record.last_error
    assert len(record.last_error) < 400, "nothing of it is cut off"


def test_what_a_dead_process_left_is_settled_once_the_relay_shows_nothing_strange(
    mint: Mint, opened: Open
) -> None:
    becomes_a_lease(mint, mint.ask())
    mint.ask()
    mint.relay.calls.clear()
    another = opened("aikeys.db")
    another.settle(60)
    assert (len(names(mint.relay)), another.open_intents) == (1, [])
    assert mint.relay.calls == ["list", "find", "revoke", "find"]


def test_a_processs_own_mints_need_no_look_at_all_keys(mint: Mint) -> None:
    mint.relay.faults["mint"] = [Fault(LOST, applied=True), Fault(LOST)]
    with pytest.raises(EngineError):
        mint.ask()
    mint.settle(60)
    assert mint.open_intents == []
    assert "list" not in mint.relay.calls


def test_one_look_serves_everything_a_dead_process_left_and_holds_for_a_minute(
    mint: Mint, opened: Open
) -> None:
    for _ in range(6):
        mint.ask()
    another = opened("aikeys.db")
    mint.clock.moved += 60
    mint.relay.calls.clear()
    while another.resolver.run_once():
        pass
    # Four intents are settled at once, and may look at once.
    assert 1 <= mint.relay.calls.count("list") <= 4
    mint.ask()
    mint.clock.moved += GOOD_FOR
    looked = mint.relay.calls.count("list")
    another.resolver.run_once()
    assert mint.relay.calls.count("list") == looked + 1


def test_a_relay_that_cannot_be_asked_leaves_it_open(mint: Mint, opened: Open) -> None:
    mint.ask()
    another = opened("aikeys.db")
    mint.relay.faults["list"] = [Fault(failure(Kind.UNAVAILABLE, Outcome.NOT_APPLIED))] * 3
    mint.clock.moved += 60
    another.resolver.run_once()
    assert len(another.open_intents) == 1
    another.settle(600)
    assert (names(mint.relay), another.open_intents) == (set(), [])


def test_a_key_whose_end_was_decided_before_the_copy_ends_all_the_same(
    mint: Mint, opened: Open, tmp_path: Path
) -> None:
    abandoned = mint.ask()
    mint.relay.faults["revoke"] = [Fault(LOST)]
    mint.minter.abandon(abandoned.intent_id, abandoned.minted, mint.relay, "no lease")
    copy(tmp_path)
    becomes_a_lease(mint, mint.ask())
    restored = opened("copy.db")
    restored.settle(60)
    assert restored.open_intents == []
    assert len(names(mint.relay)) == 1


def test_once_the_strange_keys_are_accepted_the_mint_is_settled(
    mint: Mint, opened: Open, tmp_path: Path
) -> None:
    mint.ask()
    copy(tmp_path)
    becomes_a_lease(mint, mint.ask())
    restored = opened("copy.db")
    restored.settle(60)
    assert len(restored.open_intents) == 1
    plan = make_plan(
        mint.relay.list("vlt-abcdefgh-", Deadline.after(10)),
        instance="abcdefgh",
        known=restored.store.known_keys("mount-1"),
        serials=restored.store.serials(),
        now=mint.clock.now(),
        safety=timedelta(),
    )
    restored.store.adopt_serials(ceilings(plan.newer))
    restored.settle(BAD_FOR + 60)
    assert restored.open_intents == []
    assert len(names(mint.relay)) == 1, "the other key is for tidy to end"


def test_a_key_that_another_process_asks_for_meanwhile_is_not_strange(mint: Mint, opened: Open) -> None:
    """It is listed with a serial that was given after the serials were read."""
    mint.ask()
    another, third = opened("aikeys.db"), opened("aikeys.db")
    mint.clock.moved += 60
    listed = mint.relay.list

    def list_late(*arguments: object, **options: object) -> object:
        becomes_a_lease(third, third.ask())
        return listed(*arguments, **options)  # type: ignore[arg-type]

    mint.relay.list = list_late  # type: ignore[method-assign, assignment]
    while another.resolver.run_once():
        pass
    assert another.open_intents == []
    assert len(names(mint.relay)) == 1


def test_an_intent_that_outlived_its_key_is_let_go_even_in_an_older_copy(
    mint: Mint, opened: Open, tmp_path: Path
) -> None:
    mint.ask(expires_in=600)
    copy(tmp_path)
    becomes_a_lease(mint, mint.ask(expires_in=100_000))
    restored = opened("copy.db")
    restored.settle(600 + 900 + 60)
    assert restored.open_intents == []
    assert len(names(mint.relay)) == 1
