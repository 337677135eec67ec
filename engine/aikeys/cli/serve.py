"""`aikeys serve`: the sidecar in front of a Vault or OpenBao."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from aikeys import __version__
from aikeys.errors import AikeysError
from aikeys.settings import PREFIX, Settings, load_settings


def serve(
    config: Annotated[
        Path | None,
        typer.Option(help="A TOML file with settings; the environment (AIKEYS_...) goes before it."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Check settings, database, upstream and own identity, then end.")
    ] = False,
    list_settings: Annotated[
        bool, typer.Option("--list-settings", help="Show every setting with its default, then end.")
    ] = False,
) -> None:
    """Run the sidecar in front of a Vault or OpenBao. Settings are AIKEYS_... variables and a TOML file."""
    from aikeys.sidecar import logs

    if list_settings:
        typer.echo("\n".join(setting_lines()))
        return
    try:
        settings = load_settings(config)
        logs.configure(settings.log_level, settings.log_format)
        if check:
            sys.exit(_check(settings))
        _run(settings)
    except AikeysError as error:
        typer.echo(f"aikeys serve: {error}", err=True)
        sys.exit(1)


def setting_lines() -> list[str]:
    """Name, default and meaning of each setting, as they are written in the environment."""
    return [
        f"{PREFIX}{name.upper()}={'' if field.default in {None, ()} else field.default}\n    {field.description}"
        for name, field in Settings.model_fields.items()
    ]


def _run(settings: Settings) -> None:
    from aikeys.sidecar import memory
    from aikeys.sidecar.beforehand import prepare
    from aikeys.sidecar.server import Server

    memory.keep_private()
    secret_id = prepare(settings)
    Server(settings, secret_id, ready=lambda: typer.echo(banner(settings), err=True)).run()


def banner(settings: Settings) -> str:
    scheme = "https" if settings.tls else "http"
    lines = [
        f"==> aikeys sidecar {__version__}",
        f"       Listener: {scheme}://{settings.listen}",
        f"       Upstream: {settings.upstream_addr}",
        f"       Identity: {settings.auth_method}",
        f"       Database: {settings.database}",
        f"        Workers: {settings.workers} with {settings.threads} threads",
    ]
    if not settings.loopback and not settings.tls:
        lines.append(
            "       WARNING: listens beyond this machine without TLS: tokens and keys travel in clear"
        )
    return "\n".join(lines)


def _check(settings: Settings) -> int:
    from aikeys.sidecar.build import close_sidecar, open_sidecar
    from aikeys.sidecar.check import check_all

    sidecar = open_sidecar(settings)
    try:
        problems = 0
        for what, problem in check_all(sidecar):
            typer.echo(f"{'ok    ' if not problem else 'WRONG '} {what}{': ' + problem if problem else ''}")
            problems += bool(problem)
    finally:
        close_sidecar(sidecar)
    return 1 if problems else 0
