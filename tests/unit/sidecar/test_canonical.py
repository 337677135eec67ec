"""A path has one reading, decided once: redirected, refused, ours to route, or the upstream's own."""

from __future__ import annotations

import posixpath
from urllib.parse import unquote_to_bytes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aikeys.sidecar.canonical import Target, clean, read_target
from aikeys.sidecar.exchange import Reply
from aikeys.sidecar.upstream import encode_path

LIMIT = 4096


def read(raw: str, method: str = "GET") -> Target | Reply:
    return read_target(raw, method, LIMIT)


@pytest.mark.parametrize(
    ("raw", "location"),
    [
        ("/v1//sys/mounts", "/v1/sys/mounts"),
        ("/v1/./sys/mounts", "/v1/sys/mounts"),
        ("/v1/a/../sys/mounts?x=y", "/v1/sys/mounts?x=y"),
        ("/v1/sys/mounts/.", "/v1/sys/mounts"),
        ("/v1/sys/mounts//", "/v1/sys/mounts/"),
        ("/v1/a%20b//c%2fd", "/v1/a%20b/c%2fd"),
        ("/ui/../v1/sys/health", "/v1/sys/health"),
        ("/v1/ai-keys/roles/../creds/x", "/v1/ai-keys/creds/x"),
        ("http://other/v1//sys/mounts", "/v1/sys/mounts"),
    ],
)
def test_literal_dots_and_doubled_slashes_are_redirected(raw: str, location: str) -> None:
    for method in ("GET", "PUT", "LIST", "DELETE"):
        reply = read(raw, method)
        assert isinstance(reply, Reply)
        assert (reply.status, reply.header("Location")) == (307, location)
        assert bool(reply.body) == (method == "GET")


@pytest.mark.parametrize(
    "raw",
    [
        "/v1/%2e%2e/sys/mounts",
        "/v1/x%2f..%2fy",
        "/v1/x/%2e/y",
        "/v1/sys/%2E%2e",
        "/v1/sys/..%2fx",
        "/v1/ai-keys/roles/%2e%2e/creds/x",
        "/v1/ai-keys/roles%2f%2e%2e%2fcreds/x",
        "/%761/ai-keys/%2e",
    ],
)
def test_segments_that_decode_to_dots_are_refused_and_never_resolved(raw: str) -> None:
    reply = read(raw)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.errors) == (400, ["relative paths not supported"])


@pytest.mark.parametrize(
    "raw",
    ["/v1/a%00b", "/v1/a%7fb", "/v1/a%0ab", "/v1/s/%e2%80%8b", "/v1/s/%c2%a0", "/v1/s/%ee%80%80", "/ui/%0d"],
)
def test_a_byte_that_does_not_print_is_400_without_a_body(raw: str) -> None:
    assert read(raw) == Reply(400, b"", ())


@pytest.mark.parametrize("raw", ["/v1/%zz", "/v1/a%", "/v1/a%4", "/v1/%u0041"])
def test_a_broken_escape_is_400(raw: str) -> None:
    reply = read(raw)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.body) == (400, b"400 Bad Request")


@pytest.mark.parametrize(
    "raw",
    [
        "x",
        "v1/sys/health",
        "1x://a/v1/x",
        "http:/v1/x",
        "http://a:b/v1/x",
        "http://a#/v1/x",
        "http://a\\/v1/x",
        "",
    ],
)
def test_what_is_neither_a_path_nor_an_address_is_400(raw: str) -> None:
    reply = read(raw)
    assert isinstance(reply, Reply)
    assert (reply.status, reply.body) == (400, b"400 Bad Request")


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ("/v1/ai-keys/creds/demo", "ai-keys/creds/demo"),
        ("/v1/%61i-keys/creds/demo", "ai-keys/creds/demo"),
        ("/v1/ai-keys%2Fcreds%2Fdemo", "ai-keys/creds/demo"),
        ("/%761/ai-keys/creds/demo", "ai-keys/creds/demo"),
        ("/v1/ai-keys/roles/", "ai-keys/roles/"),
        ("/v1/a%2f%2fb", "a//b"),
        ("/v1/a..b/...", "a..b/..."),
        ("/v1/a+b;c", "a+b;c"),
        ("/v1/s/%c3%a9", "s/é"),
        ("/v1/s/\xc3\xa9", "s/é"),
        ("/v1/sys/mounts#x", "sys/mounts#x"),
        ("/v1/", ""),
        ("http://other/v1/sys/health", "sys/health"),
        ("x://other/v1/sys/health", "sys/health"),
        ("HTTPS://u:p@[::1]:8200/v1/sys/health", "sys/health"),
        ("/v1/ai-keys/creds/%2564emo", "ai-keys/creds/%64emo"),
    ],
)
def test_a_path_is_decoded_once(raw: str, path: str) -> None:
    target = read(raw)
    assert isinstance(target, Target)
    assert target.path == path


@pytest.mark.parametrize(
    "raw",
    ["/", "/ui", "/ui/%2e%2e/x", "/V1/sys/health", "/v2/x", "/foo", "/v1", "/v1%2fsys/health", "*", "//v1/x"],
)
def test_what_is_not_below_v1_is_the_upstreams(raw: str) -> None:
    target = read(raw)
    assert isinstance(target, Target)
    assert (target.path, target.raw) == (None, raw)


def test_a_long_path_is_refused_before_anything_else_and_a_long_query_is_not() -> None:
    reply = read("/v1/" + "a" * LIMIT)
    assert isinstance(reply, Reply)
    assert reply.status == 414
    assert isinstance(read("/v1/" + "a" * (LIMIT - 4)), Target)
    assert isinstance(read("/v1/a?" + "b" * LIMIT), Target)


def test_the_query_is_kept_as_it_came() -> None:
    target = read("/v1/a?b=%2e%2e//&c?d")
    assert isinstance(target, Target)
    assert target.query_string == "b=%2e%2e//&c?d"
    assert target.raw == "/v1/a?b=%2e%2e//&c?d"


@given(st.text(st.sampled_from("abv1/.%2eEfF0+~ é"), max_size=30))
def test_whatever_is_routed_holds_no_dot_segment_and_reads_the_same_at_the_upstream(text: str) -> None:
    target = read("/v1/" + text.replace(" ", "%20").encode().decode("latin-1"))
    if isinstance(target, Reply) or target.path is None:
        return
    assert not {".", ".."} & set(target.path.split("/"))
    encoded = "/v1/" + encode_path(target.path)
    # What goes to the upstream is not cleaned there, and decodes to exactly what was routed on.
    assert clean(encoded) == encoded
    assert unquote_to_bytes(encoded).decode("utf-8", "surrogateescape") == "/v1/" + target.path
    again = read(encoded)
    assert isinstance(again, Target)
    assert again.path == target.path


@given(st.text(st.sampled_from("ab./"), max_size=20))
def test_a_redirect_leads_to_a_path_that_is_not_redirected_again(text: str) -> None:
    reply = read("/v1/" + text)
    if isinstance(reply, Reply) and reply.status == 307:
        location = reply.header("Location")
        assert clean(location) == location
        assert posixpath.normpath(location) == posixpath.normpath("/v1/" + text)
