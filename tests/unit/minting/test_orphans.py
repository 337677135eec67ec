"""What of a relay's list is an orphan: each guard by itself, with everything else speaking for the end of the key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.unit.minting.relay import START

from aikeys.minting.bounds import MintBounds
from aikeys.minting.marks import SERIAL, Mark, marked, read_mark
from aikeys.minting.orphans import (
    LEAST_SAFETY,
    SAFE_KEYS,
    SAFE_PERCENT,
    SAFETY,
    SHARE_COUNTS_FROM,
    Plan,
    Restored,
    Standing,
    Unsafe,
    ceilings,
    make_plan,
)
from aikeys.relays.interface import KeyInfo, KeyRef, KeyStatus, MintIntent, Scopes
from aikeys.storage.records import KnownKeys

INSTANCE = "abcdefgh"
SERIES = "aaaaaaaaaa"
OLD = START - timedelta(hours=2)
BASE32 = "abcdefghijklmnopqrstuvwxyz234567"


def name_of(number: int) -> str:
    return f"vlt-{INSTANCE}-{BASE32[number // 32]}{BASE32[number % 32]}aaaaaaaaaaaaaa"


def key(
    number: int = 1,
    *,
    name: str = "",
    serial: str | None = None,
    at: datetime = OLD,
    status: KeyStatus = KeyStatus.ACTIVE,
    expires_at: datetime | None = None,
) -> KeyInfo:
    """An orphan, but for what is given."""
    value = f"{SERIES}.{number + 1}.{int(at.timestamp())}" if serial is None else serial
    return KeyInfo(
        ref=KeyRef("holysheep", "https://relay.example/v1", f"key_{number}", name or name_of(number)),
        status=status,
        created_at=at,
        expires_at=expires_at,
        metadata={SERIAL: value} if value else {},
    )


@dataclass(frozen=True)
class Store:
    leased: frozenset[str] = frozenset()
    open: frozenset[str] = frozenset()
    given: int = 1000


def plan(*keys: KeyInfo, store: Store | None = None, **changes: Any) -> Plan:
    known = store or Store()
    given: dict[str, Any] = {
        "instance": INSTANCE,
        "known": KnownKeys(known.leased, known.open),
        "serials": {SERIES: known.given},
        "now": START,
        "safety": SAFETY,
    }
    return make_plan(keys, **(given | changes))


def standing(listed: KeyInfo, **changes: Any) -> Standing:
    (judged,) = plan(listed, **changes).keys
    return judged.standing


def test_a_key_of_ours_that_nobody_knows_is_an_orphan() -> None:
    (judged,) = plan(key()).orphans
    assert judged.key.ref.key_id == "key_1"
    assert judged.age == 7200


def test_the_key_of_a_lease_is_not_however_old_and_wherever_its_serial_is_from() -> None:
    leased = Store(leased=frozenset({name_of(1)}))
    assert standing(key(), store=leased) is Standing.LEASED
    assert standing(key(serial="bbbbbbbbbb.1.0"), store=leased) is Standing.LEASED


def test_nor_is_one_that_is_being_made_or_revoked() -> None:
    assert standing(key(), store=Store(open=frozenset({name_of(1)}))) is Standing.OPEN


def test_nor_is_one_that_has_ended_already() -> None:
    assert plan(key(status=KeyStatus.REVOKED), key(2, status=KeyStatus.EXPIRED)).keys == ()
    assert standing(key(status=KeyStatus.DISABLED)) is Standing.ORPHAN, "it can be enabled again"
    assert standing(key(status=KeyStatus.RETIRING)) is Standing.ORPHAN


@pytest.mark.parametrize(
    "name",
    [
        "vlt-hgfedcba-aaaaaaaaaaaaaaaa",
        f"vlt-{INSTANCE}x-aaaaaaaaaaaaaaa",
        f"vlt-{INSTANCE}-aaaaaaaaaaaaaaa",
        f"vlt-{INSTANCE}-aaaaaaaaaaaaaaaaa",
        f"vlt-{INSTANCE}-aaaaaaaaaaaaaaaA",
        f"vlt-{INSTANCE}-aaaaaaaaaaaaaaa1",
        f"my-vlt-{INSTANCE}-aaaaaaaaaaaaaaaa",
        f"VLT-{INSTANCE}-aaaaaaaaaaaaaaaa",
        "production",
    ],
)
def test_nor_is_one_whose_name_this_mount_would_not_give(name: str) -> None:
    assert standing(key(name=name)) is Standing.UNMARKED


@pytest.mark.parametrize(
    "serial",
    ["", "1", f"{SERIES}.1", f"{SERIES}.0.1", f"{SERIES}.-1.1", f"{SERIES}.1.1.1", f"{SERIES.upper()}.1.1",
     f" {SERIES}.1.1", f"{SERIES}.1.1\n", f"{SERIES}.1.٣", f"{SERIES}.{'9' * 19}.1"],
)  # fmt: skip
def test_nor_is_one_that_somebody_made_by_hand_under_such_a_name(serial: str) -> None:
    assert standing(key(serial=serial)) is Standing.UNMARKED


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (timedelta(), Standing.YOUNG),
        (SAFETY - timedelta(seconds=1), Standing.YOUNG),
        (SAFETY, Standing.ORPHAN),
        (-timedelta(minutes=10), Standing.YOUNG),
    ],
)
def test_nor_is_one_that_is_younger_than_the_safety_buffer(after: timedelta, expected: Standing) -> None:
    at = START.replace(microsecond=0)
    assert standing(key(at=at), now=at + after) is expected


def test_its_age_is_ours_to_tell_and_not_the_relays() -> None:
    young = key(at=START)
    assert standing(replace(young, created_at=OLD)) is Standing.YOUNG


def test_the_least_safety_buffer_is_longer_than_a_mint_takes() -> None:
    bounds = MintBounds()
    assert LEAST_SAFETY.total_seconds() > bounds.total + bounds.slack
    # A clock that is wrong by ten minutes, and the way from intent to lease, as often as it may be repeated.
    assert SAFETY.total_seconds() > 600 + bounds.settle_window + bounds.total + bounds.slack


@pytest.mark.parametrize("serial", [f"{SERIES}.1001.0", "bbbbbbbbbb.1.0"])
def test_a_key_that_this_database_never_asked_for_refuses_everything(serial: str) -> None:
    """Later in a series that stands still here, or of a process that the database never heard of."""
    made = plan(key(1), key(2, serial=serial))
    assert [judged.key.ref.key_id for judged in made.newer] == ["key_2"]
    assert made.of(Standing.ORPHAN), "the other one is an orphan, and is not ended for all that"
    with pytest.raises(Restored, match=r"1 key\(s\).*never asked for, key_2") as refused:
        made.raise_if_restored()
    for word in ("older copy", "another sidecar", "newest database", "accept_restored=true", made.digest):
        assert word in refused.value.message
    assert refused.value.status == 400


def test_the_refusal_tells_when_it_ends_by_itself_where_that_is_known() -> None:
    ends = [START + timedelta(hours=hours) for hours in (1, 3, 2)]
    foreign = [key(n, serial=f"bbbbbbbbbb.{n}.0", expires_at=end) for n, end in enumerate(ends, 1)]
    with pytest.raises(Restored, match="has ended, at 2026-01-02T06:04:05Z"):
        plan(*foreign).raise_if_restored()
    with pytest.raises(Restored, match="has ended; or"):
        plan(*foreign, key(4, serial="bbbbbbbbbb.4.0")).raise_if_restored()


def test_what_is_accepted_are_the_greatest_numbers_of_each_series() -> None:
    serials = ["bbbbbbbbbb.3.0", "bbbbbbbbbb.9.0", f"{SERIES}.1001.0"]
    made = plan(*(key(number, serial=serial) for number, serial in enumerate(serials)))
    assert ceilings(made.newer) == {"bbbbbbbbbb": 9, SERIES: 1001}


def orphans_among(orphans: int, leased: int) -> Plan:
    names = frozenset(name_of(number) for number in range(leased))
    return plan(*(key(number) for number in range(leased + orphans)), store=Store(leased=names))


@pytest.mark.parametrize(
    ("orphans", "leased"),
    [(SAFE_KEYS, 200), (3, 7), (9, 0), (1, 0), (0, 0), (0, 50)],
)
def test_an_ordinary_number_of_orphans_ends(orphans: int, leased: int) -> None:
    orphans_among(orphans, leased).raise_if_unsafe()


@pytest.mark.parametrize(
    ("orphans", "leased"),
    [(SAFE_KEYS + 1, 500), (4, 6), (10, 0)],
)
def test_an_unusual_number_or_share_of_orphans_does_not(orphans: int, leased: int) -> None:
    """More keys than any accident leaves, more than 30 % of at least ten."""
    with pytest.raises(Unsafe, match=rf"ends {orphans} of the {orphans + leased} keys.*force=true"):
        orphans_among(orphans, leased).raise_if_unsafe()


def test_the_guards_numbers_are_those_of_the_guide() -> None:
    assert (SAFE_KEYS, SAFE_PERCENT, SHARE_COUNTS_FROM) == (20, 30, 10)


def test_keys_of_others_do_not_make_a_share_smaller() -> None:
    strangers = [key(number, serial="") for number in range(100, 200)]
    made = plan(*(key(number) for number in range(10)), *strangers)
    assert made.marked == 10
    with pytest.raises(Unsafe):
        made.raise_if_unsafe()


def test_a_plans_digest_stands_for_the_keys_that_would_end() -> None:
    one, other = plan(key(1), key(2)), plan(key(2), key(1), key(3, serial=""))
    assert one.digest == other.digest, "in whatever order, whatever stays"
    assert len({one.digest, plan(key(1)).digest, plan().digest}) == 3
    newer = plan(key(1, serial="bbbbbbbbbb.1.0"))
    assert newer.digest not in {plan(key(1)).digest, plan().digest}, "nor is it taken for a refusal's"


def test_a_mark_is_read_as_it_is_written() -> None:
    intent = MintIntent("i", name_of(1), "idem", Scopes(), START, {"aikeys_role": "demo"})
    at = START.replace(microsecond=0)
    sent = marked(intent, f"{SERIES}.7", START)
    assert sent.metadata == {"aikeys_role": "demo", SERIAL: f"{SERIES}.7.{int(at.timestamp())}"}
    ref = KeyRef("holysheep", "", "key_1", sent.name)
    found = read_mark(INSTANCE, KeyInfo(ref, KeyStatus.ACTIVE, metadata=sent.metadata))
    assert found == Mark(SERIES, 7, at)
    assert marked(intent, "", START) is intent
