"""One HTTP call to a relay, for every driver: bounded, signed where asked, never repeated of its own accord."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import httpx

from aikeys import __version__
from aikeys.framework.deadline import Deadline
from aikeys.redaction import SecretString
from aikeys.relays import classify
from aikeys.relays.address import validate_base_url
from aikeys.relays.classify import Call
from aikeys.relays.interface import DriverError, Kind, Outcome, RelayConfig
from aikeys.relays.signing import Signer, new_nonce
from aikeys.transport import KeepAliveTransport, Limits, Origin, RawResponse, tls_context

MAX_BODY = 1024 * 1024
USER_AGENT = f"aikeys/{__version__}"

Sign = Callable[[Signer, int, bytes, str, str, bytes], Sequence[tuple[bytes, bytes]]]


class RelayClient:
    """Calls below one base URL with one management key. Safe for many threads."""

    def __init__(self, config: RelayConfig, verdicts: classify.Verdicts) -> None:
        """`DriverError` (config) when the config cannot be used."""
        if wrong := validate_base_url(config.base_url):
            raise _unusable(wrong)
        self.base_url = config.base_url.rstrip("/")
        url = httpx.URL(self.base_url)
        self._origin = Origin.parse(url)
        self._prefix = url.raw_path.decode("ascii").rstrip("/")
        self._verdicts = verdicts
        self._timeout = config.request_timeout
        # Held as long as we are: what no SecretString holds any more, the redactor no longer knows.
        self._secrets = (config.management_key, config.signing_secret)
        self._management = _bearer(config.management_key)
        try:
            tls = tls_context(config.ca_cert) if self._origin.secure else None
        except ValueError as error:
            raise _unusable(f"ca_cert: {error}") from error
        # A wait for an answer is bounded by the call's deadline alone.
        self._limits = Limits(connect=config.connect_timeout, read=None, write=None, max_body=MAX_BODY)
        self._repeatable = replace(self._limits, idempotent=True)
        self._transport = KeepAliveTransport(limits=self._limits, tls=tls)
        # For calls that must not go where the last one went: it keeps no connection.
        self._unkept = KeepAliveTransport(limits=self._limits, tls=tls, max_idle=0.0)
        self._signer = None
        if config.signing_secret:
            try:
                self._signer = Signer(config.signature_version, config.signing_secret, config.management_key)
            except ValueError as error:
                raise _unusable(str(error)) from error
        self.signing_key_id = config.signing_key_id
        self._skew = 0.0

    @property
    def signs(self) -> bool:
        return self._signer is not None

    def ask(
        self,
        call: Call,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        idempotency_key: str = "",
        bearer: SecretString | None = None,
        signed: bool = True,
    ) -> RawResponse:
        """The answer, whatever its status. `DriverError` when none came. Two exceptions from "never repeated":

        a reading or repeatable call goes out again when a kept connection turns out dead; and a signed one when the
        relay says that our clock is off, which it says before it does anything. `bearer` replaces the management key
        and is not signed; such a call goes over a connection of its own.
        """
        deadline = deadline.at_most(self._timeout)
        target = self._prefix + path
        query_string = urlencode(query) if query else ""
        headers = [_bearer(bearer) if bearer is not None else self._management, *_HEADERS]
        if body:
            headers.append(_JSON)
        if idempotency_key:
            headers.append((b"Idempotency-Key", idempotency_key.encode("ascii")))
        signer = self._signer if signed and bearer is None else None
        transport = self._transport if bearer is None else self._unkept

        def send() -> RawResponse:
            extra: Sequence[tuple[bytes, bytes]] = ()
            if signer is not None:
                extra = signer.headers(
                    method=method,
                    path=target,
                    query=query_string,
                    timestamp=int(time.time() + self._skew),
                    nonce=new_nonce(),
                    key_id=self.signing_key_id,
                    body=body,
                )
            try:
                return transport.send(
                    self._origin,
                    method.encode("ascii"),
                    (f"{target}?{query_string}" if query_string else target).encode("ascii"),
                    (*headers, *extra) if extra else headers,
                    body,
                    limits=self._limits if call is Call.MINT else self._repeatable,
                    deadline=deadline,
                )
            except httpx.TransportError as error:
                raise classify.of_exception(error, call) from error

        response = send()
        if signer is not None and response.status == 401 and self._learn_skew(response, call):
            response = send()
        return response

    def refusal(
        self, response: RawResponse, call: Call, *, message: str = "", key_id: str = ""
    ) -> DriverError:
        """What an answer means that is not the one asked for."""
        return classify.of_response(
            response, call, self._verdicts, now=datetime.now(UTC), message=message, key_id=key_id
        )

    def object_of(self, response: RawResponse, call: Call, *statuses: int) -> dict[str, Any]:
        """The JSON object of an answer with one of these statuses; `DriverError` for every other answer."""
        if response.status not in statuses:
            raise self.refusal(response, call)
        try:
            return classify.json_object(response)
        except ValueError as error:
            raise classify.protocol_error(response, call, str(error)) from None

    def close(self) -> None:
        """Calls under way finish."""
        self._transport.close()
        self._unkept.close()

    def _learn_skew(self, response: RawResponse, call: Call) -> bool:
        """Whether the relay refused our time and told its own, so that the same request may be signed again."""
        error = self.refusal(response, call)
        relay_now = classify.http_date((response.header(b"date") or b"").decode("latin-1"))
        if error.upstream_code != "timestamp_out_of_range" or relay_now is None:
            return False
        self._skew = relay_now.timestamp() - time.time()
        return True


def _bearer(secret: SecretString) -> tuple[bytes, bytes]:
    try:
        return b"Authorization", b"Bearer " + secret.reveal().encode("ascii")
    except UnicodeEncodeError:
        raise _unusable("the key holds characters that a header cannot carry") from None


def _unusable(sentence: str) -> DriverError:
    return DriverError(Kind.CONFIG, Outcome.NOT_APPLIED, classify.clean(sentence))


_HEADERS = (
    (b"Accept", b"application/json"),
    (b"Accept-Encoding", b"identity"),
    (b"User-Agent", USER_AGENT.encode()),
)
_JSON = (b"Content-Type", b"application/json")
