"""Which base URLs are allowed: the management key goes nowhere in the clear."""

from __future__ import annotations

import pytest

from aikeys.redaction import SecretString
from aikeys.relays.address import validate_base_url
from aikeys.relays.interface import DriverError, Kind, Outcome, RelayConfig
from aikeys.relays.registry import capabilities_of, make_driver, relay_names


@pytest.mark.parametrize(
    "url",
    [
        "https://relay.example/v1",
        "https://relay.example",
        "https://relay.example:8443/v1/",
        "https://10.0.0.1/v1",
        "http://127.0.0.1:8080/v1",
        "http://127.9.9.9/v1",
        "http://[::1]:8080/v1",
        "http://localhost:8080/v1",
        "HTTP://LOCALHOST/v1",
    ],
)
def test_an_address_that_keeps_the_key_secret_is_allowed(url: str) -> None:
    assert validate_base_url(url) is None


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://relay.example/v1", "https"),
        ("http://10.0.0.1/v1", "https"),
        ("http://127.0.0.1.evil.example/v1", "https"),
        ("http://localhost.evil.example/v1", "https"),
        ("http://2130706433/v1", "https"),
        ("http://0.0.0.0/v1", "https"),
        ("https://user:password@relay.example/v1", "user"),
        ("http://127.0.0.1@evil.example/", "user"),
        ("https://relay.example/v1?x=1", "query"),
        ("https://relay.example/v1#x", "fragment"),
        ("ftp://relay.example/v1", "begin with"),
        ("relay.example/v1", "begin with"),
        ("https://", "host"),
        ("https://relay.example:99999/", "port"),
        ("https://relay.example/v 1", "spaces"),
        (" https://relay.example/v1", "spaces"),
        ("https://relay.example/v1\r\nX: 1", "spaces"),
        ("", "address"),
    ],
)
def test_any_other_address_is_refused_with_a_sentence(url: str, why: str) -> None:
    sentence = validate_base_url(url)
    assert sentence is not None
    assert why in sentence
    assert "password@" not in sentence


@pytest.mark.parametrize(
    "config",
    [
        RelayConfig("holysheep", "http://relay.example/v1", SecretString("k" * 20)),
        RelayConfig("holysheep", "https://relay.example/v1", SecretString("schlüssel-größe")),
        RelayConfig(
            "holysheep", "https://relay.example/v1", SecretString("k" * 20), ca_cert="no certificate"
        ),
        RelayConfig(
            "holysheep",
            "https://relay.example/v1",
            SecretString("k" * 20),
            signing_secret=SecretString("s" * 20),
            signature_version="v9",
        ),
        RelayConfig("other", "https://relay.example/v1", SecretString("k" * 20)),
    ],
)
def test_no_driver_is_made_of_a_config_that_cannot_be_used(config: RelayConfig) -> None:
    with pytest.raises(DriverError) as failed:
        make_driver(config)
    assert (failed.value.kind, failed.value.outcome) == (Kind.CONFIG, Outcome.NOT_APPLIED)


def test_every_relay_named_can_be_made_and_says_what_it_can_do() -> None:
    assert relay_names() == ["holysheep"]
    for name in relay_names():
        driver = make_driver(RelayConfig(name, "https://relay.example/v1", SecretString("k" * 20)))
        assert driver.name == name
        assert driver.capabilities() == capabilities_of(name)
        driver.close()
    with pytest.raises(DriverError, match="unknown"):
        capabilities_of("other")
