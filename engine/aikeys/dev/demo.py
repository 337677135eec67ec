"""The demonstration: an app gets a key, uses it, gives it back, and the relay refuses it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import httpx
import hvac

from aikeys.dev.processes import DevError
from aikeys.dev.provision import Credentials

# How long a revoked key may still be accepted before the demonstration calls it a failure, in seconds.
REFUSAL_BOUND = 10.0


@dataclass(frozen=True, slots=True)
class Demonstration:
    """What happened, in figures: times in milliseconds."""

    lease_id: str
    lease_duration: int
    key_id: str
    key_hint: str
    read_ms: float
    answer: str
    revoke_ms: float
    refused_status: int
    refused_text: str


def chat(base_url: str, api_key: str) -> httpx.Response:
    """One chat completion, as any OpenAI-compatible client would ask for it."""
    return httpx.post(
        f"{base_url}/chat/completions",
        headers={"Authorization": f"Bearer {api_key}"},
        json={"model": "gpt-4.1-mini", "max_tokens": 20, "messages": [{"role": "user", "content": "Hello!"}]},
        timeout=10,
    )


def demonstrate(address: str, mount: str, role: str, app: Credentials) -> Demonstration:
    """Run it with the app's own AppRole; `DevError` when any step does not do what it should."""
    client = hvac.Client(url=address)
    client.auth.approle.login(role_id=app.role_id, secret_id=app.secret_id.reveal())
    started = time.monotonic()
    secret = client.read(f"{mount}/creds/{role}")
    read_ms = (time.monotonic() - started) * 1000
    if secret is None:
        raise DevError(f"reading {mount}/creds/{role} found nothing")
    data = secret["data"]
    api_key = data["api_key"]

    used = chat(data["base_url"], api_key)
    if used.status_code != 200:
        raise DevError(f"the relay answered {used.status_code} to the first use of the key")

    started = time.monotonic()
    client.sys.revoke_lease(secret["lease_id"])
    revoked = time.monotonic()
    while (after := chat(data["base_url"], api_key)).status_code == 200:
        if time.monotonic() - revoked > REFUSAL_BOUND:
            raise DevError(
                f"the relay still accepts the key {REFUSAL_BOUND:.0f} s after its lease was revoked"
            )
        time.sleep(0.02)
    client.logout(revoke_token=True)
    return Demonstration(
        lease_id=secret["lease_id"],
        lease_duration=secret["lease_duration"],
        key_id=data["key_id"],
        key_hint=f"{api_key[:13]}…",
        read_ms=read_ms,
        answer=used.json()["choices"][0]["message"]["content"],
        revoke_ms=(revoked - started) * 1000,
        refused_status=after.status_code,
        refused_text=after.json()["error"]["message"],
    )
