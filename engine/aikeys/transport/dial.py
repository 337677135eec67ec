"""Reach an origin: name look-up, TCP, TLS, all within one time budget. Nothing of the request is sent here."""

from __future__ import annotations

import errno
import ipaddress
import queue
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from typing import Any

import httpx

from aikeys.transport.failures import failure
from aikeys.transport.limits import HasEnd, Limits, wait_seconds
from aikeys.transport.origin import Origin

_UNDER_WAY = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY})


def tls_context(ca: str = "") -> ssl.SSLContext:
    """TLS 1.2 or newer; `ca` is PEM text or the path of a PEM file, "" for the system's authorities.

    ValueError when `ca` holds no certificate.
    """
    try:
        if "-----BEGIN" in ca:
            context = ssl.create_default_context(cadata=ca)
        else:
            context = ssl.create_default_context(cafile=ca or None)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ValueError("the CA certificate could not be read: it must be PEM") from error
    context.set_alpn_protocols(["http/1.1"])
    return context


def dial(
    origin: Origin, context: ssl.SSLContext | None, limits: Limits, deadline: HasEnd | None
) -> socket.socket:
    """A connected, non-blocking socket. Raises `httpx.ConnectError` or `httpx.ConnectTimeout`, nothing sent."""
    seconds = wait_seconds(limits.connect, deadline)
    budget = _Budget(origin.key, None if seconds is None else time.monotonic() + seconds)
    raw = _connect_any(_addresses(origin, budget), budget)
    return raw if context is None else _handshake(raw, origin, context, budget)


@dataclass(frozen=True, slots=True)
class _Budget:
    """The time to connect: `end` is a point of `time.monotonic()`, None is no bound."""

    name: str
    end: float | None

    def left(self) -> float | None:
        """Seconds; `httpx.ConnectTimeout` when none are left."""
        if self.end is None:
            return None
        left = self.end - time.monotonic()
        if left <= 0:
            raise self.timeout()
        return left

    def timeout(self) -> httpx.TransportError:
        return failure(httpx.ConnectTimeout, f"{self.name} could not be reached in time", sent=False)

    def error(self, reason: object) -> httpx.TransportError:
        return failure(httpx.ConnectError, f"{self.name} could not be reached: {reason}", sent=False)


_Address = tuple[socket.AddressFamily, Any]


def _addresses(origin: Origin, budget: _Budget) -> list[_Address]:
    try:
        ipaddress.ip_address(origin.host)
    except ValueError:
        return _look_up(origin, budget)
    return _resolve(origin)


def _resolve(origin: Origin) -> list[_Address]:
    found = socket.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


def _look_up(origin: Origin, budget: _Budget) -> list[_Address]:
    """`getaddrinfo` knows no timeout, so it runs in a thread that is left behind when it takes too long."""
    answers: queue.SimpleQueue[list[_Address] | OSError | UnicodeError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_resolve(origin))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    threading.Thread(target=ask, name="aikeys-name-lookup", daemon=True).start()
    try:
        answer = answers.get(timeout=budget.left())
    except queue.Empty:
        raise budget.timeout() from None
    if isinstance(answer, Exception):
        raise budget.error(f"its name does not resolve ({answer})") from answer
    return answer


def _connect_any(addresses: list[_Address], budget: _Budget) -> socket.socket:
    """The first that answers; a silent one may use up no more than its share of the time."""
    last: httpx.TransportError | None = None
    for index, (family, address) in enumerate(addresses):
        left = budget.left()
        share = None if left is None else left / (len(addresses) - index)
        try:
            return _connect(family, address, share, budget)
        except httpx.TransportError as error:
            last = error
    raise last or budget.error("its name has no address")


def _connect(
    family: socket.AddressFamily, address: Any, seconds: float | None, budget: _Budget
) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        code = sock.connect_ex(address)
        if code in _UNDER_WAY:
            if not _wait(sock, select.POLLOUT, seconds):
                raise budget.timeout()
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise budget.error(errno.errorcode.get(code, str(code)))
    except BaseException:
        sock.close()
        raise
    return sock


def _handshake(raw: socket.socket, origin: Origin, context: ssl.SSLContext, budget: _Budget) -> ssl.SSLSocket:
    sock: socket.socket = raw
    try:
        secure = context.wrap_socket(raw, server_hostname=origin.host, do_handshake_on_connect=False)
        sock = secure
        while True:
            try:
                secure.do_handshake()
                return secure
            except ssl.SSLWantReadError:
                _wait(secure, select.POLLIN, budget.left())
            except ssl.SSLWantWriteError:
                _wait(secure, select.POLLOUT, budget.left())
    except ssl.SSLCertVerificationError as error:
        sock.close()
        raise budget.error(f"its certificate is not trusted ({error.verify_message})") from error
    except (OSError, ValueError) as error:
        sock.close()
        raise budget.error(f"the TLS handshake failed ({type(error).__name__})") from error
    except BaseException:
        sock.close()
        raise


def _wait(sock: socket.socket, event: int, seconds: float | None) -> bool:
    poller = select.poll()
    poller.register(sock, event)
    return bool(poller.poll(None if seconds is None else max(1, int(seconds * 1000))))
