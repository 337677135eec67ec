"""`config` holds the way to one relay: checked before it is stored, its secrets never shown, its key never led astray."""

from __future__ import annotations

import re
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.unit.engine.world import BASE_URL, MANAGEMENT_KEY, World, refused

from aikeys.engine.backend import build_backend
from aikeys.engine.services import Services
from aikeys.framework.patch import ResourceMissing
from aikeys.framework.request import Operation, Request
from aikeys.framework.response import InvalidRequest, Response
from aikeys.relays.interface import Kind, RelayConfig

OTHER_KEY = "sk-holysheep-admin-" + "B" * 32


def warnings(answer: Response | None) -> list[str]:
    return [] if answer is None else answer.warnings


def certificate() -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test ca")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.PEM).decode()


def test_there_is_no_config_until_it_is_written(world: World) -> None:
    assert world.read("config") is None
    assert world.backend.exists(Request(Operation.UPDATE, "config", world.mount)) is False

    assert world.configure() is None

    assert world.backend.exists(Request(Operation.UPDATE, "config", world.mount)) is True


def test_a_read_shows_what_applies_and_no_secret(world: World) -> None:
    world.configure(signing_secret="hs-sign-" + "s" * 40, signing_key_id="mgmt_1", connect_timeout="3s")

    shown = world.read("config")

    assert shown == {
        "relay": "holysheep",
        "base_url": BASE_URL,
        "signing_key_id": "mgmt_1",
        "connect_timeout": 3,
        "request_timeout": 30,
    }


def test_what_is_read_can_be_written_back(world: World) -> None:
    world.configure(ca_cert=certificate(), request_timeout=20)
    shown = world.read("config")
    assert shown is not None

    world.write("config", **shown)

    assert world.read("config") == shown
    assert world.books.configs[-1].management_key.reveal() == MANAGEMENT_KEY


def test_a_write_keeps_what_it_does_not_give(world: World) -> None:
    world.configure(signing_secret="hs-sign-" + "s" * 40, request_timeout=20)

    world.write("config", connect_timeout=2)

    config = world.relay_config()
    assert config.management_key.reveal() == MANAGEMENT_KEY
    assert config.signing_secret is not None
    assert (config.connect_timeout, config.request_timeout) == (2.0, 20.0)


@pytest.mark.parametrize("missing", ["base_url", "management_key"])
def test_what_is_required_is_asked_for_by_name(missing: str, world: World) -> None:
    with pytest.raises(InvalidRequest, match=f"^{missing} is missing"):
        world.configure(**{missing: None})
    assert world.read("config") is None


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("relay", "nope", "unknown relay 'nope': allowed are holysheep, plain"),
        ("base_url", "relay.example", "must begin with https://"),
        ("base_url", "ftp://relay.example", "must begin with https://"),
        ("base_url", "https://", "must begin with https://"),
        ("base_url", "https://user:pw@relay.example", "must not hold a user or password"),
        ("base_url", "https://relay.example/v1?x=1", "no query"),
        ("base_url", "https://relay.example/#x", "no query and no fragment"),
        ("base_url", "https://relay.example/a b", "without spaces"),
        ("base_url", "https://relay.example:99999", "base_url has a port that is none"),
        ("base_url", "https://relay\u2100.example", "base_url is no URL"),
        ("base_url", "https://[::1", "is no URL"),
        ("base_url", " https://relay.example", "without spaces"),
        ("signature_version", "v3", "must be one of v2, v1"),
        ("base_url", "http://relay.example/v1", "must use https"),
        ("base_url", "http://127.0.0.1.relay.example", "must use https"),
        ("base_url", "http://10.0.0.1", "must use https"),
        ("management_key", "with space", "printable ASCII"),
        ("management_key", "line\nbreak", "printable ASCII"),
        ("management_key", "x" * 5000, "longer than 4096"),
        ("signing_secret", "\u00e9", "printable ASCII"),
        ("connect_timeout", 91, "at most 90 seconds"),
        ("request_timeout", "2m", "at most 90 seconds"),
        ("ca_cert", "no pem", "certificates in PEM form"),
        ("ca_cert", "x" * 100_000, "longer than 65536"),
        ("connect_timeout", "-1", "cannot provide negative value '-1'"),
        ("verify_connection", "perhaps", "cannot parse value as 'bool'"),
    ],
)
def test_a_wrong_value_is_refused_saying_what_is_allowed(
    field: str, value: Any, text: str, world: World
) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(text)) as error:
        world.configure(**{field: value})

    assert world.read("config") is None
    assert world.books.calls == [], "no relay was asked"
    if field.endswith(("key", "secret")):
        assert value not in str(error.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/v1", "http://localhost", "http://[::1]:80/", "https://10.0.0.1/v1/"]
)
def test_plain_http_is_allowed_to_this_machine_only(url: str, world: World) -> None:
    world.configure(base_url=url)

    shown = world.read("config")
    assert shown is not None
    assert shown["base_url"] == url, "it reads back as it was written"


def test_signing_is_refused_for_a_relay_that_does_not_sign(world: World) -> None:
    with pytest.raises(InvalidRequest, match="does not sign requests"):
        world.configure(relay="plain", signing_secret="hs-sign-" + "s" * 40)


# -- asking the relay ----------------------------------------------------------------------------------------------


def test_a_management_key_the_relay_refuses_is_not_stored(world: World) -> None:
    with pytest.raises(
        InvalidRequest, match="does not accept the management key: The API key provided is invalid"
    ):
        world.configure(management_key=OTHER_KEY)

    assert world.read("config") is None
    assert world.books.open_drivers == 0, "the driver made for the question is closed again"


def test_a_relay_out_of_reach_is_not_stored_and_the_text_says_how_to_skip_the_question(world: World) -> None:
    world.books.faults["check"] = refused(Kind.UNAVAILABLE, "connection refused")

    with pytest.raises(InvalidRequest, match=r"connection refused; .*verify_connection=false"):
        world.configure()

    assert world.read("config") is None


def test_what_is_no_relay_is_not_stored_and_the_text_says_where_to_look(world: World) -> None:
    world.books.faults["check"] = refused(Kind.PROTOCOL, "the answer is not JSON")

    with pytest.raises(
        InvalidRequest, match="is not the key API of the relay: the answer is not JSON; look at base_url"
    ):
        world.configure()


def test_a_busy_relay_is_not_taken_for_one_that_refuses(world: World) -> None:
    world.books.faults["check"] = refused(Kind.RATE_LIMITED, "Too many requests")

    with pytest.raises(InvalidRequest, match="could not be asked"):
        world.configure()


def test_verify_connection_false_stores_unasked_this_once_only(world: World) -> None:
    world.books.faults["check"] = refused(Kind.UNAVAILABLE, "connection refused")

    world.configure(verify_connection=False)

    assert world.books.count("check") == 0
    with pytest.raises(InvalidRequest, match="connection refused"):
        world.write("config", connect_timeout=3)


def test_the_question_about_a_write_is_not_kept(world: World) -> None:
    world.configure(verify_connection=False)

    stored = world.store.entries(world.mount.uuid).get("config")
    assert stored == {"base_url": BASE_URL, "management_key": MANAGEMENT_KEY}


def test_a_failed_update_leaves_the_old_config(world: World) -> None:
    world.configure()

    with pytest.raises(InvalidRequest):
        world.write("config", management_key=OTHER_KEY)

    assert world.relay_config().management_key.reveal() == MANAGEMENT_KEY


# -- another address -----------------------------------------------------------------------------------------------


def test_the_stored_key_is_never_sent_to_another_address(world: World) -> None:
    """Who may write `config` but does not know the key could otherwise have it sent wherever they like."""
    world.configure()
    asked = len(world.books.configs)

    for attempt in (world.write, world.patch):
        with pytest.raises(
            InvalidRequest, match="base_url changes: give management_key or management_key_ref again"
        ):
            attempt("config", base_url="https://evil.example/v1")
        with pytest.raises(
            InvalidRequest, match="base_url changes: give management_key or management_key_ref again"
        ):
            attempt("config", base_url="https://relay.example:8443/v1", verify_connection=False)
        with pytest.raises(InvalidRequest, match="management_key"):
            attempt("config", base_url="https://relay.example/other", management_key=None)

    assert len(world.books.configs) == asked, "no driver with the stored key was even made"
    shown = world.read("config")
    assert shown is not None
    assert shown["base_url"] == BASE_URL


@pytest.mark.parametrize(
    "same",
    [
        "https://relay.example/v1/",
        "HTTPS://RELAY.example/v1",
        "https://relay.example:443/v1",
    ],
)
def test_another_spelling_of_the_address_is_no_change(same: str, world: World) -> None:
    world.configure()

    assert world.write("config", base_url=same) is None


def test_a_new_address_with_its_key_is_taken_and_warns_of_keys_left_at_the_old_one(ready: World) -> None:
    ready.lease(ready.issue("demo"))

    answer = ready.write("config", base_url="https://new.example/v1", management_key=MANAGEMENT_KEY)

    assert len(warnings(answer)) == 1
    assert "1 live leases hold keys minted at https://relay.example/v1" in warnings(answer)[0]
    assert ready.write("config", base_url="https://new.example/v1") is None, "no change, no warning"


def test_a_relay_of_another_kind_warns_of_the_keys_of_the_old_one(ready: World) -> None:
    ready.lease(ready.issue("demo"))

    assert len(warnings(ready.write("config", relay="plain"))) == 1
    assert ready.write("config", connect_timeout=3) is None


def test_a_new_address_without_leases_warns_of_nothing(ready: World) -> None:
    assert ready.write("config", base_url="https://new.example/v1", management_key=MANAGEMENT_KEY) is None


# -- patch and delete ----------------------------------------------------------------------------------------------


def test_a_patch_changes_what_it_names_and_a_null_unsets(world: World) -> None:
    world.configure(signing_secret="hs-sign-" + "s" * 40, request_timeout=20, connect_timeout=3)

    world.patch("config", request_timeout=None, signing_secret=None, connect_timeout="4s")

    config = world.relay_config()
    assert config.signing_secret is None
    assert (config.connect_timeout, config.request_timeout) == (4.0, 30.0)
    assert config.management_key.reveal() == MANAGEMENT_KEY


def test_a_patch_cannot_unset_what_is_required(world: World) -> None:
    world.configure()

    with pytest.raises(InvalidRequest, match="management_key is missing"):
        world.patch("config", management_key=None)


def test_a_patch_of_no_config_is_refused(world: World) -> None:
    with pytest.raises(ResourceMissing):
        world.patch("config", connect_timeout=3)


def test_a_config_that_leases_need_is_not_deleted(ready: World) -> None:
    secret = ready.lease(ready.issue("demo"))

    with pytest.raises(InvalidRequest, match="1 live leases and 0 unfinished mints"):
        ready.delete("config")

    assert ready.read("config") is not None
    ready.store.delete_lease(secret.lease_id)
    assert ready.delete("config") is None
    assert ready.read("config") is None


def test_a_config_that_an_unfinished_mint_needs_is_not_deleted(ready: World) -> None:
    ready.issue("demo")

    with pytest.raises(InvalidRequest, match="0 live leases and 1 unfinished mints"):
        ready.delete("config")


def test_deleting_no_config_is_no_error(world: World) -> None:
    assert world.delete("config") is None


def test_the_database_file_holds_neither_secret(world: World, tmp_path: Any) -> None:
    world.configure(signing_secret="hs-sign-" + "s" * 40)

    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith("aikeys.db"))
    assert stored
    assert MANAGEMENT_KEY.encode() not in stored
    assert b"hs-sign-" not in stored


def test_the_secrets_of_config_are_blanked_for_others(world: World) -> None:
    blanked = world.backend.blank_secrets(
        "config",
        {"management_key": MANAGEMENT_KEY, "signing_secret": "x", "mangement_key": "x", "base_url": BASE_URL},
    )

    assert blanked == {"management_key": "", "signing_secret": "", "mangement_key": "", "base_url": BASE_URL}


# -- the cache -----------------------------------------------------------------------------------------------------


def test_a_new_config_is_used_at_once_and_the_old_driver_closed_when_no_request_can_hold_it(
    ready: World,
) -> None:
    old = ready.services.connections.driver(ready.mount.uuid)
    ready.books.accepted_keys.add(OTHER_KEY)

    ready.write("config", management_key=OTHER_KEY)

    new = ready.services.connections.driver(ready.mount.uuid)
    assert new is not old
    assert ready.books.open_drivers == 2, "a request may still hold the old one"
    ready.clock.moved += 121
    ready.write("roles/demo", ttl=61)
    assert ready.services.connections.driver(ready.mount.uuid) is new, "a changed role keeps the driver"
    assert ready.books.open_drivers == 1


def test_a_deleted_config_leaves_no_driver(ready: World) -> None:
    ready.services.connections.driver(ready.mount.uuid)
    ready.delete("config")

    with pytest.raises(InvalidRequest, match="write its config first"):
        ready.services.connections.driver(ready.mount.uuid)


def test_two_mounts_have_two_configs(ready: World) -> None:
    ready.store.put_mount(
        replace(
            ready.store.mounts()[0], uuid="other", path="other/", accessor="ai-keys_2", instance="zyxwvuts"
        )
    )
    with pytest.raises(InvalidRequest, match="write other/config first"):
        ready.services.connections.driver("other", "other/")


def test_many_threads_at_once_make_one_driver(ready: World) -> None:
    ready.write("config", connect_timeout=4)
    made = len(ready.books.configs)
    start = threading.Barrier(8)

    def ask(_number: int) -> object:
        start.wait()
        return ready.services.connections.driver(ready.mount.uuid)

    with ThreadPoolExecutor(8) as pool:
        drivers = set(pool.map(ask, range(8)))

    assert len(drivers) == 1
    assert len(ready.books.configs) == made + 1


def test_what_another_process_writes_is_seen_at_once(ready: World) -> None:
    other = Services.of_store(ready.store, ready.services.minter, ready.books, ready.clock)
    backend = build_backend(other)
    assert other.connections.driver(ready.mount.uuid).name == "holysheep"
    assert other.connections.role(ready.mount.uuid, "demo") is not None

    ready.write("config", relay="plain")
    ready.write("roles/demo", ttl=61)

    assert other.connections.driver(ready.mount.uuid).name == "plain"
    role = other.connections.role(ready.mount.uuid, "demo")
    assert role is not None
    assert role.ttl == 61
    backend.handle(Request(Operation.DELETE, "roles/demo", ready.mount))
    assert ready.services.connections.role(ready.mount.uuid, "demo") is None
    other.connections.close()


def test_a_stored_config_that_no_driver_can_use_is_a_400_that_says_so(ready: World) -> None:
    def broken(_config: RelayConfig) -> Any:
        raise refused(Kind.CONFIG, "ca_cert: it must be PEM")

    ready.services.connections._make_driver = broken
    ready.write("config", connect_timeout=4, verify_connection=False)

    for _again in range(3):
        with pytest.raises(InvalidRequest, match="the stored config cannot be used: ca_cert"):
            ready.issue("demo")
    ready.services.connections._make_driver = ready.books.make_driver
    ready.write("config", connect_timeout=5)
    ready.issue("demo")
    ready.clock.moved += 121
    ready.write("roles/demo", ttl=61)
    ready.issue("demo")
    assert ready.books.open_drivers == 1, "the old driver was closed, once"
