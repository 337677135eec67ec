"""Headers go on and come back untouched, but for those of one connection and for what a stranger claims to be."""

from __future__ import annotations

import ipaddress

import pytest

from aikeys.sidecar.headers import TrustedProxies, forwarded, returned

TRUSTED = TrustedProxies((ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_network("::1/128")))


def test_headers_of_the_connection_stay_behind_and_the_rest_keeps_order_and_repetition() -> None:
    sent = [
        ("Host", "sidecar"),
        ("X-Vault-Token", "t"),
        ("Accept", "a"),
        ("Connection", "keep-alive"),
        ("Accept", "b"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "3"),
        ("Upgrade", "websocket"),
        ("TE", "trailers"),
        ("Expect", "100-continue"),
        ("X-Vault-Inline-Auth-Path", "p"),
    ]
    assert forwarded(sent) == [
        ("X-Vault-Token", "t"),
        ("Accept", "a"),
        ("Accept", "b"),
        ("X-Vault-Inline-Auth-Path", "p"),
    ]


def test_nobody_takes_a_header_out_by_naming_it_one_of_the_connection() -> None:
    """We read it, so the upstream must; and the address that we vouch for is not the client's to remove."""
    ends = [("X-Vault-Token", "t"), ("X-Vault-Wrap-TTL", "60"), ("X-Forwarded-For", "1.2.3.4")]
    named = ("Connection", "close, X-Vault-Token, x-vault-wrap-ttl, X-Forwarded-For")
    assert forwarded([named, *ends]) == ends


def test_answers_keep_their_headers_but_for_the_date_that_the_server_in_front_writes() -> None:
    received = [
        ("Date", "x"),
        ("Set-Cookie", "a"),
        ("Set-Cookie", "b"),
        ("Keep-Alive", "5"),
        ("Content-Length", "1"),
    ]
    assert returned(received) == [("Set-Cookie", "a"), ("Set-Cookie", "b"), ("Content-Length", "1")]


@pytest.mark.parametrize(
    ("peer", "claimed", "sent", "client"),
    [
        ("1.2.3.4", [], "1.2.3.4", "1.2.3.4"),
        ("1.2.3.4", ["9.9.9.9"], "1.2.3.4", "1.2.3.4"),
        ("10.1.1.1", ["9.9.9.9"], "9.9.9.9, 10.1.1.1", "9.9.9.9"),
        ("10.1.1.1", ["6.6.6.6, 9.9.9.9", "10.2.2.2"], "6.6.6.6, 9.9.9.9, 10.2.2.2, 10.1.1.1", "9.9.9.9"),
        ("::1", ["10.2.2.2"], "10.2.2.2, ::1", "10.2.2.2"),
        ("::ffff:10.1.1.1", ["9.9.9.9"], "9.9.9.9, ::ffff:10.1.1.1", "9.9.9.9"),
        ("10.1.1.1", ["nonsense"], "nonsense, 10.1.1.1", "nonsense"),
    ],
)
def test_only_a_trusted_proxy_is_believed_about_the_client(
    peer: str, claimed: list[str], sent: str, client: str
) -> None:
    headers = [("A", "1"), *(("x-forwarded-for", value) for value in claimed), ("B", "2")]
    on = TRUSTED.with_forwarded_for(peer, headers)
    assert on == [("A", "1"), ("B", "2"), ("X-Forwarded-For", sent)]
    assert TRUSTED.client_address(peer, headers) == client


def test_without_trusted_proxies_nobody_is_believed() -> None:
    nobody = TrustedProxies()
    assert nobody.with_forwarded_for("127.0.0.1", [("X-Forwarded-For", "6.6.6.6")]) == [
        ("X-Forwarded-For", "127.0.0.1")
    ]
