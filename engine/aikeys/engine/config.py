"""`config`: which relay the mount mints at, and the credential it does so with."""

from __future__ import annotations

from typing import Any

from aikeys.engine.entries import CONFIG
from aikeys.engine.references import EXAMPLE, REFERENCES, ReferenceUnreadable, references
from aikeys.engine.relay_config import (
    DEFAULT_CONNECT_TIMEOUT,
    DEFAULT_RELAY,
    DEFAULT_REQUEST_TIMEOUT,
    canonical_url,
    check_entry,
)
from aikeys.engine.relay_errors import UNREACHABLE
from aikeys.engine.services import Services
from aikeys.framework.fields import Field, FieldData, FieldError, FieldType
from aikeys.framework.patch import ResourceMissing, merge_patch
from aikeys.framework.paths import Path
from aikeys.framework.request import Operation, Request
from aikeys.framework.response import EngineError, InvalidRequest, Response
from aikeys.relays.interface import DriverError, Kind
from aikeys.relays.signing import VERSIONS

SYNOPSIS = "Configure the relay at which keys are minted."
DESCRIPTION = """
Before a role can be written, this path says which relay the mount mints at, where that relay's API is, and with
which management key. The management key and the signing secret are never returned.

Instead of the management key itself, "management_key_ref" may name where it stands in a KV engine, version 1 or 2:
the path as the API knows it (at version 2 with "data/" after the mount), "#" and the field. It is read when it is
needed and again when the relay rejects it, and never stored here: so it can be rotated by writing the KV entry alone,
and it stays out of the state of whoever provisions this path. "signing_secret_ref" is the same for the signing
secret. Whoever writes a reference must be allowed to read what it names.

A write changes the fields it gives and keeps the others. Changing "base_url" requires "management_key" or
"management_key_ref" again, so that a token which may only write this path cannot have the key sent to an address of
its choice.

Unless "verify_connection" is false, the relay is asked whether it accepts the management key, and nothing is stored
when it does not. The config cannot be deleted while a key that it must revoke still lives.
"""

_RELAY = Field(FieldType.STRING, "Which kind of relay this is.", default=DEFAULT_RELAY)
_BASE_URL = Field(
    FieldType.STRING,
    "Address of the relay's API, such as https://relay.example/v1. It must be https, but for this machine itself.",
    required=True,
)
_MANAGEMENT_KEY_REF = Field(
    FieldType.STRING, f"Where the management key stands, instead of it: {EXAMPLE}, for example."
)
_SIGNING_SECRET_REF = Field(FieldType.STRING, "Where the signing secret stands, instead of it.")
_SIGNING_KEY_ID = Field(
    FieldType.STRING,
    "Id of the management key, which a signature names. The relay is asked for it where absent.",
)
_SIGNATURE_VERSION = Field(
    FieldType.STRING,
    "How requests are signed: v2, or v1 for a relay that knows no better.",
    allowed_values=VERSIONS,
)
_CONNECT_TIMEOUT = Field(
    FieldType.DURATION, "How long to wait for a connection to the relay.", default=DEFAULT_CONNECT_TIMEOUT
)
_REQUEST_TIMEOUT = Field(
    FieldType.DURATION, "How long to wait for an answer of the relay.", default=DEFAULT_REQUEST_TIMEOUT
)
_CA_CERT = Field(
    FieldType.STRING,
    "Certificates in PEM form that the relay's certificate is checked against, instead of the system's.",
)
FIELDS = {
    "relay": _RELAY,
    "base_url": _BASE_URL,
    "management_key": Field(
        FieldType.STRING,
        "The relay's key for managing keys. Never returned. Either this or management_key_ref is required.",
        secret=True,
    ),
    "management_key_ref": _MANAGEMENT_KEY_REF,
    "signing_secret": Field(
        FieldType.STRING, "Secret with which requests are signed, where the relay asks for it.", secret=True
    ),
    "signing_secret_ref": _SIGNING_SECRET_REF,
    "signing_key_id": _SIGNING_KEY_ID,
    "signature_version": _SIGNATURE_VERSION,
    "connect_timeout": _CONNECT_TIMEOUT,
    "request_timeout": _REQUEST_TIMEOUT,
    "ca_cert": _CA_CERT,
    "verify_connection": Field(
        FieldType.BOOL, "Ask the relay whether it accepts the management key before storing it.", default=True
    ),
}
RETURNS = {
    "relay": _RELAY,
    "base_url": _BASE_URL,
    "management_key_ref": _MANAGEMENT_KEY_REF,
    "signing_secret_ref": _SIGNING_SECRET_REF,
    "signing_key_id": _SIGNING_KEY_ID,
    "signature_version": _SIGNATURE_VERSION,
    "connect_timeout": _CONNECT_TIMEOUT,
    "request_timeout": _REQUEST_TIMEOUT,
    "ca_cert": _CA_CERT,
}


def config_path(services: Services) -> Path:
    paths = _Config(services)
    return Path(
        pattern="config",
        fields=FIELDS,
        operations={
            Operation.READ: paths.read,
            Operation.CREATE: paths.write,
            Operation.UPDATE: paths.write,
            Operation.PATCH: paths.patch,
            Operation.DELETE: paths.delete,
        },
        exists=paths.exists,
        noun="config",
        synopsis=SYNOPSIS,
        description=DESCRIPTION,
        returns=RETURNS,
    )


class _Config:
    def __init__(self, services: Services) -> None:
        self._services = services

    def exists(self, request: Request, _data: FieldData) -> bool:
        return self._stored(request) is not None

    def read(self, request: Request, _data: FieldData) -> Response | None:
        """What applies, defaults included, without secrets; absent what has neither value nor default."""
        entry = self._stored(request)
        if entry is None:
            return None
        shown = {name: entry.get(name, item.default) for name, item in RETURNS.items()}
        return Response(data={name: value for name, value in shown.items() if value not in (None, "")})

    def write(self, request: Request, data: FieldData) -> Response | None:
        old = self._stored(request) or {}
        return self._store(request, old, {**_unreplaced(old, data), **_kept(data.given())}, data)

    def patch(self, request: Request, data: FieldData) -> Response | None:
        old = self._stored(request)
        if old is None:
            raise ResourceMissing
        try:
            merged = FieldData.of(FIELDS, merge_patch(_unreplaced(old, data), data.raw))
        except FieldError as error:
            raise InvalidRequest(f"Field validation failed: {error}") from None
        return self._store(request, old, _kept(merged.given()), data)

    def delete(self, request: Request, _data: FieldData) -> Response | None:
        leases = self._services.live_leases(request.mount.uuid, "")
        intents = self._services.open_intents(request.mount.uuid)
        if leases or intents:
            raise InvalidRequest(
                f"config is still needed to revoke keys: {leases} live leases and {intents} unfinished mints depend "
                f"on it; revoke the leases first (sys/leases/revoke-prefix/{request.mount.path}creds)"
            )
        self._services.entries(request.mount.uuid).delete(CONFIG)
        return None

    def _stored(self, request: Request) -> dict[str, Any] | None:
        return self._services.entries(request.mount.uuid).get(CONFIG)

    def _store(
        self, request: Request, old: dict[str, Any], new: dict[str, Any], data: FieldData
    ) -> Response | None:
        drivers = self._services.drivers
        check_entry(new, drivers.relay_names(), drivers.capabilities_of)
        moved = bool(old) and canonical_url(old["base_url"]) != canonical_url(new["base_url"])
        if moved and not (data["management_key"] or data["management_key_ref"]):
            raise InvalidRequest(
                "base_url changes: give management_key or management_key_ref again, since the one that is configured "
                "is not sent to another address"
            )
        self._check_right(request, new, data)
        if data["verify_connection"]:
            self._check_relay(request, new)
        self._services.entries(request.mount.uuid).put(CONFIG, new)
        if moved or (old and (old.get("relay") or DEFAULT_RELAY) != (new.get("relay") or DEFAULT_RELAY)):
            return self._moved_warning(request, old)
        return None

    @staticmethod
    def _check_right(request: Request, entry: dict[str, Any], data: FieldData) -> None:
        """The value goes to an address of the caller's choice: only to one who could have read it anyway."""
        for field, reference in references(entry).items():
            if data[REFERENCES[field]] and not request.can_read(reference.path):
                raise NotReadable(REFERENCES[field], reference.path)

    def _check_relay(self, request: Request, entry: dict[str, Any]) -> None:
        base_url = canonical_url(entry["base_url"])
        patience = float(entry.get("request_timeout") or DEFAULT_REQUEST_TIMEOUT)
        try:
            driver = self._services.connections.make_driver(request.mount.uuid, entry)
        except DriverError as error:
            raise InvalidRequest(f"nothing was stored: {error.safe_message}") from error
        try:
            driver.check(request.deadline.at_most(patience))
        except DriverError as error:
            why = error.safe_message if _unread(error) else _why(base_url, error)
            raise InvalidRequest(f"nothing was stored: {why}") from error
        finally:
            driver.close()

    def _moved_warning(self, request: Request, old: dict[str, Any]) -> Response | None:
        leases = self._services.live_leases(request.mount.uuid, "")
        if not leases:
            return None
        warning = (
            f"{leases} live leases hold keys minted at {canonical_url(old['base_url'])}: unless the relay that config "
            "now names knows them, their revocation waits until it names that one again"
        )
        return Response(warnings=[warning])


class NotReadable(EngineError):
    """The caller names what it may not read itself."""

    status = 403

    def __init__(self, name: str, path: str) -> None:
        super().__init__(
            f"{name} may only be written by who may read {path}: whoever writes it says to which relay the value goes"
        )


def _unread(error: DriverError) -> bool:
    """Whether it was not the relay that failed but the reading of a reference."""
    return isinstance(error.__cause__, ReferenceUnreadable)


def _unreplaced(old: dict[str, Any], data: FieldData) -> dict[str, Any]:
    """What was stored, without a credential whose other form is now given. InvalidRequest when both are."""
    replaced = set()
    for field, name in REFERENCES.items():
        if data[field] and data[name]:
            raise InvalidRequest(f"give either {field} or {name}, not both")
        replaced |= {name} if data[field] else {field} if data[name] else set()
    return {name: value for name, value in old.items() if name not in replaced}


def _why(base_url: str, error: DriverError) -> str:
    """What stands in the way of a config, and what to do about it."""
    said = error.safe_message
    if error.kind in (Kind.AUTH, Kind.FORBIDDEN):
        return f"the relay at {base_url} does not accept the management key: {said}"
    if error.kind in UNREACHABLE or error.kind is Kind.RATE_LIMITED:
        return (
            f"the relay at {base_url} could not be asked whether it accepts the management key: {said}; to store it "
            "unchecked, write verify_connection=false"
        )
    return f"what answers at {base_url} is not the key API of the relay: {said}; look at base_url and relay"


def _kept(given: dict[str, Any]) -> dict[str, Any]:
    """What is stored of the fields given: all but the question whether to ask the relay about this write."""
    return {name: value for name, value in given.items() if name != "verify_connection"}
