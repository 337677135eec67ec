"""What `aikeys dev` writes into Vault, and takes out again when the Vault is not its own.

Two steps with two doors: policies and AppRoles go straight to the upstream by `aikeys.provision`, before there is a
sidecar; mount, config and roles go through the sidecar, as a user's would. What is there already is never changed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import hvac

from aikeys.dev.processes import DevError
from aikeys.errors import AikeysError
from aikeys.policy.diff import Action, Change
from aikeys.policy.folder import Folder, read_folder, shipped_policy
from aikeys.policy.live import approle_names, asking, read_live
from aikeys.policy.parse import parse_policy
from aikeys.provision.apply import apply
from aikeys.provision.plan import make_plan
from aikeys.redaction import SecretString

SIDECAR = "aikeys-dev"
# Its policies: the shipped one under a name that no other sidecar's has, and what development needs besides.
SIDECAR_POLICY, MORE_POLICY = "aikeys-dev-sidecar", "aikeys-dev-more"
# TTLs of the two roles in seconds: one to work with, one to watch a lease end.
ROLES = {"demo": (60, 180), "short": (8, 20)}
ALLOWED_MODELS = ["gpt-4.1", "gpt-4.1-mini", "deepseek-v3.2"]

Step = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Credentials:
    """What somebody logs in with at the AppRole method."""

    role_id: str
    secret_id: SecretString


def dev_folder() -> Folder:
    """The policies and AppRoles of the sidecar and the demo app: files beside this, and the sidecar's shipped policy."""
    files = read_folder(Path(__file__).parent / "policies")
    shipped = shipped_policy("sidecar")
    sidecar = parse_policy(shipped.text, name=SIDECAR_POLICY, file=shipped.file)
    return replace(files, policies=(*files.policies, sidecar))


class Provisioner:
    """Remembers how to undo what it did: the engine through the sidecar, the logins when that has logged out."""

    def __init__(self, mount: str) -> None:
        self.mount = mount
        self._engine: list[Step] = []
        self._logins: list[Step] = []

    def logins(self, upstream: hvac.Client, folder: Folder) -> None:
        """Write policies and AppRoles with the operator's token. Raises `DevError` when one of these names is taken."""
        pending = make_plan(folder, read_live(upstream, folder)).pending
        taken = [f"{change.kind} {change.name}" for change in pending if change.action is not Action.CREATE]
        if taken:
            raise DevError(
                f"this Vault has other things of these names: {', '.join(taken)}. aikeys dev changes nothing "
                "that is there already: take them away, or use another Vault"
            )
        for change in pending:
            # Before it is done: it may fail half way.
            self._logins.append(partial(_take_out, upstream, folder, change))
            apply(upstream, folder, [change], lambda _: None)

    def credentials(self, client: hvac.Client, approle: str) -> Credentials:
        """A new secret id of one of the AppRoles."""
        with asking(f"make a secret id of the AppRole {approle}"):
            methods = client.auth.approle
            return Credentials(
                role_id=methods.read_role_id(approle)["data"]["role_id"],
                secret_id=SecretString(methods.generate_secret_id(approle)["data"]["secret_id"]),
            )

    def engine(self, sidecar: hvac.Client, *, relay_url: str, management_key: str) -> None:
        """The mount, its relay and the demo roles."""
        with asking(f"mount the engine at {self.mount}/"):
            sidecar.sys.enable_secrets_engine("ai-keys", path=self.mount, description="AI keys by aikeys dev")
            self._engine.append(partial(_unmount, sidecar, self.mount))
        with asking(f"write {self.mount}/config"):
            sidecar.write_data(
                f"{self.mount}/config",
                data={"relay": "holysheep", "base_url": relay_url, "management_key": management_key},
            )
        for role, (ttl, max_ttl) in ROLES.items():
            with asking(f"write {self.mount}/roles/{role}"):
                sidecar.write_data(
                    f"{self.mount}/roles/{role}",
                    data={
                        "ttl": ttl,
                        "max_ttl": max_ttl,
                        "permissions": ["chat", "embeddings"],
                        "allowed_models": ALLOWED_MODELS,
                        "rate_limit": 60,
                        "budget": "5.00",
                    },
                )

    def undo_engine(self) -> list[str]:
        """Unmount it, which revokes its keys; what could not be done is returned as sentences."""
        return _undo(self._engine)

    def undo_logins(self) -> list[str]:
        """Take out policies and AppRoles; what could not be done is returned as sentences."""
        return _undo(self._logins)


def _undo(steps: list[Step]) -> list[str]:
    problems = []
    while steps:
        step = steps.pop()
        try:
            step()
        except AikeysError as error:
            problems.append(str(error))
    return problems


def _unmount(sidecar: hvac.Client, mount: str) -> None:
    with asking(f"unmount the engine at {mount}/"):
        sidecar.sys.disable_secrets_engine(mount)


def _take_out(upstream: hvac.Client, folder: Folder, change: Change) -> None:
    if change.kind == "auth" and approle_names(upstream):
        raise DevError("the AppRole method stays enabled: somebody has made AppRoles there meanwhile")
    apply(upstream, folder, [replace(change, action=Action.DELETE)], lambda _: None)
