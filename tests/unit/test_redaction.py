"""A secret shows itself nowhere, and the net that catches it stays fast however many come and go."""

from __future__ import annotations

import base64
import copy
import gc
import json
import pickle
import re
import threading
import time
import urllib.parse
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from aikeys.redaction import MIN_KNOWN_LENGTH, REDACTED, Redactor, SecretString, redactor

# Matches no pattern: only the value itself can be known.
VALUE = "Zq7xT2mWc9LkVb4N"


@pytest.fixture
def net() -> Redactor:
    return Redactor()


@pytest.mark.parametrize(
    "show",
    [
        repr,
        str,
        "{}".format,
        lambda secret: f"{secret:>80}",
        lambda secret: f"{secret!s} {secret!r}",
        lambda secret: "%s" % secret,  # noqa: UP031 - one of the ways to print
        lambda secret: repr({"key": [secret]}),
        ascii,
    ],
)
def test_a_secret_does_not_print_itself(show: object) -> None:
    secret = SecretString(VALUE)
    assert callable(show)
    shown = show(secret)
    assert VALUE not in shown
    assert secret.fingerprint() in shown


def test_a_secret_within_a_record_does_not_print_itself() -> None:
    @dataclass
    class Config:
        key: SecretString

    assert VALUE not in repr(Config(SecretString(VALUE)))


def test_a_secret_is_neither_pickled_nor_made_json() -> None:
    secret = SecretString(VALUE)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)


def test_a_secret_reveals_itself_when_asked_and_compares_by_value() -> None:
    secret = SecretString(VALUE)
    assert secret.reveal() == VALUE
    assert secret == SecretString(VALUE)
    assert hash(secret) == hash(SecretString(VALUE))
    assert secret != SecretString(VALUE + "x")
    assert (secret == VALUE) is False
    assert secret
    assert not SecretString("")
    assert copy.deepcopy({"key": secret})["key"] is secret


@pytest.mark.parametrize(
    "text",
    [
        VALUE,
        f"the key {VALUE} was refused",
        f'{{"key":"{VALUE}"}}',
        f"prefix{VALUE}suffix",
        f"{VALUE}{VALUE}",
        base64.b64encode(VALUE.encode()).decode(),
        "Basic " + base64.b64encode(f"user:{VALUE}".encode()).decode(),
        "Basic " + base64.b64encode(f"a:{VALUE}!".encode()).decode(),
        base64.urlsafe_b64encode(f"??>>{VALUE}".encode()).decode(),
    ],
)
def test_a_known_secret_leaves_no_text_in_whatever_form(net: Redactor, text: str) -> None:
    net.learn(VALUE)
    clean = net.redact(text)
    assert REDACTED in clean
    assert not _readable(clean, VALUE)


@pytest.mark.parametrize(
    "value", ['pa"ss\\wo/rd+1', "pass word & more", "schlüssel-größe", "line one\nline two"]
)
@pytest.mark.parametrize(
    "encode",
    [
        str,
        json.dumps,
        lambda value: json.dumps(value, ensure_ascii=False),
        repr,
        lambda value: urllib.parse.quote(value, safe=""),
        lambda value: re.sub("%..", lambda code: code[0].lower(), urllib.parse.quote(value, safe="")),
        urllib.parse.quote_plus,
        lambda value: base64.b64encode(b"x:" + value.encode()).decode(),
    ],
)
def test_a_secret_of_odd_characters_leaves_no_text_either(net: Redactor, value: str, encode: object) -> None:
    net.learn(value)
    assert callable(encode)
    text = encode(value)
    assert net.redact(f"before {text} after") != f"before {text} after"
    assert not _readable(net.redact(f"before {text} after"), value)


@settings(deadline=None)
@given(
    value=st.text(
        st.characters(min_codepoint=32, max_codepoint=0x2FF), min_size=MIN_KNOWN_LENGTH, max_size=60
    ),
    before=st.text(max_size=8),
    behind=st.text(max_size=8),
)
def test_no_known_value_survives_in_any_surrounding(value: str, before: str, behind: str) -> None:
    # What stands in a secret's place is no secret.
    assume(not set(value) & set("<>") and value not in REDACTED)
    net = Redactor()
    net.learn(value)
    for text in (
        before + value + behind,
        before + urllib.parse.quote(value, safe="") + behind,
        before + json.dumps(value)[1:-1] + behind,
    ):
        assert value not in net.redact(text)
        assert REDACTED in net.redact(text)
    joined = base64.b64encode((before + value + behind).encode(errors="surrogatepass")).decode()
    assert REDACTED in net.redact(joined)


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@pytest.mark.parametrize("before", ["", "a", "ab"])
def test_both_alphabets_of_base64_are_known(
    net: Redactor, encode: Callable[[bytes], bytes], before: str
) -> None:
    value = "~~~~Zq7xT2mWc9Lk~~~~"
    net.learn(value)
    encoded = encode(f"{before}{value}".encode()).decode()
    assert set(encoded) & set("+-"), "a value whose base64 differs between the alphabets"
    assert not _readable(net.redact(encoded), value)


def test_a_secret_that_contains_another_goes_as_a_whole(net: Redactor) -> None:
    net.learn(VALUE)
    net.learn(f"{VALUE}-and-more-of-it")
    net.learn(f"before-{VALUE}")
    assert net.redact(f"x before-{VALUE}-and-more-of-it y") == f"x {REDACTED} y"


def test_a_secret_too_short_to_tell_from_a_word_is_left(net: Redactor) -> None:
    net.learn("demo")
    assert net.redact("the demo role") == "the demo role"


def test_a_text_without_secrets_is_unchanged(net: Redactor) -> None:
    net.learn(VALUE)
    text = "read ai-keys/creds/demo by token accessor 7a1c2f3e-0f2b-4a55-9a6c-1f1f7c1e7a10 failed: 404 key_not_found"
    assert net.redact(text) == text


@pytest.mark.parametrize(
    "secret",
    [
        "sk-holysheep-" + "A" * 32,
        "sk-holysheep-admin-" + "b" * 32,
        "sk-ant-api03-" + "c" * 20,
        "hs-sign-" + "d" * 43,
        "gw-" + "e" * 40,
        "fgw_" + "f" * 40,
        "AIza" + "g" * 35,
        "hvs." + "h" * 24,
        "hvb." + "i" * 100,
        "s." + "j" * 24,
        "b." + "k" * 30,
        "-----BEGIN EC PRIVATE KEY-----\nMHc\nxyz=\n-----END EC PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMHc cut off",
    ],
)
def test_what_looks_like_a_secret_is_replaced_unknown_as_it_is(net: Redactor, secret: str) -> None:
    assert net.redact(f'sent "{secret}"') in {f'sent "{REDACTED}"', f'sent "{REDACTED}'}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_bearer_token_is_replaced_whatever_it_looks_like(net: Redactor, scheme: str) -> None:
    assert (
        net.redact(f"Authorization: {scheme} abc.def~1234 sent") == f"Authorization: {scheme} {REDACTED} sent"
    )


def test_values_of_the_moment_are_replaced_too(net: Redactor) -> None:
    assert net.redact(f"a {VALUE} b", also=[VALUE, "b"]) == f"a {REDACTED} b"
    assert net.redact(f"a {VALUE} b") == f"a {VALUE} b"


def test_every_string_of_a_structure_is_cleaned(net: Redactor) -> None:
    net.learn(VALUE)
    found = net.redact_value({"a": [VALUE, 1, None, {"b": f"x{VALUE}"}], VALUE: True, "t": (VALUE,)})
    assert found == {"a": [REDACTED, 1, None, {"b": f"x{REDACTED}"}], REDACTED: True, "t": [REDACTED]}


def test_a_living_secret_is_known_to_the_process_and_a_dead_one_forgotten() -> None:
    first, second = SecretString(VALUE), SecretString(VALUE)
    assert redactor.redact(VALUE) == REDACTED
    del first
    assert redactor.redact(VALUE) == REDACTED, "another still holds it"
    del second
    assert redactor.redact(VALUE) == VALUE


def test_secrets_that_share_their_last_characters_are_kept_apart(net: Redactor) -> None:
    one, two = "first-secret-0123456789", "second-secret-0123456789"
    net.learn(one)
    net.learn(two)
    assert net.redact(f"{one} {two}") == f"{REDACTED} {REDACTED}"
    net.forget(one)
    assert net.redact(f"{one} {two}") == f"{one} {REDACTED}"
    net.forget(two)
    assert net.redact(f"{one} {two}") == f"{one} {two}"


def test_secrets_that_come_and_go_leave_nothing_behind(net: Redactor) -> None:
    for index in range(30_000):
        net.learn(f"{VALUE}-{index}")
        net.forget(f"{VALUE}-{index}")
    assert len(net._journal) < 10_000, "the journal is worked in before it grows"
    net.redact("")
    assert (net._journal, net._holders, net._by_tail, net._elsewhere) == (type(net._journal)(), {}, {}, {})


def test_a_text_costs_the_same_however_many_secrets_are_known(net: Redactor) -> None:
    text = f"the relay answered 500 for request {VALUE} of ai-keys/creds/demo " * 20

    def best() -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            net.redact(text)
            times.append(time.perf_counter() - started)
        return min(times)

    net.learn("sk-holysheep-" + "x" * 32)
    few = best()
    for index in range(50_000):
        net.learn(f"sk-holysheep-{index:032x}")
    net.redact("")
    # A look at each known secret would make it thousands of times as slow.
    assert best() < 20 * few


def test_a_secret_collected_while_the_net_is_busy_does_not_block_it(net: Redactor) -> None:
    def come_and_go() -> None:
        net.forget(VALUE)
        for _ in range(5000):
            net.learn("y" * 20)

    net.learn(VALUE)
    with net._lock:
        done = threading.Thread(target=come_and_go)
        done.start()
        done.join(5)
        assert not done.is_alive()
    gc.collect()
    assert net.redact(VALUE) == VALUE


def test_many_threads_learn_forget_and_redact_at_once(net: Redactor) -> None:
    wrong: list[str] = []

    def work(name: int) -> None:
        for index in range(300):
            value = f"secret-{name}-{index}-{VALUE}"
            net.learn(value)
            clean = net.redact(f"a {value} b")
            net.forget(value)
            if clean != f"a {REDACTED} b":
                wrong.append(clean)

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    net.redact("")
    assert net._holders == {}


def _readable(text: str, value: str) -> bool:
    """Whether half of the value or more can be read from the text, directly or out of base64."""
    half = len(value) // 2
    pieces = {value[index : index + half + 1] for index in range(len(value) - half)}
    readings = [text, urllib.parse.unquote_plus(text)]
    for run in re.findall(r"[A-Za-z0-9+/_-]{4,}", text):
        for cut in range(4):
            body = run[cut : len(run) - (len(run) - cut) % 4].replace("-", "+").replace("_", "/")
            readings.append(base64.b64decode(body).decode("latin-1"))
    return any(piece in reading for piece in pieces for reading in readings)
