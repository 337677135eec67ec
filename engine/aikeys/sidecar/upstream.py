"""The Vault or OpenBao behind the sidecar, asked in bounded time."""

from __future__ import annotations

import threading
import urllib.parse
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from aikeys.framework.clock import Clock, SystemClock
from aikeys.framework.deadline import Deadline
from aikeys.framework.response import InvalidRequest, Unavailable
from aikeys.redaction import redactor
from aikeys.sidecar import headers as header_rules
from aikeys.sidecar.canonical import RELATIVE_PATH
from aikeys.sidecar.envelope import to_json
from aikeys.sidecar.exchange import Exchange, Reply
from aikeys.transport import KeepAliveTransport, Limits, Origin, RawStream

# How long an answer about the upstream's product is believed before it is asked again, in seconds.
PRODUCT_SECONDS = 60.0
# RFC 3986 path characters; everything else of a decoded path is percent-encoded.
_PATH_SAFE = "/:@!$&'()*+,;=-._~"
# What may be sent again on a fresh connection when a kept one died before the first byte of an answer.
_REPEATABLE = frozenset({"GET", "HEAD", "LIST"})


class UpstreamDown(Unavailable):
    """The Vault behind this sidecar did not answer in time, or not by itself; nothing was minted. Try again."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Of one exchange with the upstream: seconds, and bytes of a buffered answer.

    `timeout` is for a whole exchange of ours; `idle_timeout` for each wait of a passed one, so that long streams
    live as long as something moves.
    """

    connect_timeout: float = 5.0
    timeout: float = 30.0
    idle_timeout: float = 120.0
    reply_bytes: int = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Product:
    """What the upstream is. `sends_mount_type`: envelopes end with `mount_type` (HashiCorp Vault)."""

    name: str
    namespaces: bool
    sends_mount_type: bool

    @property
    def is_vault(self) -> bool:
        return self.name == "vault"


VAULT = Product("vault", namespaces=False, sends_mount_type=True)
OPENBAO = Product("openbao", namespaces=True, sends_mount_type=False)


def product_of(health: dict[str, Any]) -> Product:
    """From `sys/health`: only HashiCorp Vault says whether it is `enterprise`, and only that edition has namespaces."""
    if "enterprise" not in health:
        return OPENBAO
    return Product("vault", namespaces=bool(health["enterprise"]), sends_mount_type=True)


def encode_path(path: str) -> str:
    """A decoded path as it goes on the wire.

    A doubled slash stays encoded: it came encoded (a literal one was redirected), and a server collapses only
    literal ones.
    """
    encoded = urllib.parse.quote(path, safe=_PATH_SAFE, errors="surrogateescape")
    while "//" in encoded:
        encoded = encoded.replace("//", "/%2F")
    return encoded


class Upstream:
    """Safe for many threads. Redirects are never followed: a standby's would lead the client past the sidecar."""

    def __init__(
        self,
        address: str,
        transport: KeepAliveTransport,
        *,
        bounds: Bounds | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`address` is "http[s]://host[:port]". ValueError when it is not."""
        self.address = address.rstrip("/")
        self.bounds = bounds or Bounds()
        self.origin = Origin.parse(self.address)
        self._transport = transport
        self._clock = clock or SystemClock()
        self._product: Product | None = None
        self._product_until = 0.0
        self._product_lock = threading.Lock()

    # -- buffered -----------------------------------------------------------------------------------------------

    def forward(
        self,
        exchange: Exchange,
        *,
        method: str | None = None,
        path: str | None = None,
        body: bytes | None = None,
        query_string: str | None = None,
        drop_headers: Iterable[str] = (),
        extra_headers: Sequence[tuple[str, str]] = (),
        repeatable: bool | None = None,
        deadline: Deadline | None = None,
    ) -> Reply:
        """The caller's request with the caller's headers and token, answered whole.

        What is not given is the caller's own. `path` is decoded and without "/v1/". `repeatable` declares that
        the server may see it twice (a read, by default not). Raises `UpstreamDown`.
        """
        headers = header_rules.forwarded(exchange.headers, (*drop_headers, "accept-encoding"))
        return self._buffered(
            method or exchange.method,
            exchange.path if path is None else path,
            exchange.query_string if query_string is None else query_string,
            [*headers, *extra_headers],
            exchange.body if body is None else body,
            repeatable=bool(repeatable),
            deadline=deadline,
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        token: str,
        body: Any = None,
        query_string: str = "",
        headers: Sequence[tuple[str, str]] = (),
        namespace: str = "",
        deadline: Deadline | None = None,
    ) -> Reply:
        """A request of the sidecar's own. `body` is JSON (None: none). Raises `UpstreamDown`."""
        sent = [("X-Vault-Request", "true"), *headers]
        if token:
            sent.append(("X-Vault-Token", token))
        if namespace:
            sent.append(("X-Vault-Namespace", namespace))
        content = b""
        if body is not None:
            content = to_json(body)
            sent.append(("Content-Type", "application/json"))
        return self._buffered(
            method, path, query_string, sent, content, repeatable=method in _REPEATABLE, deadline=deadline
        )

    def _buffered(
        self,
        method: str,
        path: str,
        query_string: str,
        headers: Sequence[tuple[str, str]],
        body: bytes,
        *,
        repeatable: bool,
        deadline: Deadline | None,
    ) -> Reply:
        bounds = self.bounds
        limits = Limits(
            connect=bounds.connect_timeout,
            read=bounds.timeout,
            write=bounds.timeout,
            max_body=bounds.reply_bytes,
            idempotent=repeatable,
        )
        target = "/v1/" + encode_path(path)
        if query_string:
            target += "?" + query_string
        try:
            answer = self._transport.send(
                self.origin,
                method.encode("latin-1"),
                target.encode("latin-1"),
                [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
                body,
                limits=limits,
                deadline=(deadline or Deadline.default()).at_most(bounds.timeout),
            )
        except (httpx.HTTPError, OSError) as error:
            raise down(error) from error
        if 300 <= answer.status < 400:
            raise UpstreamDown(redirect_text(answer.status))
        received = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in answer.headers]
        return Reply(answer.status, answer.body, tuple(header_rules.returned(received, ("content-length",))))

    # -- streamed -----------------------------------------------------------------------------------------------

    def stream(
        self,
        method: str,
        target: str,
        headers: Sequence[tuple[str, str]],
        body: bytes | Iterable[bytes],
        content_length: int | None = None,
    ) -> RawStream:
        """Pass-through: the answer's head has come, its body is still to be read; the caller closes it.

        `target` is the request target as it arrived. Raises httpx errors; `down` words them.
        """
        bounds = self.bounds
        return self._transport.stream(
            self.origin,
            method.encode("latin-1"),
            target.encode("latin-1"),
            [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
            body,
            content_length=content_length,
            limits=Limits(
                connect=bounds.connect_timeout,
                read=bounds.idle_timeout,
                write=bounds.idle_timeout,
                max_header=256 * 1024,
            ),
        )

    # -- what it is ---------------------------------------------------------------------------------------------

    def product(self) -> Product:
        """Vault or OpenBao; asked once a minute. Raises `UpstreamDown` as long as it could never be learnt."""
        known = self._product
        if known is not None and self._clock.monotonic() < self._product_until:
            return known
        with self._product_lock:
            if self._product is not None and self._clock.monotonic() < self._product_until:
                return self._product
            try:
                health = self.request("GET", "sys/health", token="").json()
            except UpstreamDown:
                if self._product is None:
                    raise
                health = None
            if isinstance(health, dict) and "initialized" in health:
                self._product = product_of(health)
            elif self._product is None:
                raise UpstreamDown(
                    "the server behind this sidecar does not answer sys/health as a Vault does"
                )
            self._product_until = self._clock.monotonic() + PRODUCT_SECONDS
            return self._product

    def namespace_of(self, header: str) -> str:
        """The namespace a header means: "" for the root, and for every one on a server that has none.

        OpenBao resolves dots, so that "x/.." is the root. Here they are refused like those of a path. Raises
        `InvalidRequest`.
        """
        segments = [segment for segment in header.split("/") if segment]
        if segments in ([], ["root"]) or not self.product().namespaces:
            return ""
        if not {".", ".."}.isdisjoint(segments):
            raise InvalidRequest(RELATIVE_PATH)
        return "/".join(segments)

    def mount_type(self, own: str) -> str | None:
        """`own` where envelopes end with `mount_type`, None where they do not."""
        return own if self.product().sends_mount_type else None

    def close(self) -> None:
        self._transport.close()


def down(error: Exception) -> UpstreamDown:
    """A failed exchange as an answer that says what to look at, without a secret."""
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        what = "cannot be reached"
    elif isinstance(error, httpx.TimeoutException):
        what = "did not answer in time"
    else:
        what = "broke off the exchange"
    detail = redactor.redact(str(error))[:200]
    return UpstreamDown(f"the Vault behind this sidecar {what} ({detail or type(error).__name__})")


def redirect_text(status: int) -> str:
    return (
        f"the Vault behind this sidecar answered with a redirect ({status}) to another address: it is a standby "
        "whose active node is out of reach, or wants another one asked; nothing was changed, try again"
    )
