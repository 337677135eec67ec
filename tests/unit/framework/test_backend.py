"""A backend routes, checks and answers in the order and the words of Vault's SDK."""

from __future__ import annotations

from typing import Any

import pytest

from aikeys.framework.backend import Backend, SecretType
from aikeys.framework.fields import Field, FieldData, FieldType
from aikeys.framework.paths import Path, generic_name
from aikeys.framework.request import Mount, Operation, Request
from aikeys.framework.response import (
    EngineError,
    InvalidRequest,
    Response,
    Secret,
    UnsupportedOperation,
    UnsupportedPath,
)

MOUNT = Mount("uuid", "things/", "acc", "instance", 60, 60)
STORED = {"known": {"size": 1}}


def write(_request: Request, data: FieldData) -> Response | None:
    return Response(data={"size": data["size"]}) if data["loud"] else None


def read(_request: Request, data: FieldData) -> Response | None:
    entry = STORED.get(data["name"])
    return None if entry is None else Response(data=dict(entry))


FIELDS = {
    "name": Field(FieldType.STRING, "Name of the thing."),
    "size": Field(FieldType.INT, "Its size.", default=3),
    "loud": Field(FieldType.BOOL, "Whether to answer."),
    "code": Field(FieldType.STRING, "Its code.", secret=True),
}


def renew(request: Request) -> Response:
    return Response(secret=request.secret)


def revoke(_request: Request) -> Response:
    return Response(data={"revoked": True})


BACKEND = Backend(
    name="things",
    version="1.0",
    help_text="Things.",
    paths=[
        Path(
            pattern="thing/" + generic_name("name"),
            fields=FIELDS,
            operations={Operation.READ: read, Operation.CREATE: write, Operation.UPDATE: write},
            exists=lambda _request, data: data["name"] in STORED,
            noun="thing",
            synopsis="Things.",
        ),
        Path(
            pattern="use/" + generic_name("name"),
            fields={"name": FIELDS["name"], "size": FIELDS["size"]},
            operations={Operation.UPDATE: read},
            noun="use",
            synopsis="Use a thing.",
        ),
    ],
    secrets=[SecretType("thing", renew=renew, revoke=revoke)],
)


def request(operation: Operation, path: str, **data: Any) -> Request:
    return Request(operation, path, MOUNT, data=data)


@pytest.mark.parametrize(
    "path", ["thing/a", "thing/A.b-c_d", "thing/0", "thing/known", "thing/" + "x" * 300, "thing/a.b"]
)
def test_a_name_of_vaults_generic_form_is_found(path: str) -> None:
    found = BACKEND.find(path)
    assert found is not None
    assert found.noun == "thing"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "thing",
        "thing/",
        "thing/a/",
        "thing/a/b",
        "thing/.a",
        "thing/a.",
        "thing/a..b",
        "thing/..",
        "thing/\u00e9",
        "thing/a\n",
        "thing/a b",
        "Thing/a",
        "other",
        "/thing/a",
    ],
)
def test_any_other_path_is_unsupported(path: str) -> None:
    assert BACKEND.find(path) is None
    with pytest.raises(UnsupportedPath):
        BACKEND.handle(request(Operation.READ, path))
    with pytest.raises(UnsupportedPath):
        BACKEND.exists(request(Operation.UPDATE, path))


def test_an_operation_the_path_does_not_have_is_unsupported() -> None:
    for operation in (Operation.DELETE, Operation.LIST, Operation.PATCH):
        with pytest.raises(UnsupportedOperation):
            BACKEND.handle(request(operation, "thing/known"))


def test_an_operation_is_refused_before_its_fields_are_looked_at() -> None:
    with pytest.raises(UnsupportedOperation):
        BACKEND.handle(request(Operation.DELETE, "thing/known", size="abc"))


@pytest.mark.parametrize("operation", [Operation.CREATE, Operation.UPDATE, Operation.PATCH])
def test_nothing_is_written_to_a_directory(operation: Operation) -> None:
    with pytest.raises(InvalidRequest, match=r"^cannot write to a path ending in '/'$"):
        BACKEND.handle(request(operation, "thing/"))


def test_the_existence_check_tells_create_from_update() -> None:
    assert BACKEND.exists(request(Operation.UPDATE, "thing/known")) is True
    assert BACKEND.exists(request(Operation.UPDATE, "thing/new")) is False
    assert BACKEND.exists(request(Operation.UPDATE, "use/known")) is None, "this path is only ever updated"


def test_a_field_error_has_the_prefix_only_where_no_existence_check_met_it_first() -> None:
    plain = r'^error converting input for field "size": '
    with pytest.raises(InvalidRequest, match=plain):
        BACKEND.exists(request(Operation.UPDATE, "thing/known", size="abc"))
    with pytest.raises(InvalidRequest, match=plain):
        BACKEND.handle(request(Operation.UPDATE, "thing/known", size="abc"))
    with pytest.raises(
        InvalidRequest, match=r'^Field validation failed: error converting input for field "size": '
    ):
        BACKEND.handle(request(Operation.READ, "thing/known", size="abc"))
    with pytest.raises(
        InvalidRequest, match=r'^Field validation failed: error converting input for field "size": '
    ):
        BACKEND.handle(request(Operation.UPDATE, "use/known", size="abc"))


def test_unknown_fields_are_named_sorted_when_there_is_an_answer() -> None:
    answer = BACKEND.handle(request(Operation.UPDATE, "thing/new", loud=True, zzz=1, aaa=None, Z=2))

    assert answer is not None
    assert answer.warnings == ["Endpoint ignored these unrecognized parameters: [Z aaa zzz]"]


def test_unknown_fields_are_dropped_silently_when_there_is_no_answer() -> None:
    assert BACKEND.handle(request(Operation.UPDATE, "thing/new", zzz=1)) is None
    assert BACKEND.handle(request(Operation.READ, "thing/missing", zzz=1)) is None


def test_a_field_that_the_path_captured_too_is_warned_of_and_loses() -> None:
    answer = BACKEND.handle(request(Operation.READ, "thing/known", name="other"))

    assert answer is not None
    assert answer.data == {"size": 1}
    assert answer.warnings == [
        "Endpoint replaced the value of these parameters with the values captured from the endpoint's path: [name]"
    ]


def test_secrets_are_blanked_and_so_is_whatever_may_be_one() -> None:
    sent = {"size": 5, "code": "s3cret", "cdoe": "s3cret", "name": "x"}

    assert BACKEND.blank_secrets("thing/new", sent) == {"size": 5, "code": "", "cdoe": "", "name": "x"}
    assert BACKEND.blank_secrets("use/known", {"size": 5, "extra": 1}) == {"size": 5, "extra": 1}
    assert BACKEND.blank_secrets("nowhere", {"size": 5, "code": "s3cret"}) == {"size": "", "code": ""}
    assert sent["code"] == "s3cret", "what was sent is not changed"


def test_help_answers_for_the_mount_and_for_every_path_and_for_no_other() -> None:
    for path in ("", "thing/x", "use/x"):
        answer = BACKEND.handle(request(Operation.HELP, path))
        assert answer is not None
        assert answer.data == BACKEND.help(path)
    assert "## PATHS" in BACKEND.help("")["help"]
    with pytest.raises(UnsupportedPath):
        BACKEND.handle(request(Operation.HELP, "nowhere"))


def test_the_openapi_document_stands_below_the_mount() -> None:
    document = BACKEND.openapi("team/things/")

    assert set(document["paths"]) == {"/team/things/thing/{name}", "/team/things/use/{name}"}
    thing = document["paths"]["/team/things/thing/{name}"]
    assert thing["x-vault-createSupported"] is True
    assert thing["post"]["operationId"] == "things-write-thing"
    reference = thing["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]
    properties = document["components"]["schemas"][reference.rpartition("/")[2]]["properties"]
    assert set(properties) == {"size", "loud", "code"}, "what the path captures is no part of the body"
    assert properties["size"] == {"type": "integer", "description": "Its size.", "default": 3}
    assert properties["code"]["x-vault-displayAttrs"] == {"sensitive": True}


def secret(kind: str) -> Secret:
    return Secret(type=kind, internal_data={})


def test_renewals_and_revocations_reach_the_secret_type_of_the_lease() -> None:
    lease = Request(Operation.RENEW, "", MOUNT, secret=secret("thing"))
    answer = BACKEND.handle(lease)
    assert answer is not None
    assert answer.secret is lease.secret
    answer = BACKEND.handle(Request(Operation.REVOKE, "", MOUNT, secret=secret("thing")))
    assert answer is not None
    assert answer.data == {"revoked": True}


def test_a_lease_of_another_kind_is_refused() -> None:
    with pytest.raises(EngineError, match="secret is unsupported by this backend"):
        BACKEND.handle(Request(Operation.RENEW, "", MOUNT, secret=secret("other")))
    with pytest.raises(EngineError, match="request has no secret"):
        BACKEND.handle(Request(Operation.REVOKE, "", MOUNT))


def test_a_path_that_creates_needs_an_existence_check_and_captures_must_be_fields() -> None:
    with pytest.raises(ValueError, match="no existence check"):
        Path(pattern="x", fields={}, operations={Operation.CREATE: write}, noun="x", synopsis="")
    with pytest.raises(ValueError, match="which are no fields"):
        Path(pattern=generic_name("x"), fields={}, operations={}, noun="x", synopsis="")
