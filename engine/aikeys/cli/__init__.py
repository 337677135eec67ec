"""The command `aikeys`. A command's module is imported when it is asked for: none waits for the others' parts."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterable
from typing import Annotated

import typer

from aikeys import __version__

# Each command and where its function is.
COMMANDS = {
    "serve": ("aikeys.cli.serve", "serve"),
    "dev": ("aikeys.cli.dev", "dev"),
    "policy": ("aikeys.cli.policy", "policy"),
    "provision": ("aikeys.cli.provision", "provision"),
    "relay-simulator": ("aikeys.cli.relay_simulator", "relay_simulator"),
}


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"aikeys {__version__}")
        raise typer.Exit


def make_app(names: Iterable[str]) -> typer.Typer:
    """The application with these commands."""
    app = typer.Typer(
        name="aikeys",
        no_args_is_help=True,
        add_completion=False,
        # A traceback with local variables would show secrets.
        pretty_exceptions_show_locals=False,
    )

    @app.callback(help="Short-lived AI API keys for people who already run Vault.")
    def aikeys(
        version: Annotated[
            bool,
            typer.Option("--version", help="Show the version and end.", callback=_version, is_eager=True),
        ] = False,
    ) -> None:
        pass

    for name in names:
        module, function = COMMANDS[name]
        found = getattr(importlib.import_module(module), function)
        if isinstance(found, typer.Typer):
            app.add_typer(found, name=name)
        else:
            app.command(name)(found)
    return app


def main() -> None:
    """The entry point of `aikeys` and `python -m aikeys`."""
    asked = sys.argv[1] if len(sys.argv) > 1 else ""
    make_app([asked] if asked in COMMANDS else COMMANDS)(prog_name="aikeys")
