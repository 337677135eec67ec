"""Which headers go on to the upstream, which come back, and who is believed about the client's address."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Headers = Sequence[tuple[str, str]]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# RFC 9110, 7.6.1: these speak of one connection, not of the message. Host and Content-Length are set anew.
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_FORWARDED = HOP_BY_HOP | {"host", "content-length", "expect"}
# The server in front of us writes its own date and length.
_NOT_RETURNED = HOP_BY_HOP | {"date"}


def _named_by_connection(headers: Iterable[tuple[str, str]]) -> frozenset[str]:
    return frozenset(
        name.strip().lower()
        for key, value in headers
        if key.lower() == "connection"
        for name in value.split(",")
    )


def forwarded(headers: Headers, drop: Iterable[str] = ()) -> list[tuple[str, str]]:
    """The request headers that go on, in their order and with their repetitions.

    Those that `Connection` names go on as well: we read them, as the real servers do, so the upstream must. Otherwise
    a client could take its token, wrapping or namespace, or our `X-Forwarded-For`, out of what is authorised.
    """
    unwanted = _NOT_FORWARDED | {name.lower() for name in drop}
    return [(key, value) for key, value in headers if key.lower() not in unwanted]


def returned(headers: Headers, drop: Iterable[str] = ()) -> list[tuple[str, str]]:
    """The response headers that come back, in their order and with their repetitions."""
    unwanted = _NOT_RETURNED | _named_by_connection(headers) | {name.lower() for name in drop}
    return [(key, value) for key, value in headers if key.lower() not in unwanted]


@dataclass(frozen=True, slots=True)
class TrustedProxies:
    """Whose `X-Forwarded-For` is believed: peers inside these networks. Nobody's when it is empty."""

    networks: tuple[Network, ...] = ()

    def trusts(self, address: str) -> bool:
        if not self.networks:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
            parsed = parsed.ipv4_mapped
        return any(parsed in network for network in self.networks)

    def client_address(self, peer: str, headers: Headers) -> str:
        """The nearest address that no trusted proxy answers for."""
        if not self.trusts(peer):
            return peer
        hops = [
            hop.strip()
            for key, value in headers
            if key.lower() == "x-forwarded-for"
            for hop in value.split(",")
            if hop.strip()
        ]
        for hop in reversed(hops):
            if not self.trusts(hop):
                return hop
        return hops[0] if hops else peer

    def with_forwarded_for(self, peer: str, headers: Headers) -> list[tuple[str, str]]:
        """`headers` with the peer appended to `X-Forwarded-For`; what an untrusted peer claims is dropped.

        Vault reads the last hop of the last header, and only where its listener is told to
        (`x_forwarded_for_authorized_addrs`).
        """
        kept: list[tuple[str, str]] = []
        claimed: list[str] = []
        for key, value in headers:
            if key.lower() == "x-forwarded-for":
                claimed.append(value)
            else:
                kept.append((key, value))
        if not peer:
            return kept
        chain = [*claimed, peer] if self.trusts(peer) else [peer]
        return [*kept, ("X-Forwarded-For", ", ".join(chain))]
