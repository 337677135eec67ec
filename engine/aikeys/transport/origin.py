"""Where a request goes."""

from __future__ import annotations

import httpx

_DEFAULT_PORTS = {"http": 80, "https": 443}


class Origin:
    """Scheme, host and port, with what every request needs of them computed once.

    `host` is ASCII (IDNA) and without brackets; `host_header` is as it stands in a request; `key` names the
    origin in pools.
    """

    __slots__ = ("host", "host_header", "key", "port", "scheme")

    def __init__(self, scheme: str, host: str, port: int | None = None) -> None:
        """ValueError when the scheme is neither http nor https, or the host is empty."""
        if scheme not in _DEFAULT_PORTS:
            raise ValueError(f"the scheme is {scheme!r}, it must be http or https")
        if not host:
            raise ValueError("the address has no host")
        self.scheme = scheme
        self.host = host
        self.port = port or _DEFAULT_PORTS[scheme]
        name = f"[{host}]" if ":" in host else host
        if self.port != _DEFAULT_PORTS[scheme]:
            name += f":{self.port}"
        self.host_header = name.encode("ascii")
        self.key = f"{scheme}://{name}"

    @classmethod
    def parse(cls, url: str | httpx.URL) -> Origin:
        """The origin of an absolute address; its path is ignored. ValueError when it has none."""
        try:
            parsed = httpx.URL(url)
        except httpx.InvalidURL as error:
            raise ValueError(str(error)) from error
        return cls(parsed.scheme, parsed.raw_host.decode("ascii"), parsed.port)

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    def __repr__(self) -> str:
        return f"Origin({self.key!r})"
