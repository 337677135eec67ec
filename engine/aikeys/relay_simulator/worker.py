"""The gunicorn worker: threads on kept-alive connections, and what an outage does to them."""
# mypy: disable-error-code="no-untyped-call"
# (gunicorn has no type hints)

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from typing import Any

import gunicorn.http.wsgi
from gunicorn.workers.gthread import TConn, ThreadWorker

from aikeys.relay_simulator.misbehaviour import reset_connection
from aikeys.relay_simulator.outage import Outage
from aikeys.relay_simulator.plane import CONTROL_PREFIX, Plane

# How long an outage waits for the first bytes of a connection before it resets it: long enough to see whether
# it asks for /_sim/.
PEEK_SECONDS = 0.2
# The main thread wakes at once; this only bounds the wait should it be stopping.
APPLY_SECONDS = 2.0
_CONTROL_TARGETS = tuple(f" {CONTROL_PREFIX}{end}".encode() for end in ("/", " ", "?"))


class DatedResponse(gunicorn.http.wsgi.Response):
    """A response whose ``Date`` is the relay's own clock's, not gunicorn's."""

    date: str | None = None

    def process_headers(self, headers: list[tuple[str, str]]) -> None:
        """The base drops the application's ``Date``."""
        self.date = next((value for name, value in headers if name == "Date"), None)
        super().process_headers(headers)

    def default_headers(self) -> list[str]:
        """The head, with that date."""
        headers: list[str] = super().default_headers()
        if self.date is None:
            return headers
        return [f"Date: {self.date}\r\n" if header.startswith("Date: ") else header for header in headers]


class SimulatorWorker(ThreadWorker):
    """One process that owns the state."""

    def init_process(self) -> None:
        # create() looks the class up in its module at each request; there is no setting for it.
        gunicorn.http.wsgi.Response = DatedResponse  # type: ignore[misc]
        self._refusing: set[int] = set()
        plane: Plane = self.app.wsgi()
        self.outage: Outage = plane.outage
        self.nodes = {listener.getsockname()[1]: node for node, listener in enumerate(self.sockets)}
        plane.ports = {str(port): node for port, node in self.nodes.items()}
        plane.outage.changed = self.outage_changed
        super().init_process()

    def handle(self, conn: TConn) -> Any:
        """Turn the connection away during an outage, unless it steers the simulator."""
        node = self.nodes[conn.server[1]]
        if self.outage.hits(node) and not _asks_for_control(conn):
            self.outage.dropped += 1
            reset_connection(conn.sock)
            return False
        return super().handle(conn)

    def set_accept_enabled(self, enabled: bool) -> None:
        """As the base does, but a listener that refuses stays out of the poller."""
        if enabled == self._accepting:
            return
        assert self.poller is not None
        for node, listener in enumerate(self.sockets):
            if node in self._refusing:
                continue
            if enabled:
                listener.setblocking(False)
                self.poller.register(listener, selectors.EVENT_READ, self.accept)
            else:
                self.poller.unregister(listener)
        self._accepting = enabled

    def outage_changed(self) -> None:
        """Have the main thread stop or resume listening, and wait until it has."""
        applied = threading.Event()
        self.method_queue.defer(self.apply_outage, applied)
        applied.wait(APPLY_SECONDS)

    def apply_outage(self, applied: threading.Event) -> None:
        """Stop or resume listening. Runs in the main thread, which owns the poller."""
        assert self.poller is not None
        for node, listener in enumerate(self.sockets):
            refusing = node in self._refusing
            if self.outage.refuses(node) and not refusing:
                if self._accepting:
                    self.poller.unregister(listener)
                # A socket that is bound and does not listen keeps the port, and the kernel refuses every SYN.
                listening, listener.sock = listener.sock, _bound_like(listener)
                listening.close()
                self._refusing.add(node)
                self.murder_keepalived(force=True)
            elif refusing and not self.outage.refuses(node):
                listener.listen(self.cfg.backlog)
                self._refusing.discard(node)
                if self._accepting:
                    self.poller.register(listener, selectors.EVENT_READ, self.accept)
        applied.set()

    def _cap_keepalive(self, deadline: float) -> None:
        """Stopping waits for calls that run, not for connections that idle."""
        super()._cap_keepalive(deadline)
        self.murder_keepalived(force=True)


def _bound_like(listener: Any) -> socket.socket:
    bound = socket.socket(listener.FAMILY, socket.SOCK_STREAM)
    for level, option in (
        (socket.SOL_SOCKET, socket.SO_REUSEADDR),
        (socket.SOL_SOCKET, socket.SO_REUSEPORT),
        (socket.IPPROTO_TCP, socket.TCP_NODELAY),
    ):
        bound.setsockopt(level, option, 1)
    bound.bind(listener.getsockname())
    bound.setblocking(False)
    return bound


def _asks_for_control(conn: TConn) -> bool:
    """Look at the request line without taking it."""
    with contextlib.suppress(OSError):
        conn.sock.settimeout(PEEK_SECONDS)
        start = conn.sock.recv(32, socket.MSG_PEEK)
        return any(target in start for target in _CONTROL_TARGETS)
    return False
