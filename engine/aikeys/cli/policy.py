"""`aikeys policy`: check policies and AppRoles, and say who may do what and why."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from aikeys.errors import AikeysError
from aikeys.framework.durations import DurationError, parse_duration
from aikeys.policy.diff import Action, Change, compare
from aikeys.policy.evaluate import OPERATIONS, Acl, Decision, Request, asked_path
from aikeys.policy.folder import Folder, default_folder, read_files, read_folder
from aikeys.policy.lint import lint
from aikeys.policy.parse import Policy, Server
from aikeys.policy.templating import Entity
from aikeys.policy.who_can import who_can

T = TypeVar("T")

policy = typer.Typer(no_args_is_help=True, help="Check policies and AppRoles; say who may do what, and why.")

FolderOption = Annotated[
    Path | None, typer.Option("--policies", help="The folder of policies; those of aikeys when not given.")
]
LiveOption = Annotated[
    bool, typer.Option("--live", help="Judge what the server at VAULT_ADDR has, not the files.")
]
ServerOption = Annotated[
    Server | None,
    typer.Option("--server", help="Whose rules count when no server is asked (default: openbao)."),
]
SIGNS = {
    Action.CREATE: "+",
    Action.UPDATE: "~",
    Action.DELETE: "-",
    Action.UNCHANGED: "=",
    Action.CONFLICT: "!",
}


@contextmanager
def explained(command: str) -> Iterator[None]:
    """What is wrong in one sentence, and status 1."""
    try:
        yield
    except AikeysError as error:
        typer.echo(f"aikeys {command}: {error}", err=True)
        sys.exit(1)


def read(folder: Path | None) -> Folder:
    return read_folder(folder or default_folder())


def show(change: Change) -> None:
    typer.echo(f"{SIGNS[change.action]} {change.kind} {change.name}")
    for detail in change.details:
        typer.echo(f"    {detail}")


@policy.command()
def check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Policies, AppRoles (in a folder approles) or one folder.")
    ] = None,
    mount: Annotated[str, typer.Option(help="Where the engine is mounted.")] = "ai-keys",
    kv2: Annotated[list[str] | None, typer.Option(help="A mount of KV version 2 (again for more).")] = None,
    role: Annotated[
        list[str] | None, typer.Option(help="A role the engine has; then grants of others are found.")
    ] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Take the engine's roles and KV mounts from VAULT_ADDR.")
    ] = False,
) -> None:
    """Find what is wrong in policies: what cannot be read, has no effect, or leads to more rights. Status 1 if any."""
    with explained("policy check"):
        if files and len(files) == 1 and files[0].is_dir():
            folder = read_folder(files[0])
        else:
            folder = read_files(files) if files else read(None)
        roles, kv2 = role, kv2 or ["secret"]
        if live:
            from aikeys.policy import live as server

            client = server.connect()
            roles, kv2 = server.engine_roles(client, mount), server.kv2_mounts(client)
        findings = lint(folder, mount=mount, kv2=kv2, engine_roles=roles)
    for finding in findings:
        typer.echo(str(finding))
    if findings:
        sys.exit(1)
    typer.echo(f"{len(folder.policies)} policies and {len(folder.approles)} AppRoles: nothing found")


@policy.command("who-can")
def who_can_command(
    path: Annotated[str, typer.Argument(help="The path without /v1/, such as ai-keys/creds/demo.")],
    operation: Annotated[
        str | None, typer.Argument(help=f"One of {', '.join(OPERATIONS)}; any if not given.")
    ] = None,
    folder: FolderOption = None,
    live: LiveOption = False,
    server: ServerOption = None,
) -> None:
    """Which AppRoles, and policies that no AppRole has, may do that. Status 1 when nobody may."""
    with explained("policy who-can"):
        _known(operation)
        judged, kind = _judged(folder, live, server)
        holders = who_can(judged, path, operation, kind)
    for holder in holders:
        when = f" when {holder.condition}" if holder.condition else ""
        where = ", ".join(f"{rule.policy} ({rule.where})" for rule in holder.rules)
        typer.echo(f"{holder.kind} {holder.name}{when}: {', '.join(holder.operations)} by {where}")
    if not holders:
        typer.echo("nobody")
        sys.exit(1)


@policy.command()
def explain(
    path: Annotated[str, typer.Argument(help="The path without /v1/, such as ai-keys/creds/demo.")],
    operation: Annotated[str, typer.Argument(help=f"One of {', '.join(OPERATIONS)}.")],
    *,
    names: Annotated[
        list[str] | None, typer.Option("--policy", help="A policy held (again for more).")
    ] = None,
    approle: Annotated[
        str | None, typer.Option(help="The AppRole whose login is meant, with its entity.")
    ] = None,
    accessor: Annotated[str | None, typer.Option(help="The accessor of a live token.")] = None,
    own: Annotated[bool, typer.Option("--self", help="The token of VAULT_TOKEN itself.")] = False,
    metadata: Annotated[list[str] | None, typer.Option(help="KEY=VALUE of the holder's entity.")] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE sent; a VALUE that is JSON is sent as JSON.")
    ] = None,
    wrap_ttl: Annotated[str | None, typer.Option(help="The wrapping TTL asked for, such as 5m.")] = None,
    folder: FolderOption = None,
    live: LiveOption = False,
    server: ServerOption = None,
) -> None:
    """Say whether a request passes and which rule decided. Status 1 when it does not."""
    with explained("policy explain"):
        _known(operation)
        if sum(map(bool, (names, approle, accessor, own))) != 1:
            raise typer.BadParameter(
                "say who asks: --policy NAME..., --approle NAME, --accessor ACCESSOR or --self"
            )
        reported = None
        if accessor or own:
            acl, reported = _of_token(accessor, asked_path(operation, path))
        else:
            judged, kind = _judged(folder, live, server)
            acl = _of_names(judged, kind, names or [], approle, _pairs(metadata))
        sent = {key: _json(value) for key, value in _pairs(data).items()}
        decision = acl.decide(Request(operation, path, sent, _seconds(wrap_ttl)))
    _show_decision(decision, operation, path)
    if reported is not None:
        typer.echo(f"the server's own report: {', '.join(reported)}")
    if not decision.allowed:
        sys.exit(1)


@policy.command()
def diff(folder: FolderOption = None) -> None:
    """What the server at VAULT_ADDR has otherwise than the files say. Status 2 when something differs."""
    from aikeys.policy import live as server

    with explained("policy diff"):
        files = read(folder)
        changes = compare(files, server.read_live(server.connect(), files))
    differing = [change for change in changes if change.action is not Action.UNCHANGED]
    for change in differing:
        show(change)
    typer.echo(f"{len(differing)} differ, {len(changes) - len(differing)} are the same")
    if differing:
        sys.exit(2)


def _known(operation: str | None) -> None:
    if operation is not None and operation not in OPERATIONS:
        raise typer.BadParameter(f'"{operation}" is no operation: {", ".join(OPERATIONS)}')


def _judged(folder: Path | None, live: bool, server: Server | None) -> tuple[Folder, Server]:
    if not live:
        return read(folder), server or Server.OPENBAO
    from aikeys.policy import live as reader

    return reader.read_live_folder(reader.connect())


def _of_names(
    folder: Folder, server: Server, names: list[str], approle: str | None, metadata: dict[str, str]
) -> Acl:
    if approle:
        role = _named(folder.approles, approle, lambda one: one.name, "AppRole")
        names, metadata = list(role.policies), {**role.metadata, **metadata}
    # The servers add "default" to every login; there is a file of it only on a live server.
    held: list[Policy] = [
        _named(folder.policies, name, lambda one: one.name, "policy") for name in names if name != "default"
    ]
    held += [one for one in folder.policies if one.name == "default"]
    return Acl(held, server, entity=Entity(name=approle or "", metadata=metadata))


def _named(among: tuple[T, ...], name: str, name_of: Callable[[T], str], what: str) -> T:
    for one in among:
        if name_of(one) == name:
            return one
    raise typer.BadParameter(
        f'there is no {what} "{name}": there are {", ".join(map(name_of, among)) or "none"}'
    )


def _of_token(accessor: str | None, path: str) -> tuple[Acl, list[str]]:
    from aikeys.policy import live as reader

    client = reader.connect()
    server = reader.server_of(client)
    holder = reader.read_holder(client, accessor)
    policies = [] if holder.root else reader.read_policies(client, holder.policies, server)
    acl = Acl(policies, server, entity=holder.entity, root=holder.root)
    return acl, reader.reported_capabilities(client, accessor, path)


def _pairs(given: list[str] | None) -> dict[str, str]:
    pairs = {}
    for one in given or []:
        key, separator, value = one.partition("=")
        if not separator or not key:
            raise typer.BadParameter(f'"{one}" is not KEY=VALUE')
        pairs[key] = value
    return pairs


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _seconds(text: str | None) -> int | None:
    try:
        return None if text is None else parse_duration(text)
    except DurationError as error:
        raise typer.BadParameter(f"--wrap-ttl: {error}") from None


def _show_decision(decision: Decision, operation: str, path: str) -> None:
    typer.echo(f"{'allowed' if decision.allowed else 'denied'}: {operation} {path}: {decision.reason}")
    for rule in decision.rules:
        granted = ", ".join(sorted(rule.capabilities)) or "nothing"
        typer.echo(f'  decided by path "{rule.path}" of {rule.policy} ({rule.where}): {granted}')
        if rule.unjudged:
            typer.echo(f"    not judged here: {', '.join(rule.unjudged)}")
    for merged in decision.beaten:
        for rule in merged.rules:
            typer.echo(f'  matches too, but lost: path "{rule.path}" of {rule.policy} ({rule.where})')
