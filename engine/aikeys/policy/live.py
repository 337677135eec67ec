"""Reads policies, AppRoles and entities of a live Vault or OpenBao, through hvac."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import hvac
import hvac.exceptions
import requests

from aikeys.errors import AikeysError
from aikeys.policy.approles import DEFAULTS, AppRole
from aikeys.policy.diff import Live, LiveAppRole
from aikeys.policy.folder import Folder
from aikeys.policy.parse import Policy, Server, parse_policy
from aikeys.policy.templating import Alias, Entity, Group
from aikeys.redaction import SecretString

SECONDS = 30
APPROLE = "approle"
ROOT_POLICY = "root"


class LiveError(AikeysError):
    """The server could not be asked, or said no; the message says to what."""


@contextmanager
def asking(what: str) -> Iterator[None]:
    """Turn hvac's errors into one sentence that says what was being done."""
    try:
        yield
    except hvac.exceptions.Forbidden as error:
        raise LiveError(f"the token may not {what}: {error}") from error
    except (hvac.exceptions.VaultError, requests.RequestException) as error:
        raise LiveError(f"could not {what}: {error}") from error


def connect(environment: Mapping[str, str] | None = None) -> hvac.Client:
    """A client of what VAULT_ADDR and VAULT_TOKEN (BAO_... first) name; VAULT_CACERT and VAULT_NAMESPACE count too."""
    given = os.environ if environment is None else environment

    def setting(name: str) -> str:
        return given.get(f"BAO_{name}") or given.get(f"VAULT_{name}") or ""

    address, token = setting("ADDR"), setting("TOKEN")
    if not address or not token:
        raise LiveError(
            "set VAULT_ADDR and VAULT_TOKEN (or BAO_ADDR and BAO_TOKEN) to the server and a token of it"
        )
    return hvac.Client(
        url=address.rstrip("/"),
        token=SecretString(token).reveal(),
        namespace=setting("NAMESPACE") or None,
        verify=setting("CACERT") or True,
        timeout=SECONDS,
    )


def server_of(client: hvac.Client) -> Server:
    """Which product answers: HashiCorp Vault says in its health whether it is Enterprise, OpenBao does not."""
    with asking("ask the server which it is"):
        health = client.sys.read_health_status(method="GET")
    if not isinstance(health, dict):
        health = health.json()
    return Server.VAULT if "enterprise" in health else Server.OPENBAO


def read_policy(client: hvac.Client, name: str) -> str | None:
    """The text of one policy; None when there is none of that name."""
    with asking(f"read the policy {name}"):
        try:
            return str(client.sys.read_acl_policy(name)["data"]["policy"])
        except hvac.exceptions.InvalidPath:
            return None


def read_policies(client: hvac.Client, names: Collection[str], server: Server) -> list[Policy]:
    """The policies of these names as the server holds them; one that is not there is left out, as the server does."""
    texts = {name: read_policy(client, name) for name in names if name != ROOT_POLICY}
    return [
        parse_policy(text, name=name, file=f"live:{name}", server=server)
        for name, text in texts.items()
        if text is not None
    ]


def policy_names(client: hvac.Client) -> list[str]:
    with asking("list the policies"):
        return [str(name) for name in client.sys.list_acl_policies()["data"]["keys"] if name != ROOT_POLICY]


def approle_accessor(client: hvac.Client) -> str | None:
    """The accessor of the AppRole method at `approle/`; None when it is not enabled."""
    with asking("list the login methods"):
        methods = client.sys.list_auth_methods()["data"]
    return str(methods[f"{APPROLE}/"]["accessor"]) if f"{APPROLE}/" in methods else None


def approle_names(client: hvac.Client) -> list[str]:
    with asking("list the AppRoles"):
        try:
            return [str(name) for name in client.auth.approle.list_roles()["data"]["keys"]]
        except hvac.exceptions.InvalidPath:
            return []


def read_approle(client: hvac.Client, name: str, accessor: str) -> LiveAppRole | None:
    with asking(f"read the AppRole {name}"):
        try:
            settings = client.auth.approle.read_role(name)["data"]
            role_id = client.auth.approle.read_role_id(name)["data"]["role_id"]
        except hvac.exceptions.InvalidPath:
            return None
    entity = entity_of_alias(client, str(role_id), accessor)
    return LiveAppRole(settings, dict((entity or {}).get("metadata") or {}))


def entity_of_alias(client: hvac.Client, alias: str, accessor: str) -> dict[str, Any] | None:
    """The entity that a login with this role id gets; None when there is none yet."""
    with asking("look up an AppRole's entity"):
        answer = client.secrets.identity.lookup_entity(alias_name=alias, alias_mount_accessor=accessor)
    # Nothing found is a 204.
    return dict(answer["data"]) if isinstance(answer, dict) else None


def read_live(client: hvac.Client, folder: Folder, *, everything: bool = False) -> Live:
    """What the server has of the names in `folder`; with `everything`, of all names."""
    server = server_of(client)
    names = {policy.name for policy in folder.policies} | set(policy_names(client) if everything else ())
    texts = {name: read_policy(client, name) for name in sorted(names)}
    accessor = approle_accessor(client)
    found: dict[str, LiveAppRole] = {}
    if accessor is not None:
        approles = {approle.name for approle in folder.approles} | set(
            approle_names(client) if everything else ()
        )
        for name in sorted(approles):
            held = read_approle(client, name, accessor)
            if held is not None:
                found[name] = held
    policies = {name: text for name, text in texts.items() if text is not None}
    return Live(server, policies, found, approle_enabled=accessor is not None)


def read_live_folder(client: hvac.Client) -> tuple[Folder, Server]:
    """All policies and AppRoles of the server, as if they were files."""
    live = read_live(client, Folder((), ()), everything=True)
    policies = [
        parse_policy(text, name=name, file=f"live:{name}", server=live.server)
        for name, text in live.policies.items()
    ]
    approles = [
        AppRole(
            name,
            f"live:approle/{name}",
            1,
            {key: held.settings.get(key, default) or default for key, default in DEFAULTS.items()},
            held.metadata,
        )
        for name, held in live.approles.items()
    ]
    return Folder(tuple(policies), tuple(approles)), live.server


@dataclass(frozen=True, slots=True)
class TokenHolder:
    """What a token holds: the names of its policies, its entity's included, and who it is."""

    policies: tuple[str, ...]
    entity: Entity | None

    @property
    def root(self) -> bool:
        return ROOT_POLICY in self.policies


def read_holder(client: hvac.Client, accessor: str | None) -> TokenHolder:
    """The token with this accessor, or the client's own when it is None."""
    with asking("look up the token"):
        if accessor is None:
            data = client.auth.token.lookup_self()["data"]
        else:
            data = client.auth.token.lookup_accessor(accessor)["data"]
    names = [*data["policies"], *(data.get("identity_policies") or [])]
    entity_id = str(data.get("entity_id") or "")
    return TokenHolder(
        tuple(dict.fromkeys(map(str, names))), _entity(client, entity_id) if entity_id else None
    )


def _entity(client: hvac.Client, entity_id: str) -> Entity:
    with asking("read the token's entity"):
        data = client.secrets.identity.read_entity(entity_id)["data"]
    aliases = tuple(
        Alias(
            str(alias["mount_accessor"]),
            str(alias["id"]),
            str(alias["name"]),
            alias.get("metadata") or {},
            alias.get("custom_metadata") or {},
        )
        for alias in data.get("aliases") or []
    )
    groups = []
    for group_id in data.get("group_ids") or []:
        with asking("read a group of the token's entity"):
            group = client.secrets.identity.read_group(group_id)["data"]
        groups.append(Group(str(group["id"]), str(group["name"]), group.get("metadata") or {}))
    return Entity(entity_id, str(data["name"]), data.get("metadata") or {}, aliases, tuple(groups))


def reported_capabilities(client: hvac.Client, accessor: str | None, path: str) -> list[str]:
    """What the server itself says that the token may do on `path`."""
    body: dict[str, Any] = {"paths": [path]}
    endpoint = "sys/capabilities-self"
    if accessor is not None:
        endpoint, body = "sys/capabilities-accessor", {**body, "accessor": accessor}
    with asking("ask for the token's capabilities"):
        answer = client.write_data(endpoint, data=body)
    return [str(one) for one in answer["data"][path]]


def engine_roles(client: hvac.Client, mount: str) -> list[str]:
    """The roles of the engine at `mount`."""
    with asking(f"list {mount}/roles"):
        answer = client.list(f"{mount}/roles")
    return [str(name) for name in answer["data"]["keys"]] if answer else []


def kv2_mounts(client: hvac.Client) -> list[str]:
    with asking("list the mounts"):
        mounts = client.sys.list_mounted_secrets_engines()["data"]
    return [
        str(path).strip("/")
        for path, entry in mounts.items()
        if entry["type"] == "kv" and (entry.get("options") or {}).get("version") == "2"
    ]
