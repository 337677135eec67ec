"""The examples of ``terraform/`` against a sidecar in front of each server. Every test leaves the servers as it found them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.realparts.openbao import OpenBaoProcess
from tests.realparts.server import Server
from tests.realparts.terraform import Terraform, TerraformFailed, cli_config, find_terraform
from tests.realparts.vault import VaultProcess
from tests.sidecar_stack import MOUNT, SidecarStack, eventually

from aikeys.dev.provision import MORE_POLICY

SERVERS: dict[str, type[OpenBaoProcess | VaultProcess]] = {"openbao": OpenBaoProcess, "vault": VaultProcess}
#: What the sidecar may read besides what its shipped policy says: where the examples put the management key.
KEY_PATHS = ("secret/data/aikeys/relay", "aikeys-kv/data/aikeys/relay")
POLICY = f"sys/policies/acl/{MORE_POLICY}"

Use = Callable[..., Terraform]


@pytest.fixture(scope="session")
def terraform() -> None:
    """Skips (or fails) where there is no terraform or no provider."""
    find_terraform()
    cli_config()


@pytest.fixture(scope="session", params=SERVERS)
def stack(
    request: pytest.FixtureRequest, terraform: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SidecarStack]:
    """A sidecar in front of each product, with nothing mounted."""
    folder = tmp_path_factory.mktemp(f"terraform-{request.param}")
    settings = {"AIKEYS_TOKEN_SWEEP_INTERVAL": "2"}
    with (
        SERVERS[request.param](folder / "upstream") as upstream,
        SidecarStack(upstream, folder, settings=settings) as started,
    ):
        answer = started.request("DELETE", f"sys/mounts/{MOUNT}")
        assert answer.status_code == 204, answer.text
        policy = upstream.request("GET", POLICY)["data"]["policy"]
        grants = "".join(f'\npath "{path}" {{ capabilities = ["read"] }}\n' for path in KEY_PATHS)
        upstream.request("PUT", POLICY, {"policy": policy + grants})
        yield started


@pytest.fixture
def use(stack: SidecarStack, tmp_path: Path) -> Iterator[Use]:
    """Make a working copy of an example, initialised; what it applied is destroyed after the test."""
    made: list[Terraform] = []
    told: list[Terraform] = []

    def use_it(
        example: str,
        *,
        address: str = "",
        token: str = "",
        loud: bool = False,
        reads_keys: bool = False,
        **variables: str | int,
    ) -> Terraform:
        """`reads_keys`: its state is to hold some, and is thrown away after the test."""
        given = {**variables_of(example, stack, tmp_path), **variables}
        terraform = Terraform(
            f"examples/{example}",
            tmp_path / f"{example}-{len(made)}",
            address=address or (stack.upstream.address if example == "sidecar" else stack.address),
            token=token or stack.root_token,
            variables=given,
            loud=loud,
        )
        made.append(terraform)
        if reads_keys:
            told.append(terraform)
        terraform.init()
        return terraform

    try:
        yield use_it
    finally:
        for terraform in reversed(made):
            terraform.destroy("-refresh=false")
        for state in (file for terraform in told for file in terraform.root.glob("*.tfstate*")):
            state.unlink()
        stack.direct("DELETE", "sys/mounts/aikeys-kv")
        stack.direct("DELETE", "secret/metadata/aikeys/relay")


def variables_of(example: str, stack: SidecarStack, folder: Path) -> dict[str, str | int]:
    """What an example has to be told, and what must be there before it."""
    relay: dict[str, str | int] = {"relay_url": stack.relay.base_url}
    key: dict[str, str | int] = {"management_key": stack.relay.management_key, "management_key_version": 1}
    match example:
        case "minimal":
            return relay | key
        case "multi-team":
            entry = {"data": {"management_key": stack.relay.management_key}}
            assert stack.direct("POST", "secret/data/aikeys/relay", entry).is_success
            return relay
        case "complete":
            kv = {"type": "kv", "options": {"version": "2"}}
            assert stack.direct("POST", "sys/mounts/aikeys-kv", kv).is_success
            certificate, public_key = key_pair()
            # OpenBao has audit devices declared in its configuration only.
            audit: dict[str, str | int] = {"audit_file": str(folder / "audit.log")} if stack.is_vault else {}
            return relay | key | audit | {"ci_public_key": public_key, "kubernetes_ca_cert": certificate}
        case "sidecar":
            return {"name": "terraform-sidecar"}
    raise AssertionError(example)


def key_pair() -> tuple[str, str]:
    """A certificate and a public key in PEM form."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    public = key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    return certificate.public_bytes(pem).decode(), public.decode()


class App:
    """An app that logs in by AppRole, as the example made it, with a secret id of its own."""

    def __init__(self, stack: SidecarStack, role_id: str, role: str, *, mount: str) -> None:
        self.stack = stack
        secret_id = stack.request("PUT", f"auth/{mount}/role/{role}/secret-id").json()["data"]["secret_id"]
        login = stack.request(
            "PUT", f"auth/{mount}/login", {"role_id": role_id, "secret_id": secret_id}, token=""
        )
        assert login.status_code == 200, login.text
        self.token: str = login.json()["auth"]["client_token"]

    def read(self, path: str) -> dict[str, Any]:
        answer = self.stack.request("GET", path, token=self.token)
        assert answer.status_code == 200, answer.text
        secret: dict[str, Any] = answer.json()
        return secret

    def status(self, path: str) -> int:
        return self.stack.request("GET", path, token=self.token).status_code


__all__ = ["App", "Server", "TerraformFailed", "Use", "eventually"]
