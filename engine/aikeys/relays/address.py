"""Where a relay's API is: which addresses are allowed. Pure."""

from __future__ import annotations

import ipaddress

import httpx


def validate_base_url(url: str) -> str | None:
    """What is wrong with this base URL, as a sentence; None when nothing is.

    https is required off this machine: over http the management key could be read on the way.
    """
    if not url or url != url.strip() or not url.isprintable() or " " in url:
        return "base_url must be an address such as https://relay.example/v1, without spaces"
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        return "base_url is no URL: give scheme, host, port and path only"
    if parsed.port is not None and not 0 < parsed.port < 65536:
        return "base_url has a port that is none: it must be from 1 to 65535"
    if parsed.scheme not in ("http", "https") or not parsed.host:
        return "base_url must begin with https:// (or http:// for this machine) and name a host"
    if parsed.userinfo:
        return "base_url must not hold a user or password: credentials go to management_key"
    if "?" in url or "#" in url:
        return "base_url must end with its path: no query and no fragment"
    if parsed.scheme == "http" and not is_loopback(parsed.host):
        return "base_url must use https: over http the management key could be read on the way"
    return None


def is_loopback(host: str) -> bool:
    """Whether the host is this machine, by name or by number."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
