"""`aikeys dev`: everything on this machine, in one command."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from aikeys.dev.banner import show_banner, show_demonstration
from aikeys.dev.demo import demonstrate
from aikeys.dev.processes import DevError
from aikeys.dev.stack import MOUNT, ROLE, Stack
from aikeys.errors import AikeysError
from aikeys.redaction import SecretString


def _interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def dev(
    command: Annotated[
        list[str] | None,
        typer.Argument(help="After `--`: a command to run with all of it set up; its exit status is ours."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Demonstrate a key's life and end.")] = False,
    upstream: Annotated[
        str | None,
        typer.Option(help="A Vault or OpenBao that already runs; its token in VAULT_TOKEN.", metavar="URL"),
    ] = None,
    port: Annotated[int, typer.Option(help="The sidecar's port; 0 takes a free one.", min=0, max=65535)] = 0,
    data_dir: Annotated[
        Path | None, typer.Option(help="Where the sidecar's database goes; a temporary folder if not given.")
    ] = None,
) -> None:
    """Start a real OpenBao, a relay and the sidecar, set up, with a first key. For development only."""
    console = Console(stderr=bool(command))
    token = os.environ.get("VAULT_TOKEN", "") if upstream else ""
    if upstream and not token:
        raise typer.BadParameter(
            "set VAULT_TOKEN to a token that may set up mounts, policies and AppRoles there"
        )
    if token:
        SecretString(token)
    signal.signal(signal.SIGTERM, _interrupt)
    stack = Stack(
        upstream=upstream.rstrip("/") if upstream else None, token=token, port=port, data_dir=data_dir
    )
    status = 0
    try:
        with stack:
            status = _inside(console, stack, command or [], once)
    except KeyboardInterrupt:
        status = 130 if command else 0
    except AikeysError as error:
        Console(stderr=True).print(f"[bold red]aikeys dev:[/bold red] {escape(str(error))}", highlight=False)
        status = 1
    for problem in stack.problems:
        Console(stderr=True).print(f"left behind at {upstream}: {problem}", markup=False)
    sys.exit(status)


def _inside(console: Console, stack: Stack, command: list[str], once: bool) -> int:
    if command:
        return stack.run(command)
    if stack.app is None:
        raise DevError("the set-up is not complete")
    show_demonstration(console, demonstrate(stack.address, MOUNT, ROLE, stack.app))
    if once:
        return 0
    show_banner(console, stack)
    while True:
        time.sleep(3600)
