"""`config` can name where the management key stands: it is read when needed, again when rejected, and never stored."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from tests.unit.engine.world import BASE_URL, MANAGEMENT_KEY, World

from aikeys.engine.backend import build_backend
from aikeys.engine.references import Reference, ReferenceUnreadable, no_references
from aikeys.engine.referring import READ_AGAIN_SECONDS
from aikeys.framework.request import Operation
from aikeys.framework.response import EngineError, InvalidRequest
from aikeys.relays.interface import DriverError, Kind, Outcome

PATH = "secret/data/aikeys/relay"
REF = f"{PATH}#management_key"
NEXT_KEY = "sk-holysheep-admin-" + "N" * 32


@pytest.fixture
def referring(world: World) -> World:
    """Configured by reference, with a role and nothing read but for the check of the config."""
    world.books.judges_every_call = True
    world.kv[REF] = MANAGEMENT_KEY
    world.readable.add(PATH)
    world.write("config", base_url=BASE_URL, management_key_ref=REF)
    world.write("roles/demo", ttl=60, max_ttl=180)
    return world


def rotate(world: World, key: str = NEXT_KEY) -> None:
    """The relay and the KV entry change the key; nobody writes `config`."""
    world.books.accepted_keys = {key}
    world.kv[REF] = key


def test_a_config_that_names_the_key_mints_with_what_stands_there(referring: World) -> None:
    answer = referring.issue("demo")

    assert answer.data is not None
    assert answer.data["base_url"] == BASE_URL
    assert referring.books.configs[-1].management_key.reveal() == MANAGEMENT_KEY


def test_a_read_shows_the_reference_and_never_the_key(referring: World) -> None:
    shown = referring.read("config")

    assert shown is not None
    assert shown["management_key_ref"] == REF
    assert "management_key" not in shown


def test_the_key_that_is_named_is_not_stored(referring: World) -> None:
    referring.issue("demo")

    assert MANAGEMENT_KEY not in str(referring.store.entries(referring.mount.uuid).get("config"))


def test_a_reference_that_leads_nowhere_is_refused_when_it_is_written(world: World) -> None:
    world.readable.add(PATH)

    with pytest.raises(InvalidRequest, match=f"nothing was stored: {REF} names nothing"):
        world.write("config", base_url=BASE_URL, management_key_ref=REF)

    assert world.read("config") is None


def test_a_key_that_the_relay_refuses_is_refused_by_reference_too(world: World) -> None:
    world.readable.add(PATH)
    world.kv[REF] = NEXT_KEY

    with pytest.raises(InvalidRequest, match="does not accept the management key"):
        world.write("config", base_url=BASE_URL, management_key_ref=REF)


@pytest.mark.parametrize("broken", ["two\nlines", "with space", "x" * 5000])
def test_a_value_that_is_no_credential_is_named_by_its_place(broken: str, world: World) -> None:
    world.readable.add(PATH)
    world.kv[REF] = broken

    with pytest.raises(InvalidRequest, match=f"what {REF} holds") as refusal:
        world.write("config", base_url=BASE_URL, management_key_ref=REF)
    assert broken not in str(refusal.value)


def test_without_a_check_nothing_is_read(world: World) -> None:
    world.readable.add(PATH)

    world.write("config", base_url=BASE_URL, management_key_ref=REF, verify_connection=False)

    assert world.reads == []


def test_whoever_may_not_read_the_key_may_not_name_it(world: World) -> None:
    """They could otherwise have it sent to an address of theirs, with the sidecar's right to read it."""
    world.kv[REF] = MANAGEMENT_KEY

    with pytest.raises(EngineError, match="may only be written by who may read") as refusal:
        world.write("config", base_url="https://evil.example/v1", management_key_ref=REF)

    assert refusal.value.status == 403
    assert world.reads == []
    assert world.books.configs == []


def test_a_new_address_needs_the_reference_again_and_the_right_to_read_it(referring: World) -> None:
    elsewhere = "https://evil.example/v1"
    with pytest.raises(InvalidRequest, match="base_url changes: give management_key or management_key_ref"):
        referring.write("config", base_url=elsewhere)
    # Empty is not given: the stored reference would be sent along.
    with pytest.raises(InvalidRequest, match="base_url changes"):
        referring.write("config", base_url=elsewhere, management_key="", verify_connection=False)
    referring.readable.clear()
    for attempt in (referring.write, referring.patch):
        with pytest.raises(EngineError, match="may only be written by who may read"):
            attempt("config", base_url=elsewhere, management_key_ref=REF)

    assert all(config.base_url == BASE_URL for config in referring.books.configs)


def test_the_key_and_its_place_replace_each_other(referring: World) -> None:
    referring.write("config", management_key=MANAGEMENT_KEY)
    shown = referring.read("config")
    assert shown is not None
    assert "management_key_ref" not in shown

    referring.patch("config", management_key_ref=REF)
    stored = referring.store.entries(referring.mount.uuid).get("config")
    assert stored is not None
    assert "management_key" not in stored
    assert stored["management_key_ref"] == REF


def test_both_at_once_are_refused(world: World) -> None:
    with pytest.raises(InvalidRequest, match="give either management_key or management_key_ref, not both"):
        world.configure(management_key_ref=REF)


def test_a_config_without_either_says_what_is_missing(world: World) -> None:
    with pytest.raises(
        InvalidRequest, match="management_key is missing: give it, or with management_key_ref"
    ):
        world.write("config", base_url=BASE_URL)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("secret/data/relay", "with # between them"),
        ("#key", "with # between them"),
        ("secret/data/relay#", "with # between them"),
        ("/secret/relay#key", "without v1/ or a slash"),
        ("v1/secret/relay#key", "without v1/ or a slash"),
        ("secret/relay/#key", "without v1/ or a slash"),
        ("secret//relay#key", "without v1/ or a slash"),
        ("secret/../sys/raw#key", "without v1/ or a slash"),
        ("secret/relay?version=1#key", "without v1/ or a slash"),
        ("secret/re%2flay#key", "without v1/ or a slash"),
        ("secret#key", "without v1/ or a slash"),
        ("secret/relay#a#b", "the name of a field"),
        ("sys/raw/core#value", "an entry of a KV engine"),
        ("auth/token/lookup-self#id", "an entry of a KV engine"),
        ("secret/" + "x" * 600 + "#key", "longer than 512"),
    ],
)
def test_what_is_no_reference_is_refused_with_an_example(text: str, says: str, world: World) -> None:
    with pytest.raises(InvalidRequest, match=says):
        world.write("config", base_url=BASE_URL, management_key_ref=text, verify_connection=False)
    assert world.reads == []


def test_a_reference_is_a_path_and_a_field() -> None:
    assert Reference.parse("management_key_ref", REF) == Reference(PATH, "management_key")
    assert str(Reference("kv/ai/relay", "key")) == "kv/ai/relay#key"


def test_a_signing_secret_can_be_named_too(world: World) -> None:
    world.kv[f"{PATH}#signing"] = "hs-sign-" + "s" * 40
    world.readable.add(PATH)

    world.configure(signing_secret_ref=f"{PATH}#signing")
    world.write("roles/demo", ttl=60)
    world.issue("demo")

    used = world.books.configs[-1]
    assert used.management_key.reveal() == MANAGEMENT_KEY
    assert used.signing_secret is not None
    assert used.signing_secret.reveal() == world.kv[f"{PATH}#signing"]
    shown = world.read("config")
    assert shown is not None
    assert shown["signing_secret_ref"] == f"{PATH}#signing"


# -- rotation -------------------------------------------------------------------------------------------------------


def test_a_rotated_key_is_read_again_and_used_without_a_write(referring: World) -> None:
    referring.issue("demo")
    rotate(referring)

    referring.issue("demo")

    assert referring.books.configs[-1].management_key.reveal() == NEXT_KEY
    assert len(referring.books.keys) == 2


def test_revocations_renewals_and_checks_use_the_rotated_key_too(referring: World) -> None:
    first, second = (referring.lease(referring.issue("demo")) for _ in range(2))
    rotate(referring)
    referring.revoke(first)

    again = "sk-holysheep-admin-" + "M" * 32
    referring.clock.moved += READ_AGAIN_SECONDS
    rotate(referring, again)
    # A longer maximum, so that the renewal has to ask the relay.
    referring.store.entries(referring.mount.uuid).put("roles/demo", {"ttl": 60, "max_ttl": 3600})
    referring.renew(second)

    assert referring.books.configs[-1].management_key.reveal() == again
    assert [key.revoked_at is not None for key in referring.books.keys.values()] == [True, False]


def test_a_rejection_is_answered_by_one_reading_and_one_repetition(referring: World) -> None:
    referring.issue("demo")
    rotate(referring)
    before, asked = len(referring.reads), referring.books.count("mint")

    referring.issue("demo")

    assert len(referring.reads) == before + 1
    assert referring.books.count("mint") == asked + 2


def test_that_a_key_is_unknown_counts_only_once_the_rotated_key_is_proven(referring: World) -> None:
    lost, rejected, later = (referring.lease(referring.issue("demo")) for _ in range(3))
    for gone in (lost, later):
        del referring.books.keys[gone.internal_data["ref"]["key_id"]]
    referring.revoke(lost)
    checks = referring.books.count("check")
    rotate(referring)
    referring.revoke(rejected)

    referring.revoke(later)

    assert referring.books.count("check") == checks + 1, (
        "the proof of the old key said nothing about the new one"
    )


def test_a_key_that_stays_rejected_is_not_read_again_at_once(referring: World) -> None:
    referring.issue("demo")
    referring.books.accepted_keys.clear()
    before, asked = len(referring.reads), referring.books.count("mint")

    for _again in range(5):
        with pytest.raises(EngineError):
            referring.issue("demo")

    assert len(referring.reads) == before + 1
    assert referring.books.count("mint") == asked + 5, "what is rejected is not put to the relay twice"
    referring.clock.moved += READ_AGAIN_SECONDS
    rotate(referring)
    referring.issue("demo")


def test_a_rejection_says_when_the_place_cannot_be_read_either(referring: World) -> None:
    lease = referring.lease(referring.issue("demo"))
    rotate(referring)
    referring.kv[REF] = ReferenceUnreadable(f"{REF} cannot be read: sealed", passing=True)

    with pytest.raises(EngineError, match="sealed"):
        referring.revoke(lease)

    referring.kv[REF] = NEXT_KEY
    referring.clock.moved += READ_AGAIN_SECONDS
    referring.revoke(lease)


def test_an_uncertain_outcome_is_never_repeated_with_another_key(referring: World) -> None:
    """Only a rejection that did nothing may be asked again: anything else could make a second key."""
    referring.issue("demo")
    rotate(referring)
    before = len(referring.reads)
    referring.books.faults["mint"] = DriverError(Kind.AUTH, Outcome.UNKNOWN, "who knows")
    with pytest.raises(EngineError):
        referring.issue("demo")

    assert len(referring.reads) == before


def test_many_requests_read_a_rotated_key_once(referring: World) -> None:
    referring.issue("demo")
    rotate(referring)
    before = len(referring.reads)
    start = threading.Barrier(8)

    def issue() -> Any:
        start.wait()
        return referring.issue("demo")

    with ThreadPoolExecutor(8) as pool:
        for work in [pool.submit(issue) for _ in range(8)]:
            work.result()

    assert len(referring.reads) == before + 1


def test_replaced_drivers_are_closed_once_no_request_can_hold_them(referring: World) -> None:
    referring.issue("demo")
    for number in range(4):
        referring.clock.moved += 130
        rotate(referring, f"sk-holysheep-admin-{number:x>32}")
        referring.issue("demo")
    assert referring.books.open_drivers == 2, "the one in use, and the one that was just replaced"

    referring.services.connections.close()
    assert referring.books.open_drivers == 0


def test_what_could_not_be_read_is_asked_for_again(world: World) -> None:
    world.readable.add(PATH)
    world.kv[REF] = ReferenceUnreadable(f"{REF} cannot be read: no answer", passing=True)
    world.write("config", base_url=BASE_URL, management_key_ref=REF, verify_connection=False)
    world.store.entries(world.mount.uuid).put("roles/demo", {"ttl": 60})

    for _again in range(3):
        with pytest.raises(EngineError, match="no answer") as refusal:
            world.issue("demo")
    assert refusal.value.status == 503
    assert len(world.reads) == 1, "a failed reading is not repeated at once"
    world.kv[REF] = MANAGEMENT_KEY
    world.clock.moved += 1

    world.issue("demo")


def test_a_door_that_reads_no_references_says_so(world: World) -> None:
    world.readable.add(PATH)
    world.backend = build_backend(replace(world.services, read_reference=no_references))
    with pytest.raises(InvalidRequest, match="references are for the sidecar; give the value itself"):
        world.do(Operation.UPDATE, "config", {"base_url": BASE_URL, "management_key_ref": REF})
