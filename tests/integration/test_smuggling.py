"""What we authorise is what we serve and what the upstream sees: no request has two readings.

Bytes that a client library would not send, to the sidecar and, where it matters, to the server itself. A request that
could be read in two ways is refused, and the connection with it; any other means to us what it means to the server.
"""

from __future__ import annotations

import pytest
from tests.integration.raw_http import RawReply, ask, converse
from tests.sidecar_stack import MOUNT, SidecarStack, unique

CREDS = f"/v1/{MOUNT}/creds/demo"
FORM = "Content-Type: application/x-www-form-urlencoded\r\n"
#: What a smuggler wants to have served: it mints, and it says whose token it used.
HIDDEN = f"GET {CREDS} HTTP/1.1\r\nHost: a\r\nX-Vault-Token: root\r\n\r\n"
LAST = "GET /v1/sys/seal-status HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


def request(
    stack: SidecarStack, line: str, *headers: str, body: str = "", token: str | None = None, to: str = ""
) -> list[RawReply]:
    """One request with these header lines on a connection that it asks to be closed; at the sidecar unless `to`."""
    given = stack.root_token if token is None else token
    lines = [f"{line} HTTP/1.1", "Host: vault.test", "Connection: close", *headers]
    if given:
        lines.append(f"X-Vault-Token: {given}")
    raw = "\r\n".join([*lines, "", ""]) + body
    return converse(to or stack.address, raw.encode("latin-1"))[0]


def only(replies: list[RawReply]) -> RawReply:
    (reply,) = replies
    return reply


# -- how long a request is ------------------------------------------------------------------------------------------

CHUNKED_BODY = "9\r\n{body}\r\n0\r\n\r\n"
TWO_LENGTHS = {
    "chunked and a length": "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n" + CHUNKED_BODY,
    "a length and chunked": "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED_BODY,
    "two lengths": "Content-Length: 9\r\nContent-Length: 2\r\n\r\n{body}",
    "the same length twice": "Content-Length: 9\r\nContent-Length: 9\r\n\r\n{body}",
    "a list of lengths": "Content-Length: 9, 9\r\n\r\n{body}",
    "a signed length": "Content-Length: +9\r\n\r\n{body}",
    "a hexadecimal length": "Content-Length: 0x9\r\n\r\n{body}",
    "a negative length": "Content-Length: -1\r\n\r\n{body}",
    "no length": "Content-Length: \r\n\r\n{body}",
    "a length that is a number only to Python": "Content-Length: \xb2\r\n\r\n{body}",
    "a length beyond 64 bits": "Content-Length: 99999999999999999999\r\n\r\n{body}",
    "chunked in another word": "Transfer-Encoding: xchunked\r\n\r\n" + CHUNKED_BODY,
    "identity": "Transfer-Encoding: identity\r\nContent-Length: 9\r\n\r\n{body}",
    "identity before chunked": "Transfer-Encoding: identity, chunked\r\n\r\n" + CHUNKED_BODY,
    "compressed and chunked": "Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKED_BODY,
    "chunked twice": "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + CHUNKED_BODY,
    "chunked and then identity": "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"
    + CHUNKED_BODY,
    "chunked after a vertical tab": "Transfer-Encoding: \x0bchunked\r\n\r\n" + CHUNKED_BODY,
    "chunked in quotes": 'Transfer-Encoding: "chunked"\r\n\r\n' + CHUNKED_BODY,
    "a coding with a space before its colon": "Transfer-Encoding : chunked\r\nContent-Length: 9\r\n\r\n{body}",
    "a folded coding": "Transfer-Encoding:\r\n chunked\r\nContent-Length: 9\r\n\r\n{body}",
    "no chunk size": "Transfer-Encoding: chunked\r\n\r\nzz\r\n{body}\r\n0\r\n\r\n",
    "a signed chunk size": "Transfer-Encoding: chunked\r\n\r\n+9\r\n{body}\r\n0\r\n\r\n",
    "a prefixed chunk size": "Transfer-Encoding: chunked\r\n\r\n0x9\r\n{body}\r\n0\r\n\r\n",
    "a chunk longer than its size": "Transfer-Encoding: chunked\r\n\r\n8\r\n{body}\r\n0\r\n\r\n",
    "a line feed in a chunk's extension": "Transfer-Encoding: chunked\r\n\r\n9;a\nb\r\n{body}\r\n0\r\n\r\n",
    "a length in the trailer": "Transfer-Encoding: chunked\r\n\r\n9\r\n{body}\r\n0\r\nContent-Length: 9\r\n\r\n",
}


@pytest.mark.parametrize("what", TWO_LENGTHS)
def test_a_request_that_could_have_two_lengths_is_refused_with_its_connection(
    stack: SidecarStack, what: str
) -> None:
    name = unique("two")
    root = f"Host: a\r\nX-Vault-Token: {stack.root_token}\r\n"
    before = len(stack.log)
    with stack.nothing_minted():
        for path, body in (
            (f"/v1/{MOUNT}/roles/{name}", '{"ttl":5}'),
            (f"/v1/cubbyhole/{name}", '{"a":"b"}'),
            (CREDS, '{"ttl":5}'),
        ):
            raw = f"PUT {path} HTTP/1.1\r\n{root}{TWO_LENGTHS[what].format(body=body)}{HIDDEN}{LAST}"
            replies, closed = converse(stack.address, raw.encode("latin-1"))
            assert closed, path
            assert [reply.status for reply in replies] in ([400], [501]), path
            assert replies[0].header("content-type") == "application/json"
    assert stack.request("GET", f"{MOUNT}/roles/{name}").status_code == 404
    assert stack.direct("GET", f"cubbyhole/{name}").status_code == 404
    assert "Traceback" not in stack.log[before:]


@pytest.mark.parametrize("size", [300, 300_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_half_a_request_is_none(stack: SidecarStack, size: int, chunked: bool) -> None:
    """A form is whole at every `&`: where a connection breaks must not decide what is written."""
    name = unique("half")
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    body = "ttl=5&x=" + "y" * (size // 2)
    begun = f"{len(body):x}\r\n{body}\r\n" if chunked else body
    before = len(stack.log)
    with stack.nothing_minted():
        for path, sent in (
            (f"/v1/{MOUNT}/roles/{name}", begun),
            (f"/v1/cubbyhole/{name}", begun),
            (CREDS, ""),
            (CREDS, begun),
        ):
            raw = f"PUT {path} HTTP/1.1\r\nHost: a\r\nX-Vault-Token: root\r\n{FORM}{framing}\r\n\r\n{sent}"
            replies, closed = converse(stack.address, raw.encode(), half_closed=True)
            assert closed
            assert replies == []
    assert stack.request("GET", f"{MOUNT}/roles/{name}").status_code == 404
    assert stack.direct("GET", f"cubbyhole/{name}").status_code == 404
    assert "Traceback" not in stack.log[before:]


EARLY = [
    "PUT /v1/a//b",
    f"PUT /v1/{MOUNT}/%2e%2e/x",
    "PUT /v1/a%00",
    "PUT /v1/" + "a" * 5000,
    "PUT /aikeys/health",
    "GET /aikeys/nothing",
    f"LIST /v1/{MOUNT}/roles",
    f"DELETE /v1/{MOUNT}/roles/nobody",
    f"GET /v1/{MOUNT}/roles/demo",
    f"FROB {CREDS}",
    f"OPTIONS {CREDS}",
    "GET /v1/sys/leader",
    "PUT /v1/cubbyhole/unread",
    "OPTIONS *",
    "PUT x:y",
]


@pytest.mark.parametrize("line", EARLY)
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_nobody_reads_is_never_the_next_request(
    stack: SidecarStack, line: str, chunked: bool
) -> None:
    size = len(HIDDEN)
    framing, body = f"Content-Length: {size}", HIDDEN
    if chunked:
        framing, body = "Transfer-Encoding: chunked", f"{size:x}\r\n{HIDDEN}\r\n0\r\n\r\n"
    raw = f"{line} HTTP/1.1\r\nHost: a\r\nX-Vault-Token: root\r\n{framing}\r\n\r\n{body}{LAST}"
    with stack.nothing_minted():
        replies, closed = converse(stack.address, raw.encode())
    assert closed
    # The second is the one behind the body; after a refused one the connection may end instead.
    assert len(replies) == 2 or (len(replies) == 1 and replies[0].status == 400)
    assert len(replies) == 1 or b'"sealed":false' in replies[1].body


def test_requests_sent_at_once_are_answered_in_their_order(stack: SidecarStack) -> None:
    name = unique("order")
    body = '{"ttl":60,"max_ttl":90}'
    root = f"Host: a\r\nX-Vault-Token: {stack.root_token}\r\n"
    raw = (
        f"PUT /v1/{MOUNT}/roles/{name} HTTP/1.1\r\n{root}Content-Length: {len(body)}\r\n\r\n{body}"
        f"GET /v1/{MOUNT}/roles/{name} HTTP/1.1\r\n{root}\r\n"
        f"PUT /v1/cubbyhole/{name} HTTP/1.1\r\n{root}Transfer-Encoding: chunked\r\n\r\n9\r\n"
        '{"a":"b"}\r\n0\r\n\r\n'
        f"DELETE /v1/{MOUNT}/roles/{name} HTTP/1.1\r\n{root}Content-Length: 0\r\n\r\n"
        f"GET /v1/{MOUNT}/roles/{name} HTTP/1.1\r\n{root}\r\n{LAST}"
    )
    replies, _ = converse(stack.address, raw.encode())
    assert [reply.status for reply in replies] == [204, 200, 204, 204, 404, 200]


# -- lines ----------------------------------------------------------------------------------------------------------

NO_LINES = {
    "bare line feeds": f"GET {CREDS} HTTP/1.1\nHost: a\nX-Vault-Token: root\n\n",
    "one bare line feed": f"GET {CREDS} HTTP/1.1\r\nHost: a\nX-Vault-Token: root\r\n\r\n",
    "a bare carriage return": f"GET {CREDS} HTTP/1.1\r\nHost: a\rX-Vault-Token: root\r\n\r\n",
    "one within a value": f"GET {CREDS} HTTP/1.1\r\nHost: a\r\nX-A: b\rX-Vault-Token: root\r\n\r\n",
    "a folded token": f"GET {CREDS} HTTP/1.1\r\nHost: a\r\nX-Vault-Token:\r\n root\r\n\r\n",
    "a fold before any header": f"GET {CREDS} HTTP/1.1\r\n Host: a\r\nX-Vault-Token: root\r\n\r\n",
    "a space before the colon": f"GET {CREDS} HTTP/1.1\r\nHost: a\r\nX-Vault-Token : root\r\n\r\n",
    "a space within a name": f"GET {CREDS} HTTP/1.1\r\nHost: a\r\nX-Vault Token: root\r\n\r\n",
    "no name": f"GET {CREDS} HTTP/1.1\r\nHost: a\r\n: root\r\nX-Vault-Token: root\r\n\r\n",
    "a NUL in a value": f"GET {CREDS} HTTP/1.1\r\nHost: a\r\nX-Vault-Token: ro\0ot\r\n\r\n",
    "a NUL in the path": f"GET {CREDS}\0 HTTP/1.1\r\nHost: a\r\nX-Vault-Token: root\r\n\r\n",
    "a byte beyond ASCII in the path": f"GET {CREDS}\xff HTTP/1.1\r\nHost: a\r\nX-Vault-Token: root\r\n\r\n",
    "a space in the path": f"GET {CREDS} x HTTP/1.1\r\nHost: a\r\nX-Vault-Token: root\r\n\r\n",
    "tabs for spaces": f"GET\t{CREDS}\tHTTP/1.1\r\nHost: a\r\nX-Vault-Token: root\r\n\r\n",
    "no host": f"GET {CREDS} HTTP/1.1\r\nX-Vault-Token: root\r\n\r\n",
    "two hosts": f"GET {CREDS} HTTP/1.1\r\nHost: a\r\nHost: b\r\nX-Vault-Token: root\r\n\r\n",
    "two content types": f"GET {CREDS} HTTP/1.1\r\nHost: a\r\nContent-Type: a/b\r\nContent-Type: c/d\r\n"
    "X-Vault-Token: root\r\n\r\n",
    "HTTP/0.9": f"GET {CREDS}\r\n\r\n",
    "HTTP/2.0": f"GET {CREDS} HTTP/2.0\r\nHost: a\r\nX-Vault-Token: root\r\n\r\n",
    "the preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
}


@pytest.mark.parametrize("what", NO_LINES)
def test_what_is_no_proper_line_is_refused_with_its_connection(stack: SidecarStack, what: str) -> None:
    with stack.nothing_minted():
        replies, closed = converse(stack.address, (NO_LINES[what] + HIDDEN).encode("latin-1"))
    assert closed
    assert only(replies).status == 400
    assert only(replies).header("content-type") == "application/json"


@pytest.mark.parametrize(
    "upgrade",
    [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13",
    ],
)
@pytest.mark.parametrize("path", [f"{MOUNT}/roles/demo", "sys/mounts", "sys/leader"])
def test_a_connection_stays_what_it_is(stack: SidecarStack, path: str, upgrade: str) -> None:
    """The wish is not heard, as by the servers: the answer is plain, and so is the next request."""
    raw = f"GET /v1/{path} HTTP/1.1\r\nHost: a\r\nX-Vault-Token: root\r\n{upgrade}\r\n\r\n{LAST}"
    replies, closed = converse(stack.address, raw.encode())
    assert closed
    assert [reply.status for reply in replies] == [200, 200]


# -- headers twice, or in another spelling --------------------------------------------------------------------------

SPELLINGS: dict[str, tuple[str, ...]] = {
    "a good token before a bad one": ("X-Vault-Token: {good}", "x-vault-token: bad"),
    "a bad token before a good one": ("X-Vault-Token: bad", "X-VAULT-TOKEN: {good}"),
    "no token before a good one": ("X-Vault-Token:", "X-Vault-Token: {good}"),
    "no token and a bearer": ("X-Vault-Token:", "Authorization: Bearer {good}"),
    "a bad token and a good bearer": ("X-Vault-Token: bad", "Authorization: Bearer {good}"),
    "underscores": ("X_Vault_Token: {good}",),
    "underscores beside a bad token": ("X_Vault_Token: {good}", "X-Vault-Token: bad"),
    "underscores behind a bad token": ("X-Vault-Token: bad", "X_Vault-Token: {good}"),
    "another scheme before the bearer": ("Authorization: Basic eA==", "Authorization: Bearer {good}"),
    "a bad bearer before a good one": ("Authorization: Bearer bad", "Authorization: Bearer {good}"),
    "a good bearer before a bad one": ("Authorization: Bearer {good}", "Authorization: Bearer bad"),
    "two schemes in one": ("Authorization: Basic eA==, Bearer {good}",),
    "a bearer in lower case": ("Authorization: bearer {good}",),
    "a bearer after a tab": ("Authorization: Bearer\t{good}",),
    "a bearer after spaces": ("Authorization: Bearer   {good}  ",),
    "a token with a byte behind it": ("X-Vault-Token: {good}\xa0",),
    "a token in the connection's list": ("X-Vault-Token: {good}", "Connection: X-Vault-Token"),
    "a token in a trailer": ("Trailer: X-Vault-Token",),
}


@pytest.mark.parametrize("what", SPELLINGS)
def test_whose_request_it_is_means_the_same_here_and_at_the_server(stack: SidecarStack, what: str) -> None:
    good = stack.reader().token
    headers = [line.format(good=good) for line in SPELLINGS[what]]
    ours = only(request(stack, f"GET {CREDS}", *headers, token=""))
    real = only(request(stack, f"GET {CREDS}", *headers, token="", to=stack.upstream.address))
    assert ours.status == real.status
    assert (b'"api_key"' in ours.body) == (real.status == 200)
    passed = only(request(stack, "GET /v1/auth/token/lookup-self", *headers, token=""))
    assert passed.status == real.status


@pytest.mark.parametrize(
    ("headers", "ttl"),
    [
        (("X-Vault-Wrap-TTL: 77", "x-vault-wrap-ttl: 99"), 77),
        (("X-Vault-Wrap-TTL:", "X-Vault-Wrap-TTL: 99"), None),
        (("X_Vault_Wrap_TTL: 99",), None),
        (("X-Vault-Wrap-TTL: 77", "Connection: X-Vault-Wrap-TTL"), 77),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_wish_to_wrap_means_the_same_here_and_at_the_server(
    stack: SidecarStack, method: str, headers: tuple[str, ...], ttl: int | None
) -> None:
    real = only(request(stack, f"GET {CREDS}", *headers, to=stack.upstream.address))
    ours = only(request(stack, f"{method} {CREDS}", *headers, "Content-Length: 0"))
    expected = b'"wrap_info":null' if ttl is None else b'"ttl":%d,' % ttl
    for reply in (real, ours):
        assert reply.status == 200
        assert expected in reply.body
    assert (b'"api_key"' in ours.body) == (ttl is None)


@pytest.mark.parametrize(
    "headers",
    [
        ("X-Vault-Namespace: {ns}", "X-Vault-Namespace:"),
        ("X-Vault-Namespace:", "X-Vault-Namespace: {ns}"),
        ("X-Vault-Namespace: {ns}", "Connection: X-Vault-Namespace"),
        ("X-Vault-Namespace: /{ns}/",),
        ("X-Vault-Namespace: {ns}//",),
        ("X-Vault-Namespace: root//",),
        ("X-Vault-Namespace: root/{ns}",),
        ("X-Vault-Namespace: ROOT",),
        ("X-Vault-Namespace: \xa0",),
        ("X_Vault_Namespace: {ns}",),
    ],
)
def test_where_a_request_belongs_means_the_same_here_and_at_the_server(
    openbao_stack: SidecarStack, headers: tuple[str, ...]
) -> None:
    stack = openbao_stack
    name = unique("ns")
    stack.upstream.request("POST", f"sys/namespaces/{name}", {})
    try:
        asked = [line.format(ns=name) for line in headers]
        real = only(request(stack, f"GET {CREDS}", *asked, to=stack.upstream.address))
        ours = only(request(stack, f"GET {CREDS}", *asked))
        assert ours.status == real.status
        assert (b'"api_key"' in ours.body) == (real.status == 200)
    finally:
        stack.upstream.request("DELETE", f"sys/namespaces/{name}")


def test_a_namespace_with_dots_is_refused_and_never_resolved(openbao_stack: SidecarStack) -> None:
    """OpenBao takes "." and "x/.." for the root: past our mount, at its shadow."""
    stack = openbao_stack
    stack.upstream.request("POST", "sys/namespaces/dotted", {})
    try:
        for namespace in (".", "./", "dotted/..", "/dotted/../", "root/../dotted", "./root", "dotted/./"):
            for line in (f"GET {CREDS}", f"PUT /v1/{MOUNT}/roles/demo", "PUT /v1/sys/leases/revoke"):
                with stack.nothing_minted():
                    got = only(request(stack, line, f"X-Vault-Namespace: {namespace}", "Content-Length: 0"))
                assert (got.status, got.body) == (400, b'{"errors":["relative paths not supported"]}\n')
    finally:
        stack.upstream.request("DELETE", "sys/namespaces/dotted")


# -- targets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "start", ["x://a", "ftp://a", "HTTP://a:80", "http://u:p@a", "http://[::1]:1", "a+b.c-d://"]
)
def test_whatever_a_target_begins_with_our_paths_are_ours(stack: SidecarStack, start: str) -> None:
    """The servers take any scheme for a full address; what they would serve at the shadow must not pass."""
    got = only(request(stack, f"GET {start}{CREDS}"))
    assert got.status == 200
    assert b'"api_key"' in got.body
    mounts = only(request(stack, f"GET {start}/v1/sys/mounts/{MOUNT}"))
    assert b'"type":"ai-keys"' in mounts.body
    dotted = only(request(stack, f"GET {start}/v1/{MOUNT}/roles/../creds/demo"))
    assert (dotted.status, dotted.header("location")) == (307, CREDS)
    read = only(request(stack, f"GET {start}/v1/sys/leader", to=stack.upstream.address))
    assert read.status == 200


@pytest.mark.parametrize(
    "start", ["1x://a", "http://a:b", "http://a%2f", "http://a#", "http://a\\", "http://[::"]
)
def test_a_target_that_is_no_address_is_the_servers_400(stack: SidecarStack, start: str) -> None:
    with stack.nothing_minted():
        ours = only(request(stack, f"GET {start}{CREDS}"))
        real = only(request(stack, f"GET {start}{CREDS}", to=stack.upstream.address))
    assert ours.status == real.status == 400


@pytest.mark.parametrize(
    "line", [f"CONNECT {CREDS}", f"CONNECT a{CREDS}", f"CONNECT x://a{CREDS}", f"TRACE {CREDS}"]
)
def test_a_verb_of_proxies_serves_nothing(stack: SidecarStack, line: str) -> None:
    with stack.nothing_minted():
        got = only(request(stack, line))
    assert got.status >= 300


QUERIES = [
    "list=true;x",
    "x;list=true",
    "list=%zz",
    "%zz&list=true",
    "list=&list=true",
    "%6cist=true",
    "list=true&list=false",
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_is_read_as_the_server_reads_it(stack: SidecarStack, query: str) -> None:
    ours = only(request(stack, f"GET /v1/{MOUNT}/roles?{query}"))
    real = only(request(stack, f"GET /v1/sys/policies/acl?{query}", to=stack.upstream.address))
    assert ours.status == real.status


def test_a_parameter_that_a_policy_forbids_is_forbidden_in_every_spelling(stack: SidecarStack) -> None:
    policy = f'path "{MOUNT}/creds/demo" {{ capabilities = ["read"] denied_parameters = {{ "ttl" = [] }} }}'
    token = stack.token(policy).token
    for query in (
        "ttl=30",
        "%74tl=30",
        "ttl=%330",
        "x=1&ttl=30",
        "ttl=30&ttl=40",
        "ttl=30;x",
        "ttl=30&%zz",
        "ttl=3%zz",
        "a;ttl=30",
        "ttl%00=30",
        "+ttl=30",
        "TTL=30",
    ):
        real = only(request(stack, f"GET {CREDS}?{query}", token=token, to=stack.upstream.address))
        ours = only(request(stack, f"GET {CREDS}?{query}", token=token))
        assert ours.status == real.status, query
        # Where the server saw no such parameter, there was none.
        assert ours.status == 403 or b'"lease_duration":60,' in ours.body, query


def test_a_request_sent_through_a_trailer_is_nobodys(stack: SidecarStack) -> None:
    raw = (
        f"PUT {CREDS} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Vault-Token\r\n\r\n"
        f"2\r\n{{}}\r\n0\r\nX-Vault-Token: {stack.root_token}\r\n\r\n"
    )
    with stack.nothing_minted():
        assert only(converse(stack.address, raw.encode())[0]).status == 403


def test_what_a_client_expects_is_told_once(stack: SidecarStack) -> None:
    """With a body behind it at once; and an expectation that nobody knows is refused."""
    body = b'{"ttl":30}'
    headers = [("X-Vault-Token", stack.root_token), ("Expect", "100-continue")]
    got = ask(stack.address, "PUT", CREDS, headers, body)
    assert (got.status, got.reason) == (100, "Continue")
    assert got.body.count(b'"api_key"') == 1
    with stack.nothing_minted():
        refused = only(request(stack, f"PUT {CREDS}", "Expect: 200-ok", "Content-Length: 0"))
    assert refused.status == 417
