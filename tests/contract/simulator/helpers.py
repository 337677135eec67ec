"""A client of the simulator's two planes, as plain as the HTTP it speaks."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import urlsplit

import httpx

from aikeys.relay_simulator.control import SimulatorControl
from aikeys.relay_simulator.process import RelaySimulatorProcess

MESSAGES = [{"role": "user", "content": "hi"}]


def bearer(key: str) -> dict[str, str]:
    """The header that presents `key`."""
    return {"Authorization": f"Bearer {key}"}


class Relay:
    """One simulator process, its control plane, and shorthands for what most tests do."""

    def __init__(self, process: RelaySimulatorProcess) -> None:
        self.process = process
        self.control = SimulatorControl(process.address)
        self.http = httpx.Client(base_url=process.base_url, timeout=20, trust_env=False)
        self.second_http = httpx.Client(base_url=process.second_base_url or "", timeout=20, trust_env=False)
        self._names = itertools.count(1)

    def close(self) -> None:
        """Close all connections."""
        for client in (self.control, self.http, self.second_http):
            client.close()

    @property
    def socket_address(self) -> tuple[str, int]:
        """Where the first node listens."""
        parts = urlsplit(self.process.address)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def manage(self, method: str, path: str, *, key: str | None = None, **request: Any) -> httpx.Response:
        """A call of the management plane, with the first management key unless `key` is another."""
        headers = bearer(key or self.process.management_key) | request.pop("headers", {})
        return self.http.request(method, path, headers=headers, **request)

    def create(self, *, idempotency_key: str | None = None, **fields: Any) -> dict[str, Any]:
        """A new key with a fresh name."""
        headers = {} if idempotency_key is None else {"Idempotency-Key": idempotency_key}
        answer = self.manage("POST", "/keys", json={"name": self.name(), **fields}, headers=headers)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    def name(self) -> str:
        """A name that no key of this test has."""
        return f"vlt-test-{next(self._names)}"

    def get(self, key_id: str) -> dict[str, Any]:
        """The key object."""
        answer = self.manage("GET", f"/keys/{key_id}")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def chat(self, key: str, *, second_node: bool = False, **fields: Any) -> httpx.Response:
        """One chat completion with a data key."""
        http = self.second_http if second_node else self.http
        body = {"model": "gpt-4.1", "messages": MESSAGES, "max_tokens": 1, **fields}
        return http.post("/chat/completions", headers=bearer(key), json=body)

    def works(self, key: str, *, second_node: bool = False) -> bool:
        """Whether a model call with `key` is answered; any refusal but 401 fails the test."""
        answer = self.chat(key, second_node=second_node)
        assert answer.status_code in (200, 401), answer.text
        return answer.status_code == 200


def error(answer: httpx.Response) -> dict[str, Any]:
    """The error object of a refusal."""
    body: dict[str, Any] = answer.json()["error"]
    return body


def refused(answer: httpx.Response, status: int, code: str, param: str | None = None) -> dict[str, Any]:
    """Assert a refusal; its error object."""
    assert answer.status_code == status, answer.text
    found = error(answer)
    assert found["code"] == code
    if param is not None:
        assert found["param"] == param
    return found
