"""Applies a plan: policies first, then the AppRole method, then AppRoles with their entities, then deletions.

Every step can be done again: a run that stopped half way is finished by the next one, whose plan holds what is left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import hvac
import hvac.exceptions

from aikeys.policy.approles import AppRole
from aikeys.policy.diff import MANAGED, MARK, Action, Change
from aikeys.policy.folder import Folder
from aikeys.policy.live import APPROLE, LiveError, approle_accessor, asking, entity_of_alias


def apply(
    client: hvac.Client, folder: Folder, changes: Sequence[Change], done: Callable[[Change], None]
) -> None:
    """Carry out `changes`, calling `done` after each. Raises `LiveError` at the first that fails."""
    for change in changes:
        if change.action in {Action.CREATE, Action.UPDATE}:
            _write(client, folder, change)
        elif change.action is Action.DELETE:
            _delete(client, change)
        else:
            continue
        done(change)


def _write(client: hvac.Client, folder: Folder, change: Change) -> None:
    if change.kind == "auth":
        with asking("enable the AppRole method"):
            client.sys.enable_auth_method(APPROLE)
    elif change.kind == "policy":
        policy = next(policy for policy in folder.policies if policy.name == change.name)
        with asking(f"write the policy {policy.name}"):
            client.sys.create_or_update_acl_policy(policy.name, MARK + policy.text)
    else:
        _write_approle(client, next(role for role in folder.approles if role.name == change.name))


def _write_approle(client: hvac.Client, approle: AppRole) -> None:
    with asking(f"write the AppRole {approle.name}"):
        client.write_data(f"auth/{APPROLE}/role/{approle.name}", data=dict(approle.settings))
        role_id = str(client.auth.approle.read_role_id(approle.name)["data"]["role_id"])
    accessor = approle_accessor(client)
    if accessor is None:
        raise LiveError("the AppRole method was disabled meanwhile; run it again")
    metadata = {**approle.metadata, MANAGED[0]: MANAGED[1]}
    entity = entity_of_alias(client, role_id, accessor)
    if entity is not None:
        # What others wrote about the entity stays; a login made it, or an earlier run.
        merged = {**(entity.get("metadata") or {}), **metadata}
        with asking(f"write the metadata of {approle.name}'s entity"):
            client.write_data(f"identity/entity/id/{entity['id']}", data={"metadata": merged})
        return
    entity_id = _named_entity(client, entity_name(approle.name), metadata)
    with asking(f"tie {approle.name}'s logins to its entity"):
        body = {"name": role_id, "canonical_id": entity_id, "mount_accessor": accessor}
        client.write_data("identity/entity-alias", data=body)


def entity_name(approle: str) -> str:
    return f"approle-{approle}"


def _named_entity(client: hvac.Client, name: str, metadata: Mapping[str, str]) -> str:
    """The id of our entity of that name, made if there is none. Somebody else's is left alone."""
    with asking(f"read the entity {name}"):
        held: dict[str, Any] | None = client.read(f"identity/entity/name/{name}")
    if held is not None and (held["data"].get("metadata") or {}).get(MANAGED[0]) != MANAGED[1]:
        raise LiveError(f"the entity {name} exists and is not aikeys': rename it, or the AppRole")
    with asking(f"write the entity {name}"):
        client.write_data(f"identity/entity/name/{name}", data={"metadata": dict(metadata)})
        return str(client.read(f"identity/entity/name/{name}")["data"]["id"])


def _delete(client: hvac.Client, change: Change) -> None:
    if change.kind == "auth":
        with asking("disable the AppRole method"):
            client.sys.disable_auth_method(APPROLE)
        return
    if change.kind == "policy":
        with asking(f"delete the policy {change.name}"):
            client.sys.delete_acl_policy(change.name)
        return
    accessor = approle_accessor(client)
    with asking(f"delete the AppRole {change.name}"):
        try:
            role_id = str(client.auth.approle.read_role_id(change.name)["data"]["role_id"])
        except hvac.exceptions.InvalidPath:
            return
    entity = entity_of_alias(client, role_id, accessor) if accessor else None
    with asking(f"delete the AppRole {change.name}"):
        # The role before its entity: an entity without a role lets nobody in.
        client.auth.approle.delete_role(change.name)
        if entity is not None and entity["name"] == entity_name(change.name):
            client.delete(f"identity/entity/id/{entity['id']}")
