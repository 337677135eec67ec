"""Put a new key into a Kubernetes Secret. The old key stays there until the new one is stored, and works until its ttl ends."""

import os
import sys
from pathlib import Path

import httpx
import hvac

ACCOUNT = Path(os.environ.get("ACCOUNT_DIR", "/var/run/secrets/kubernetes.io/serviceaccount"))
API = os.environ.get("KUBERNETES_API", "https://kubernetes.default.svc")


class NotStored(Exception):
    """Kubernetes was not reached, or refused."""


def main() -> None:
    vault = hvac.Client(
        url=os.environ["VAULT_ADDR"], verify=os.environ.get("VAULT_CACERT") or True, timeout=30
    )
    vault.auth.kubernetes.login(
        role=os.environ["VAULT_ROLE"],
        jwt=Path(os.environ["VAULT_JWT_FILE"]).read_text(),
        mount_point=os.environ.get("VAULT_AUTH_MOUNT", "kubernetes"),
    )
    secret = vault.read(f"ai-keys/creds/{os.environ['AIKEYS_ROLE']}")
    if not secret or not secret["data"].get("api_key"):
        sys.exit("no key was read; the Secret is as it was")
    try:
        store(secret["data"])
    except (NotStored, OSError) as error:
        # Nobody will use it.
        vault.sys.revoke_lease(secret["lease_id"])
        sys.exit(f"the new key was not stored and is revoked; the Secret is as it was: {error}")
    except httpx.HTTPError as error:
        # Revoked, it would leave the app without one if it was stored.
        sys.exit(f"whether the new key was stored is not known; it lives to the end of its ttl: {error}")
    print(f"stored {secret['data']['key_id']}, which lives {secret['lease_duration']} s")


def store(key: dict[str, str]) -> None:
    """Server-side apply: owns these two fields, leaves others and the Secret's annotations alone, and cannot create it."""
    name, namespace = os.environ["SECRET_NAME"], (ACCOUNT / "namespace").read_text().strip()
    values = {"OPENAI_API_KEY": key["api_key"], "OPENAI_BASE_URL": key["base_url"]}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
    ca = ACCOUNT / "ca.crt"
    try:
        answer = httpx.patch(
            f"{API}/api/v1/namespaces/{namespace}/secrets/{name}",
            params={"fieldManager": "aikeys-refresh", "force": "true"},
            headers={
                "Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}",
                "Content-Type": "application/apply-patch+yaml",
            },
            json=body,
            verify=str(ca) if ca.exists() else True,
            timeout=30,
            trust_env=False,
        )
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise NotStored(error) from error
    if 400 <= answer.status_code < 500:
        raise NotStored(f"the answer was {answer.status_code}")
    answer.raise_for_status()


if __name__ == "__main__":
    main()
