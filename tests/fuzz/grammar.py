"""What is sent: requests that go through every branch of reading one, and requests that are none."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import strategies as st
from tests.sidecar_stack import MOUNT

#: The server's own paths that the sidecar intercepts, as they begin in its document.
OWNED = (
    "/sys/mounts",
    "/sys/leases",
    "/sys/wrapping",
    "/sys/internal/ui/mounts",
    "/sys/internal/specs",
    "/sys/plugins/catalog",
    "/sys/remount",
    "/sys/renew",
    "/sys/revoke",
    "/sys/capabilities",
    "/auth/token/revoke",
    "/cubbyhole",
)
#: A mount of our type that may be damaged, moved and disabled.
SPARE, MOVED = "team-keys", "moved-keys"
#: Stand-ins in a request for what is only known when it is sent.
TOKENS = ("%operator%", "%reader%", "%nobody%", "%wrapping%", "%dying%")
LEASE = "%lease%"

VERBS = ["GET", "PUT", "POST", "LIST", "DELETE", "PATCH"]
ODD_VERBS = ["HEAD", "OPTIONS", "SCAN", "RECOVER", "HELP", "TRACE", "FROB", "CONNECT", "GETT", "get"]
NAMES = ["demo", "short", "nobody", "fuzz-1", "fuzz-2", "a..b", "~aikeys-x", "secret", SPARE, MOVED, LEASE]
ODD_SEGMENTS = [
    "..",
    ".",
    "",
    "%2e%2e",
    "%2F",
    "%00",
    "%0a",
    "%7f",
    "%c3%a9",
    "%ff",
    "%",
    "%zz",
    "a%20b",
    "+",
    "*",
    "é",
    "a" * 300,
    "\\",
    "#",
    ";",
    "tune",
    "status",
    "root",
    "v1",
    "%e2%80%8b",
    "~",
    "'\"<>",
    "{name}",
    "_",
    "-a-",
]
QUERIES = [
    "list=true",
    "list=false",
    "list=True",
    "list=banana",
    "list",
    "help=1",
    "help=",
    "scan=true",
    "ttl=30",
    "ttl=-1",
    "ttl=x",
    "ttl=1h&ttl=2h",
    "type=irrevocable",
    "type=irrevocable&limit=none",
    "limit=2",
    "after=demo",
    "version=1",
    "generic_mount_paths=true",
    "read_snapshot_id=1",
    "%zz",
    "a;b",
    "=",
    "&&",
    "list=true;",
    "%6cist=%74rue",
]
HEADERS = [
    ("X-Vault-Wrap-TTL", "60"), ("X-Vault-Wrap-TTL", "1h"), ("X-Vault-Wrap-TTL", "-1"), ("X-Vault-Wrap-TTL", "zz"),
    ("X-Vault-Wrap-TTL", ""), ("X-Vault-Wrap-Format", "jwt"), ("X-Vault-Namespace", "root"), ("X-Vault-Namespace", "x"),
    ("X-Vault-Namespace", "."), ("X-Vault-Namespace", "a/../b"), ("X-Vault-Index", "zz"), ("X-Vault-Request", "true"),
    ("X-Vault-Policy-Override", "zz"), ("X-Vault-MFA", "a:b"), ("X-Vault-No-Request-Forwarding", "1"),
    ("X-Vault-Inline-Auth-Path", "auth/token/create"), ("X-Vault-Inline-Auth-Parameter-a", "e30"),
    ("X-Vault-Recover-Snapshot-Id", "1"), ("X-Forwarded-For", "10.0.0.1, x"), ("Connection", "X-Vault-Token"),
    ("Connection", "keep-alive"), ("Expect", "100-continue"), ("Expect", "x"), ("Upgrade", "websocket"),
    ("Accept-Encoding", "gzip"), ("X_Vault_Token", "root"), ("Authorization", "Bearer %operator%"),
    ("Authorization", "Basic eA=="), ("X-Vault-Token", "bad"), ("Content-Encoding", "gzip"), ("X-A", "\xff\xfe"),
    ("Transfer-Encoding", "identity"), ("Content-Length", "3"), ("Host", "a"), ("Origin", "http://evil.example"),
]  # fmt: skip
CONTENT_TYPES = [
    "application/json", "application/merge-patch+json", "application/x-www-form-urlencoded", "text/plain", "",
    "application/json; charset=utf-8", "multipart/form-data; boundary=x", "application/merge-patch+json;x",
]  # fmt: skip
ODD_VALUES: list[Any] = [
    None, True, False, 0, -1, 60, 2**31, 2**63, 2**64, -(2**63), 1.5, 1e308, 1e-400, "", "1h", "-5", "1.5h", "9" * 40, "abc",
    "true", [], {}, [1, "a", None], {"a": {"b": []}}, "\ud800", "\0", "é" * 50, "a,b,c", "x=y", "../x", LEASE,
    *TOKENS[:4], SPARE, MOVED, MOUNT, "ai-keys", "plugin", "http://127.0.0.1:1/v1", {"default_lease_ttl": "1h"}, "2.5",
]  # fmt: skip
#: What decides where a line, a header or a request ends.
PIECES = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b":", b"\0", b"\r\n\r\n", b" HTTP/1.0", b"Transfer-Encoding: chunked\r\n",
    b"Content-Length: 1\r\n", b"0\r\n\r\n", b"\x0b", b"\xff", b"/../", b"%", b"a" * 9000, b"X: " + b"y" * 40_000,
]  # fmt: skip


@dataclass(frozen=True)
class Asked:
    """`raw` holds stand-ins for tokens and a lease id in its head and body; the length is written when it is sent.

    `whole` tells that the bytes are one well-formed request, so that an answer is owed.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    whole: bool = True

    def fill(self, stand_ins: Mapping[str, str]) -> bytes:
        """The bytes to send."""
        body = self.body
        head = [f"{self.method} {self.target} HTTP/1.1"]
        head += [f"{name}: {value}" for name, value in self.headers]
        text = "\r\n".join(head)
        for name, value in stand_ins.items():
            text = text.replace(name, value)
            body = body.replace(name.encode(), value.encode())
        present = {name.lower() for name, _ in self.headers}
        if "host" not in present:
            text += "\r\nHost: vault.test"
        if not present & {"content-length", "transfer-encoding"} and (body or self.method in {"PUT", "POST"}):
            text += f"\r\nContent-Length: {len(body)}"
        return text.encode("latin-1", "replace") + b"\r\n\r\n" + body


def fields_of(document: Mapping[str, Any]) -> dict[str, list[str]]:
    """For each owned path of an OpenAPI document the names of the fields that a write takes."""
    schemas = document.get("components", {}).get("schemas", {})
    found = {}
    for path, item in document["paths"].items():
        if not path.startswith((f"/{MOUNT}/", f"/{SPARE}/", *OWNED)):
            continue
        names: list[str] = []
        for verb in ("post", "patch"):
            content = item.get(verb, {}).get("requestBody", {}).get("content", {})
            for described in content.values():
                name = described["schema"].get("$ref", "").rpartition("/")[2]
                names += schemas.get(name, {}).get("properties", {})
        found[path] = sorted(set(names))
    return found


def targets(paths: Sequence[str]) -> st.SearchStrategy[tuple[str, str]]:
    """An owned path of the document, filled; with the path it came from."""
    names = st.one_of(
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
        st.sampled_from(ODD_SEGMENTS),
        st.text(max_size=12).map(_quoted),
    )

    @st.composite
    def made(draw: st.DrawFn) -> tuple[str, str]:
        path = draw(st.sampled_from(paths))
        segments = [draw(names) if "{" in part else part for part in path.split("/")[1:]]
        target = "/v1/" + "/".join(segments)
        if draw(st.integers(0, 3)) == 0:
            target += "?" + draw(st.one_of(st.sampled_from(QUERIES), st.text(max_size=10).map(_quoted)))
        return target.replace(" ", "%20"), path

    return made()


def bodies(names: Sequence[str]) -> st.SearchStrategy[bytes]:
    """What stands in a write: the path's own fields with values they may not like, and what is no object at all."""
    scalars = st.one_of(
        st.sampled_from(ODD_VALUES),
        st.integers(),
        st.text(max_size=20),
        st.floats(),
        st.booleans(),
        st.none(),
    )
    values = st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)
        ),
        max_leaves=5,
    )
    keys = st.one_of(st.sampled_from([*names, "ttl", "lease_id", "type", "zzz"]), st.text(max_size=8))
    objects = st.dictionaries(keys, values, max_size=5).map(_json)
    return st.one_of(
        objects,
        objects,
        objects,
        st.just(b""),
        st.sampled_from(
            [b"{}", b"null", b"[]", b'""', b"{", b'{"ttl":1,"ttl":2}', b'{"a":NaN}', b"\xef\xbb\xbf{}", b" "]
        ),
        st.binary(max_size=60),
        st.dictionaries(keys, st.text(max_size=8), max_size=4).map(_form),
        st.tuples(objects, st.integers(0, 200), st.binary(max_size=4)).map(_spliced),
    )


def requests(fields: Mapping[str, Sequence[str]]) -> st.SearchStrategy[Asked]:
    """Well-formed HTTP, whatever it asks for."""
    target = targets(sorted(fields))
    written = {path: bodies(names) for path, names in fields.items()}
    nothing = st.just(b"")

    @st.composite
    def made(draw: st.DrawFn) -> Asked:
        where, path = draw(target)
        method = draw(st.sampled_from(VERBS))
        headers = [("X-Vault-Token", TOKENS[0])]
        body = draw(written[path] if method in {"PUT", "POST", "PATCH"} else nothing)
        if body:
            headers.append(("Content-Type", draw(st.sampled_from(CONTENT_TYPES))))
        return Asked(method, where, tuple(headers), body)

    return made()


def family(asked: Asked, size: int, rng: random.Random) -> list[Asked]:
    """The request, and variations of it: each differs in one or two things that decide how it is read."""
    members = [asked]
    while len(members) < size:
        varied = asked
        for _ in range(rng.choice([1, 1, 1, 2])):
            varied = rng.choice(_VARIATIONS)(varied, rng)
        named = {name.lower() for name, _ in varied.headers}
        # A length of their own, or a coding: who knows where such a request ends.
        members.append(replace(varied, whole=not named & {"content-length", "transfer-encoding"}))
    return members


def _other_verb(asked: Asked, rng: random.Random) -> Asked:
    return replace(asked, method=rng.choice([*VERBS, *ODD_VERBS]))


def _other_token(asked: Asked, rng: random.Random) -> Asked:
    kept = tuple(header for header in asked.headers if header[0] != "X-Vault-Token")
    token = rng.choice([*TOKENS, "", "hvs.a.b", "s.x", "b.AAAA", "x" * 3000])
    return replace(asked, headers=(*kept, *([("X-Vault-Token", token)] if token else [])))


def _another_header(asked: Asked, rng: random.Random) -> Asked:
    at = rng.randrange(len(asked.headers) + 1)
    return replace(asked, headers=(*asked.headers[:at], rng.choice(HEADERS), *asked.headers[at:]))


def _other_query(asked: Asked, rng: random.Random) -> Asked:
    joined = "&" if "?" in asked.target else "?"
    return replace(asked, target=asked.target + joined + rng.choice(QUERIES))


def _another_segment(asked: Asked, rng: random.Random) -> Asked:
    segments = asked.target.split("/")
    at = rng.randrange(2, len(segments) + 1)
    return replace(
        asked, target="/".join([*segments[:at], rng.choice(ODD_SEGMENTS), *segments[at:]]).replace(" ", "%20")
    )


def _other_form(asked: Asked, rng: random.Random) -> Asked:
    target = asked.target
    at = rng.randrange(len(target))
    forms = (
        target[:at] + f"%{ord(target[at]) & 255:02x}" + target[at + 1 :],
        rng.choice(["http://a", "x://b", "http://", "/", "/v1", "//", "x:"]) + target,
        target.upper(),
        target + "/",
        target[:at],
    )
    return replace(asked, target=rng.choice(forms) or "/")


def _other_body(asked: Asked, rng: random.Random) -> Asked:
    at = rng.randrange(len(asked.body) + 1)
    forms = (
        asked.body[:at],
        asked.body[:at] + rng.randbytes(3) + asked.body[at:],
        asked.body[:at] + asked.body[at + 1 :],
        asked.body * 2,
        b"",
        b'{"lease_id": "%lease%", "sync": 0}',
        b'{"a":' * 400,
    )
    return replace(asked, body=rng.choice(forms))


_VARIATIONS = (
    _other_verb,
    _other_token,
    _another_header,
    _another_header,
    _other_query,
    _another_segment,
    _other_form,
    _other_body,
)


def good_requests() -> list[Asked]:
    """What a client means: without it the rest would meet an empty house."""
    token = ("X-Vault-Token", "%operator%")
    wrap = ("X-Vault-Wrap-TTL", "60")

    def asked(method: str, path: str, body: Any = None, *headers: tuple[str, str]) -> Asked:
        return Asked(method, f"/v1/{path}", (token, *headers), b"" if body is None else _json(body))

    role = {"ttl": 60, "max_ttl": 120, "permissions": ["chat"]}
    return [
        asked("GET", f"{MOUNT}/creds/demo"),
        asked("PUT", f"{MOUNT}/creds/demo", {"ttl": "70s"}),
        asked("GET", f"{MOUNT}/creds/fuzz-1", None, wrap),
        asked("PUT", f"{MOUNT}/creds/fuzz-2", None, wrap),
        asked("POST", f"{MOUNT}/roles/fuzz-1", role),
        asked("POST", f"{MOUNT}/roles/fuzz-2", role),
        asked("DELETE", f"{MOUNT}/roles/fuzz-2"),
        asked("LIST", f"{MOUNT}/roles"),
        asked("PUT", "sys/leases/lookup", {"lease_id": LEASE}),
        asked("PUT", "sys/leases/renew", {"lease_id": LEASE, "increment": 30}),
        asked("PUT", "sys/leases/revoke", {"lease_id": LEASE}),
        asked("POST", "sys/wrapping/unwrap", {"token": "%wrapping%"}),
        asked("POST", "sys/wrapping/rewrap", {"token": "%wrapping%"}),
        asked("POST", f"sys/mounts/{SPARE}", {"type": "ai-keys"}),
        asked("POST", f"sys/mounts/{SPARE}/tune", {"default_lease_ttl": "90s"}),
        asked("POST", f"{SPARE}/roles/fuzz-1", role),
        asked("GET", f"{SPARE}/creds/fuzz-1"),
        asked("POST", "sys/remount", {"from": SPARE, "to": MOVED}),
        asked("POST", "sys/remount", {"from": MOVED, "to": SPARE}),
        asked("DELETE", f"sys/mounts/{MOVED}"),
        asked("DELETE", f"sys/mounts/{SPARE}"),
        Asked("POST", "/v1/auth/token/revoke-self", (("X-Vault-Token", "%dying%"),), b""),
    ]


Edits = tuple[tuple[int, int, bytes], ...]


def edits() -> st.SearchStrategy[Edits]:
    """What is cut out of a request's bytes and put in: (at, cut, put), `at` as a share of 1,000."""
    pieces = st.one_of(st.sampled_from(PIECES), st.binary(max_size=6))
    return st.lists(st.tuples(st.integers(0, 1000), st.integers(0, 6), pieces), min_size=1, max_size=4).map(
        tuple
    )


def mangle(raw: bytes, done: Edits) -> bytes:
    for share, cut, put in done:
        at = len(raw) * share // 1000
        raw = raw[:at] + put + raw[at + cut :]
    return raw


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _form(fields: Mapping[str, str]) -> bytes:
    return "&".join(f"{name}={value}" for name, value in fields.items()).encode(errors="replace")


def _spliced(parts: tuple[bytes, int, bytes]) -> bytes:
    text, at, put = parts
    return text[:at] + put + text[at + 1 :]


def _quoted(text: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else f"%{ord(char) & 255:02x}" for char in text)
