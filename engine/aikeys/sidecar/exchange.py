"""One HTTP exchange as the sidecar's handlers see it: no Flask, no sockets, so that decisions can be tested."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

# Byte for byte what Vault sends on every API answer; clients compare the content type exactly.
JSON_HEADERS = (
    ("Cache-Control", "no-store"),
    ("Content-Type", "application/json"),
    ("Strict-Transport-Security", "max-age=31536000; includeSubDomains"),
)

_NO_PAIR = re.compile(r";|%(?![0-9A-Fa-f]{2})")
# Go's strconv.ParseBool.
_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def reason(status: int) -> str:
    """The words behind a status on the status line."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Status"


def read_query(query_string: str) -> list[tuple[str, str]]:
    """Go's url.ParseQuery as its servers use it: a pair with a semicolon or a broken escape is no pair.

    Policies judge the parameters that the upstream reads; the engine must act on the same ones.
    """
    whole = "&".join(pair for pair in query_string.split("&") if not _NO_PAIR.search(pair))
    return parse_qsl(whole, keep_blank_values=True)


@dataclass(frozen=True)
class Exchange:
    """`path` is canonical and decoded, without "/v1/" ("ai-keys/creds/demo"); `raw_path` is as it arrived.

    `headers` keeps order and repetition; names compare case-insensitively. `body` is complete.
    """

    method: str
    path: str
    raw_path: str
    query_string: str
    headers: Sequence[tuple[str, str]]
    body: bytes = b""
    remote_address: str = ""
    request_id: str = ""
    environ: dict[str, Any] = field(default_factory=dict, repr=False)

    def header(self, name: str) -> str:
        """The first value of a header, "" when absent."""
        lower = name.lower()
        return next((value for key, value in self.headers if key.lower() == lower), "")

    @cached_property
    def token(self) -> str:
        """Vault: getTokenFromReq. X-Vault-Token, else the first Authorization that begins with "Bearer "."""
        if token := self.header("X-Vault-Token"):
            return token
        for key, value in self.headers:
            if key.lower() == "authorization" and value.startswith("Bearer "):
                return value.removeprefix("Bearer ").strip()
        return ""

    @cached_property
    def namespace(self) -> str:
        return self.header("X-Vault-Namespace")

    @cached_property
    def wrap_ttl(self) -> str:
        return self.header("X-Vault-Wrap-TTL")

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        return read_query(self.query_string)

    def parameter(self, name: str) -> str | None:
        return next((value for key, value in self.query if key == name), None)

    @cached_property
    def list_flag(self) -> bool | None:
        """Go ParseBool of `?list=`: None when absent; ValueError when it is no bool (Vault: 400, no text)."""
        return self.flag("list")

    def flag(self, name: str) -> bool | None:
        """Go ParseBool of a query parameter; an empty one is False."""
        value = self.parameter(name)
        if value is None or value == "":
            return None if value is None else False
        if value in _TRUE:
            return True
        if value in _FALSE:
            return False
        raise ValueError(value)


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back to the client. `headers` holds no Content-Length, the server adds it."""

    status: int
    body: bytes = b""
    headers: Sequence[tuple[str, str]] = JSON_HEADERS

    def header(self, name: str) -> str:
        lower = name.lower()
        return next((value for key, value in self.headers if key.lower() == lower), "")

    def json(self) -> Any:
        """The parsed body, None when it is empty or no JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def errors(self) -> list[str]:
        """The `errors` list of a Vault error body; empty when there is none."""
        parsed = self.json()
        found = parsed.get("errors") if isinstance(parsed, dict) else None
        return [str(error) for error in found] if isinstance(found, list) else []
