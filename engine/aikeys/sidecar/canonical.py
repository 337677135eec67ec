"""One reading of a request's path, decided once: what everything behind it routes on and sends on. Pure.

As the real servers do (Go's ServeMux and Vault's handlers): literal `//`, `/./` and `/../` are redirected to the
cleaned path, a byte that does not print is refused, the rest is percent-decoded once. Segments that become `.` or
`..` by decoding are refused under every upstream and never resolved: resolving them would turn a grant on
`roles/*` into one on `creds/x`.
"""

from __future__ import annotations

import html
import posixpath
import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from aikeys.sidecar import envelope
from aikeys.sidecar.exchange import Reply

API = "/v1/"
RELATIVE_PATH = "relative paths not supported"

# RFC 3986: a scheme, then a user, a host and a port. Whatever the scheme, the servers take what follows for the path.
_ABSOLUTE_FORM = re.compile(
    r"[A-Za-z][A-Za-z0-9+.-]*://"
    r"(?:[A-Za-z0-9._~!$&'()*+,;=:%-]*@)?"
    r"(?:[A-Za-z0-9._~!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])"
    r"(?::\d*)?(?=[/?]|\Z)",
    re.ASCII,
)
_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
# Go's, before any handler.
BAD_REQUEST = Reply(400, b"400 Bad Request", (("Content-Type", "text/plain; charset=utf-8"),))
_REDIRECT_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
)


@dataclass(frozen=True, slots=True)
class Target:
    """`raw` is path and query as they arrived, in origin form. `path` is canonical, decoded and without "/v1/";
    None for everything outside the API (the web UI), which is nobody's but the upstream's.
    """

    raw: str
    path: str | None
    query_string: str

    @property
    def raw_path(self) -> str:
        return self.raw.partition("?")[0]


def read_target(raw: str, method: str, max_length: int) -> Target | Reply:
    """The request target (latin-1, as received), or the answer that refuses or redirects it.

    `max_length` bounds the path in bytes: a long path costs the upstream seconds of CPU.
    """
    if not raw.startswith("/") and method != "CONNECT" and raw != "*":
        absolute = _ABSOLUTE_FORM.match(raw)
        if absolute is None:
            return BAD_REQUEST
        raw = raw[absolute.end() :]
        if not raw.startswith("/"):
            raw = "/" + raw
    raw_path, _, query_string = raw.partition("?")
    if len(raw_path) > max_length:
        return envelope.errors(
            414, [f"the path has {len(raw_path)} bytes, more than the {max_length} allowed"]
        )
    if not raw_path.startswith("/"):
        # An asterisk or, for CONNECT, a host: no path could be made of them, and the upstream knows what to say.
        return Target(raw, None, query_string)
    if _BAD_ESCAPE.search(raw_path):
        return BAD_REQUEST
    decoded = unquote_to_bytes(raw_path.encode("latin-1", "replace"))
    if not decoded.decode("utf-8", "replace").isprintable():
        return envelope.bare(400)
    cleaned = clean(raw_path)
    if cleaned != raw_path and not raw_path.startswith("//"):
        return redirect(cleaned + ("?" + query_string if query_string else ""), method)
    first = raw_path[1:].partition("/")
    if not first[1] or unquote_to_bytes(first[0]) != b"v1":
        return Target(raw, None, query_string)
    path = decoded.decode("utf-8", "surrogateescape").removeprefix(API)
    if any(segment in {".", ".."} for segment in path.split("/")):
        return envelope.errors(400, [RELATIVE_PATH])
    return Target(raw, path, query_string)


def clean(path: str) -> str:
    """Go's path.Clean with the trailing slash kept, on the path as it arrived."""
    if "//" not in path and "/." not in path:
        return path
    cleaned = posixpath.normpath(path)
    if cleaned.startswith("//"):
        cleaned = cleaned[1:]
    if path.endswith("/") and cleaned != "/":
        cleaned += "/"
    return cleaned


def redirect(location: str, method: str) -> Reply:
    """Go's http.Redirect, 307: the method and body are to be sent again."""
    if method in {"GET", "HEAD"}:
        body = f'<a href="{html.escape(location)}">Temporary Redirect</a>.\n\n'.encode("latin-1", "replace")
        headers = (
            *_REDIRECT_HEADERS[:1],
            ("Content-Type", "text/html; charset=utf-8"),
            ("Location", location),
            *_REDIRECT_HEADERS[1:],
        )
        return Reply(307, body, headers)
    return Reply(307, b"", (*_REDIRECT_HEADERS[:1], ("Location", location), *_REDIRECT_HEADERS[1:]))
