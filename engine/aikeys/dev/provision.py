"""What `aikeys dev` writes into Vault, and takes out again when the Vault is not its own.

Two steps with two doors: the sidecar's identity goes straight to the upstream, before there is a sidecar;
mount, roles, policy and AppRole go through the sidecar, as a user's would.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hvac
import hvac.exceptions

from aikeys.dev.processes import DevError
from aikeys.redaction import SecretString

APPROLE = "approle"
SIDECAR_ROLE = "aikeys-sidecar"
# TTLs of the two roles in seconds: one to work with, one to watch a lease end.
ROLES = {"demo": (60, 180), "short": (8, 20)}
ALLOWED_MODELS = ["gpt-4.1", "gpt-4.1-mini", "deepseek-v3.2"]

_APP_POLICY = """\
# What one app needs: read its own key, under a lease it may end early.
path "{mount}/creds/{role}" {{
  capabilities = ["read", "create", "update"]
}}

path "sys/leases/revoke" {{
  capabilities = ["update"]
}}
"""


# `policies/sidecar.hcl` names one mount; in development others may be tried, by a name that begins so.
MORE_MOUNTS = """
path "ai-keys-*" {
  capabilities = ["create", "read", "update", "delete", "list"]
}

path "sys/mounts/ai-keys-*" {
  capabilities = ["read"]
}
"""


@dataclass(frozen=True, slots=True)
class AppRole:
    role_id: str
    secret_id: SecretString


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn hvac's errors, and requests' below them, into one that says what was being set up."""
    try:
        yield
    except (hvac.exceptions.VaultError, OSError) as error:
        raise DevError(f"could not {what}: {error}") from error


class Provisioner:
    """Remembers how to undo what it did, last first."""

    def __init__(self, mount: str) -> None:
        self.mount = mount
        self._undo: list[Callable[[], object]] = []

    def sidecar_identity(self, upstream: hvac.Client, policy: str) -> AppRole:
        """The sidecar's own least-privilege AppRole, made with the operator's token."""
        with explained("give the sidecar an identity of its own"):
            if f"{APPROLE}/" not in upstream.sys.list_auth_methods()["data"]:
                upstream.sys.enable_auth_method(APPROLE)
                self._undo.append(lambda: upstream.sys.disable_auth_method(APPROLE))
            return self._approle(upstream, SIDECAR_ROLE, policy, token_ttl="1h", token_max_ttl="24h")

    def engine(self, sidecar: hvac.Client, *, relay_url: str, management_key: str) -> None:
        """The mount, its relay and the demo roles."""
        with explained(f"mount the engine at {self.mount}/"):
            sidecar.sys.enable_secrets_engine("ai-keys", path=self.mount, description="AI keys by aikeys dev")
            self._undo.append(lambda: sidecar.sys.disable_secrets_engine(self.mount))
        with explained(f"write {self.mount}/config"):
            sidecar.write_data(
                f"{self.mount}/config",
                data={"relay": "holysheep", "base_url": relay_url, "management_key": management_key},
            )
        for role, (ttl, max_ttl) in ROLES.items():
            with explained(f"write {self.mount}/roles/{role}"):
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

    def app(self, sidecar: hvac.Client, role: str) -> AppRole:
        """The AppRole an app logs in with, allowed to read one role's keys."""
        with explained(f"make the AppRole {role}"):
            policy = _APP_POLICY.format(mount=self.mount, role=role)
            return self._approle(sidecar, role, policy, token_ttl="20m", token_max_ttl="1h")

    def _approle(
        self, client: hvac.Client, name: str, policy: str, *, token_ttl: str, token_max_ttl: str
    ) -> AppRole:
        policy_name = name if name.startswith("aikeys-") else f"aikeys-{name}"
        client.sys.create_or_update_policy(policy_name, policy)
        self._undo.append(lambda: client.sys.delete_policy(policy_name))
        methods = client.auth.approle
        methods.create_or_update_approle(
            name, token_policies=[policy_name], token_ttl=token_ttl, token_max_ttl=token_max_ttl
        )
        self._undo.append(lambda: methods.delete_role(name))
        return AppRole(
            role_id=methods.read_role_id(name)["data"]["role_id"],
            secret_id=SecretString(methods.generate_secret_id(name)["data"]["secret_id"]),
        )

    def undo(self) -> list[str]:
        """Take out all that was put in; what could not be is returned as sentences."""
        problems = []
        while self._undo:
            step = self._undo.pop()
            try:
                step()
            except (hvac.exceptions.VaultError, OSError) as error:
                problems.append(str(error))
        return problems


def read_policy() -> str:
    """`policies/sidecar.hcl`: from the installed package, else from the checkout this runs in."""
    package = Path(__file__).resolve().parents[1]
    for place in (package / "policies", package.parents[1] / "policies"):
        file = place / "sidecar.hcl"
        if file.is_file():
            return file.read_text()
    raise DevError("policies/sidecar.hcl is missing from this installation")
