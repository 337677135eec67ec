"""The framework reads fields, warns and helps exactly as a real server does with the same input."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from tests.realparts.openbao import OpenBaoProcess
from tests.unit.framework.coercion_cases import ALL, IDS, Refused

from aikeys.framework.backend import Backend
from aikeys.framework.fields import Field, FieldError, FieldType, convert
from aikeys.framework.paths import Path
from aikeys.framework.request import Mount, Operation, Request
from aikeys.framework.response import EngineError, Response


@dataclass(frozen=True)
class Asked:
    """Where a real engine has a field of a type: what to write besides it, and how it reads back."""

    path: str
    field: str
    beside: str = ""
    shown: Callable[[Any], Any] = lambda value: value


FIELDS = {
    FieldType.DURATION: Asked("coerce-pki/roles/duration", "ttl", '"max_ttl":0,'),
    FieldType.BOOL: Asked("coerce-kv/metadata/bool", "cas_required"),
    FieldType.INT: Asked("coerce-kv/metadata/int", "max_versions"),
    FieldType.STRING: Asked(
        "coerce-ssh/roles/string", "default_user", '"key_type":"otp","allowed_users":"*",'
    ),
    FieldType.COMMA_STRINGS: Asked("coerce-pki/roles/list", "allowed_domains"),
    FieldType.KV_PAIRS: Asked("identity/entity/name/coerce", "metadata", shown=lambda value: value or {}),
    FieldType.MAP: Asked(
        "coerce-ssh/roles/map", "default_extensions", '"key_type":"ca","allow_user_certificates":true,'
    ),
}


@pytest.fixture(scope="module")
def server(openbao: OpenBaoProcess) -> Iterator[httpx.Client]:
    mounts: dict[str, dict[str, Any]] = {
        "coerce-pki": {"type": "pki"},
        "coerce-ssh": {"type": "ssh"},
        "coerce-totp": {"type": "totp"},
        "coerce-kv": {"type": "kv", "options": {"version": "2"}},
    }
    for path, body in mounts.items():
        openbao.request("POST", f"sys/mounts/{path}", body)
    with openbao.client() as client:
        client.headers["X-Vault-Token"] = openbao.root_token
        # A kv of version 2 upgrades itself in the background after it was mounted.
        for _attempt in range(100):
            if client.post("/v1/coerce-kv/metadata/ready", json={}).status_code == 204:
                break
        yield client
    for path in mounts:
        openbao.request("DELETE", f"sys/mounts/{path}")
    openbao.request("DELETE", "identity/entity/name/coerce")


def ask(server: httpx.Client, asked: Asked, text: str) -> Any:
    """What the real server stored for the field, or the end of its error text."""
    server.delete(f"/v1/{asked.path}")
    body = "{" + asked.beside + f'"{asked.field}":{text}' + "}"
    written = server.post(f"/v1/{asked.path}", content=body.encode())
    if written.status_code == 400:
        (error,) = written.json()["errors"]
        _before, marker, reason = error.partition(f'error converting input for field "{asked.field}": ')
        assert marker, error
        # The value that follows may be a secret: our text leaves it out.
        return Refused(reason.split(", value: ")[0])
    assert written.status_code in (200, 204), written.text
    return asked.shown(server.get(f"/v1/{asked.path}").json()["data"][asked.field])


def ours(kind: FieldType, name: str, text: str) -> Any:
    try:
        return convert(name, kind, json.loads(text))
    except FieldError as error:
        return Refused(str(error).removeprefix(f'error converting input for field "{name}": '))


@pytest.mark.parametrize(("kind", "text", "_wanted"), ALL, ids=IDS)
def test_a_field_is_read_as_the_real_server_reads_it(
    kind: FieldType, text: str, _wanted: Any, server: httpx.Client
) -> None:
    asked = FIELDS[kind]

    assert ours(kind, asked.field, text) == ask(server, asked, text)


MOUNT = Mount("uuid", "coerce-totp/", "acc", "instance", 2764800, 2764800)


def totp_like(help_of: dict[str, Any]) -> Backend:
    """A backend with the real totp engine's patterns and texts, read from its own OpenAPI document."""
    types = {"string": FieldType.STRING, "integer": FieldType.INT, "boolean": FieldType.BOOL}
    spec = help_of["openapi"]
    described = spec["components"]["schemas"]["TotpCreateKeyRequest"]["properties"]
    fields = {
        name: Field(
            FieldType.DURATION if item.get("format") == "seconds" else types[item["type"]],
            item["description"],
        )
        for name, item in described.items()
    }
    name = Field(FieldType.STRING, "Name of the key.")

    def nothing(_request: Request, _data: Any) -> Response | None:
        return Response(data={})

    manage = "Manage the keys that can be created with this backend."
    return Backend(
        name="totp",
        version=spec["info"]["version"],
        help_text="\nThe TOTP backend dynamically generates time-based one-time use passwords.\n",
        paths=[
            Path(
                pattern=r"keys/(?P<name>\w(([\w-.@]+)?\w)?)",
                fields={"name": name, **fields},
                operations=dict.fromkeys((Operation.READ, Operation.UPDATE, Operation.DELETE), nothing),
                noun="key",
                synopsis=manage,
                description="\nThis path lets you manage the keys that can be created with this backend.\n",
            ),
            Path(
                pattern="keys/?",
                fields={
                    "after": Field(
                        FieldType.STRING, "Optional entry to list begin listing after, not required to exist."
                    ),
                },
                operations={Operation.LIST: nothing},
                noun="keys",
                synopsis=manage,
            ),
            Path(
                pattern=r"code/(?P<name>\w(([\w-.@]+)?\w)?)",
                fields={"name": name},
                operations=dict.fromkeys((Operation.READ, Operation.UPDATE), nothing),
                noun="code",
                synopsis="Request time-based one-time use password or validate a password for a certain key.",
            ),
        ],
        secrets=[],
    )


def test_help_on_the_mount_and_on_a_path_is_the_real_servers_to_the_letter(server: httpx.Client) -> None:
    root = server.get("/v1/coerce-totp?help=1").json()
    on_key = server.get("/v1/coerce-totp/keys/x?help=1").json()
    backend = totp_like(root)

    assert backend.help("")["help"] == root["help"]
    assert backend.help("keys/x")["help"] == on_key["help"]
    assert backend.help("keys/x").keys() == on_key.keys()
    assert backend.help("keys/x")["see_also"] is on_key["see_also"] is None


def test_the_openapi_document_has_the_real_servers_paths_parameters_and_properties(
    server: httpx.Client,
) -> None:
    real = server.get("/v1/coerce-totp?help=1").json()["openapi"]
    made = totp_like({"openapi": real}).help("")["openapi"]

    assert made["openapi"] == real["openapi"]
    assert made["paths"].keys() == real["paths"].keys()
    for path, item in real["paths"].items():
        assert made["paths"][path]["description"] == item["description"]
        assert made["paths"][path].get("parameters") == item.get("parameters")
        assert {method for method in ("get", "post", "delete", "patch") if method in made["paths"][path]} == {
            method for method in ("get", "post", "delete", "patch") if method in item
        }
    assert made["paths"]["/keys"]["get"]["parameters"] == real["paths"]["/keys"]["get"]["parameters"]
    assert made["paths"]["/keys/{name}"]["delete"]["responses"] == {"204": {"description": "empty body"}}
    wanted = real["components"]["schemas"]["TotpCreateKeyRequest"]["properties"]
    for item in wanted.values():
        item.pop("default", None)
    assert made["components"]["schemas"]["TotpWriteKeyRequest"]["properties"] == wanted


@pytest.mark.parametrize(
    "path", ["zz", "keys/x/y", "keys/sho rt", "keys/-a", "keys/\u00e9", "code/", "Keys/x"]
)
def test_paths_of_no_pattern_are_unsupported_there_and_here(path: str, server: httpx.Client) -> None:
    real = server.get(f"/v1/coerce-totp/{path}")
    backend = totp_like(server.get("/v1/coerce-totp?help=1").json())

    with pytest.raises(EngineError) as refused:
        backend.handle(Request(Operation.READ, path, MOUNT))

    assert (refused.value.status, refused.value.texts()) == (real.status_code, real.json()["errors"])


def test_an_operation_that_a_path_does_not_have_is_refused_there_and_here(server: httpx.Client) -> None:
    real = server.delete("/v1/coerce-totp/code/x")
    backend = totp_like(server.get("/v1/coerce-totp?help=1").json())

    with pytest.raises(EngineError) as refused:
        backend.handle(Request(Operation.DELETE, "code/x", MOUNT))

    assert (refused.value.status, refused.value.texts()) == (real.status_code, real.json()["errors"])


def test_a_write_to_a_directory_is_refused_there_and_here(server: httpx.Client) -> None:
    real = server.post("/v1/coerce-totp/keys/", json={})
    backend = totp_like(server.get("/v1/coerce-totp?help=1").json())

    with pytest.raises(EngineError) as refused:
        backend.handle(Request(Operation.UPDATE, "keys/", MOUNT))

    assert (refused.value.status, refused.value.texts()) == (real.status_code, real.json()["errors"])


@pytest.mark.parametrize(
    "body",
    [{"zzz": 1, "aaa": None, "Z": 2}, {"name": "other"}, {"name": None}, {"name": ["x"], "b": 1}, {}],
    ids=json.dumps,
)
def test_unknown_and_replaced_parameters_are_warned_of_there_and_here(
    body: dict[str, Any], server: httpx.Client
) -> None:
    real = server.post("/v1/coerce-pki/roles/warned", json=body).json()["warnings"]
    backend = totp_like(server.get("/v1/coerce-totp?help=1").json())

    answer = backend.handle(Request(Operation.UPDATE, "code/warned", MOUNT, data=body))

    assert answer is not None
    assert answer.warnings == [warning for warning in real if warning.startswith("Endpoint ")]
