"""Starting gunicorn: one worker process, one or two listeners, a file that says where."""
# mypy: disable-error-code="no-untyped-call"
# (gunicorn has no type hints)

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from pathlib import Path
from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.errors import HaltServer

from aikeys.relay_simulator.account import Account
from aikeys.relay_simulator.app import build_plane
from aikeys.relay_simulator.clock import Clock
from aikeys.relay_simulator.identifiers import Identifiers
from aikeys.relay_simulator.plane import Plane
from aikeys.relay_simulator.settings import SimulatorSettings
from aikeys.relay_simulator.worker import SimulatorWorker

KEEP_ALIVE_SECONDS = 75
BACKLOG = 2048


class SimulatorApplication(BaseApplication):
    """The relay simulator as gunicorn runs it."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self.settings = settings
        self.generated = settings.management_key is None
        self.management_key = settings.management_key or Identifiers(Clock(), settings.seed).management_key()
        super().__init__()

    def load_config(self) -> None:
        """Settings of gunicorn, none of them from files or the environment."""
        settings = self.settings
        ports = [settings.port] + ([] if settings.second_node_port is None else [settings.second_node_port])
        binds = [_host((settings.host, port)) for port in ports]
        options = {
            "bind": binds,
            "workers": 1,
            "worker_class": SimulatorWorker,
            "threads": settings.threads,
            "worker_connections": 8192,
            "backlog": BACKLOG,
            "reuse_port": True,  # only the worker holds the listeners: an outage can really close them
            "keepalive": KEEP_ALIVE_SECONDS,
            "timeout": 0,  # a worker that is killed for being slow would take the state with it
            "graceful_timeout": 2,
            "loglevel": "warning",
            "control_socket_disable": True,
            "pre_fork": _only_one_worker,
            "post_worker_init": self.announce,
            "proc_name": "aikeys-relay-simulator",
        }
        assert self.cfg is not None
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Plane:
        """The WSGI application, made in the worker."""
        account = Account(
            management_key=self.management_key,
            signing_secret=self.settings.signing_secret,
            seed=self.settings.seed,
            policy=self.settings.policy,
        )
        return build_plane(account, control=self.settings.control)

    def announce(self, worker: SimulatorWorker) -> None:
        """The worker is about to serve: say where."""
        addresses = [f"http://{_host(listener.getsockname())}" for listener in worker.sockets]
        plane: Plane = worker.wsgi
        facts: dict[str, Any] = {
            "address": addresses[0],
            "second_address": addresses[1] if len(addresses) > 1 else None,
            "management_key": self.management_key,
            "management_key_id": plane.account.management_key_id,
            "pid": os.getppid(),
        }
        sys.stdout.write(f"relay simulator: {' and '.join(addresses)}\n")
        if self.generated:
            sys.stdout.write(f"management key: {self.management_key}\n")
        sys.stdout.flush()
        if self.settings.port_file is not None:
            _write_atomically(self.settings.port_file, json.dumps(facts))
        if self.settings.stop_with_stdin:
            threading.Thread(target=_stop_with_stdin, daemon=True).start()


def run(settings: SimulatorSettings) -> None:
    """Serve until SIGTERM or SIGINT; ends the process."""
    for port in (settings.port, settings.second_node_port):
        if port:
            _check_free(settings.host, port)
    Arbiter(SimulatorApplication(settings)).run()


def _only_one_worker(_arbiter: Arbiter, worker: SimulatorWorker) -> None:
    if worker.age > 1:
        raise HaltServer("the worker died and the relay's state with it", 1)


def _check_free(host: str, port: int) -> None:
    """Shared ports would let two simulators answer in turns: refuse what another one has."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            sys.stderr.write(
                f"Cannot listen on {host}:{port}: {error.strerror}. Choose another --port, or 0.\n"
            )
            sys.exit(1)


def _host(name: tuple[Any, ...]) -> str:
    host, port = name[0], name[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
    temporary.replace(path)


def _stop_with_stdin() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os.kill(os.getppid(), signal.SIGTERM)
