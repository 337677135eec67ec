"""A mount's config: reading the stored entry, and every check of it that needs no relay."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from cryptography import x509

from aikeys.engine.references import REFERENCES, Reference, ReferenceUnreadable, references, resolved
from aikeys.framework.response import InvalidRequest
from aikeys.redaction import SecretString
from aikeys.relays.address import validate_base_url
from aikeys.relays.interface import Capabilities, RelayConfig
from aikeys.relays.signing import VERSIONS

DEFAULT_RELAY = "holysheep"
DEFAULT_CONNECT_TIMEOUT = 5
DEFAULT_REQUEST_TIMEOUT = 30
# Vault ends a request after 90 seconds, so a relay may not take longer.
TIMEOUT_MAX = 90
SECRET_MAX = 4096
CA_CERT_MAX = 64 * 1024


def relay_config(entry: Mapping[str, Any]) -> RelayConfig:
    """An entry that holds its credentials, as a driver needs it."""
    signing_secret = entry.get("signing_secret", "")
    return RelayConfig(
        relay=entry.get("relay") or DEFAULT_RELAY,
        base_url=canonical_url(entry["base_url"]),
        management_key=SecretString(entry["management_key"]),
        signing_secret=SecretString(signing_secret) if signing_secret else None,
        signing_key_id=entry.get("signing_key_id", ""),
        signature_version=entry.get("signature_version") or VERSIONS[0],
        connect_timeout=float(entry.get("connect_timeout") or DEFAULT_CONNECT_TIMEOUT),
        request_timeout=float(entry.get("request_timeout") or DEFAULT_REQUEST_TIMEOUT),
        ca_cert=entry.get("ca_cert", ""),
    )


def referred_config(entry: Mapping[str, Any], read: Callable[[Reference], str]) -> RelayConfig:
    """The same of an entry that names them. Raises `ReferenceUnreadable`, for what cannot be a credential too."""
    found = resolved(entry, read)
    for name, reference in references(entry).items():
        try:
            _check_secret(f"what {reference} holds", found[name])
        except InvalidRequest as error:
            raise ReferenceUnreadable(error.message, passing=False) from None
    return relay_config(found)


def canonical_url(url: str) -> str:
    """Two spellings of one address compare equal: lower-case scheme and host, no default port, no slash at the end.

    This form is what the driver gets, so that addresses which compare equal are one.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    default = {"http": 80, "https": 443}.get(parts.scheme)
    port = "" if parts.port in (None, default) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path.rstrip('/')}"


def check_entry(
    entry: Mapping[str, Any], relays: Sequence[str], capabilities_of: Callable[[str], Capabilities]
) -> None:
    """Raise InvalidRequest for what is missing or wrong, saying what is allowed."""
    relay = entry.get("relay") or DEFAULT_RELAY
    if relay not in relays:
        raise InvalidRequest(f"unknown relay {relay!r}: allowed are {', '.join(sorted(relays))}")
    if not entry.get("base_url"):
        raise InvalidRequest(
            "base_url is missing: the address of the relay's API, such as https://relay.example/v1"
        )
    if wrong := validate_base_url(entry["base_url"]):
        raise InvalidRequest(wrong)
    try:
        canonical_url(entry["base_url"])
    except ValueError:
        raise InvalidRequest("base_url is no URL: give scheme, host, port and path only") from None
    named = references(entry)
    for name in REFERENCES:
        if entry.get(name):
            _check_secret(name, entry[name])
    if not entry.get("management_key") and "management_key" not in named:
        raise InvalidRequest("management_key is missing: give it, or with management_key_ref where it stands")
    if (entry.get("signing_secret") or "signing_secret" in named) and not capabilities_of(
        relay
    ).request_signing:
        raise InvalidRequest(f"relay {relay!r} does not sign requests: leave signing_secret out")
    if (entry.get("signature_version") or VERSIONS[0]) not in VERSIONS:
        raise InvalidRequest(f"signature_version must be one of {', '.join(VERSIONS)}")
    for name in ("connect_timeout", "request_timeout"):
        if entry.get(name, 1) > TIMEOUT_MAX:
            raise InvalidRequest(f"{name} may be at most {TIMEOUT_MAX} seconds")
    _check_ca_cert(entry.get("ca_cert", ""))


def _check_secret(name: str, value: str) -> None:
    if not value:
        raise InvalidRequest(f"{name} is empty")
    if len(value) > SECRET_MAX:
        raise InvalidRequest(f"{name} is longer than {SECRET_MAX} characters")
    # It goes into an HTTP header: a line break pasted with it would be refused far from here, or split the request.
    if not all("!" <= character <= "~" for character in value):
        raise InvalidRequest(f"{name} must consist of printable ASCII characters without spaces")


def _check_ca_cert(pem: str) -> None:
    if not pem:
        return
    if len(pem) > CA_CERT_MAX:
        raise InvalidRequest(f"ca_cert is longer than {CA_CERT_MAX} characters")
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
    except ValueError:
        certificates = []
    if not certificates:
        raise InvalidRequest("ca_cert must hold one or more certificates in PEM form")
