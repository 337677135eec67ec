"""`aikeys provision`: policies and AppRoles into a live Vault, plan first."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from aikeys.cli.policy import FolderOption, explained, read, show
from aikeys.policy.diff import Change
from aikeys.policy.lint import lint
from aikeys.provision.plan import make_plan


def provision(
    folder: FolderOption = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Carry the plan out; without it, it is only shown.")
    ] = False,
    prune: Annotated[
        bool, typer.Option("--prune", help="Delete what aikeys provision wrote and no file names any more.")
    ] = False,
    adopt: Annotated[
        bool,
        typer.Option("--adopt", help="Take over policies and AppRoles of these names that others wrote."),
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Delete even more than half of what is there.")
    ] = False,
) -> None:
    """Write the policies and AppRoles of a folder to VAULT_ADDR with VAULT_TOKEN. A second run changes nothing."""
    from aikeys.policy import live as server
    from aikeys.provision.apply import apply as carry_out

    with explained("provision"):
        files = read(folder)
        findings = lint(files)
        for finding in findings:
            typer.echo(str(finding), err=True)
        if findings:
            typer.echo("aikeys provision: what `aikeys policy check` finds is not written", err=True)
            sys.exit(1)
        client = server.connect()
        plan = make_plan(files, server.read_live(client, files, everything=prune), prune=prune, adopt=adopt)
        for change in plan.pending:
            show(change)
        typer.echo(f"Plan: {plan}.")
        plan.raise_if_unsafe(force=force)
        if not plan.pending:
            return
        if not apply:
            typer.echo("Nothing is written yet: run it again with --apply.")
            return
        carry_out(client, files, plan.changes, _done)


def _done(change: Change) -> None:
    typer.echo(f"done: {change.action} {change.kind} {change.name}")
