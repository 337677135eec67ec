"""A backend: a set of paths and secret types, and the one way requests reach them.

Order and texts are those of Vault's SDK (`Backend.HandleRequest` and `HandleExistenceCheck`, sdk/framework/backend.go).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aikeys.framework import help as texts
from aikeys.framework.fields import FieldData, FieldError
from aikeys.framework.openapi import document
from aikeys.framework.paths import Path
from aikeys.framework.request import Operation, Request
from aikeys.framework.response import (
    EngineError,
    InvalidRequest,
    Response,
    UnsupportedOperation,
    UnsupportedPath,
)

_WRITES = frozenset({Operation.CREATE, Operation.UPDATE, Operation.PATCH})


@dataclass(frozen=True, slots=True)
class SecretType:
    """What can be leased, and how a lease of it is renewed and revoked (Vault: `framework.Secret`)."""

    type: str
    renew: Callable[[Request], Response]
    revoke: Callable[[Request], Response]


class Backend:
    """Safe for many threads: nothing in it changes after construction.

    `name` begins operation ids, `version` is what the OpenAPI document says of itself.
    """

    def __init__(
        self, *, name: str, version: str, help_text: str, paths: Sequence[Path], secrets: Sequence[SecretType]
    ) -> None:
        self.name = name
        self.version = version
        self.help_text = help_text
        self.paths = tuple(paths)
        self.secrets = {secret.type: secret for secret in secrets}

    def find(self, path: str) -> Path | None:
        """The path that serves `path` (relative to the mount), or None."""
        found = self._route(path)
        return found[0] if found else None

    def exists(self, request: Request) -> bool | None:
        """Whether the object a write names exists, to tell create from update; None: always update.

        Raises UnsupportedPath, and InvalidRequest for a field that cannot be read.
        """
        path, captures = self._match(request.path)
        if path.exists is None:
            return None
        return path.exists(request, self._validate(path, request, captures))

    def handle(self, request: Request) -> Response | None:
        """Do it. None and a Response without data are what Vault answers 204 (write) or 404 (read) with."""
        if request.operation in (Operation.RENEW, Operation.REVOKE):
            return self._handle_secret(request)
        if request.operation in _WRITES and request.path.endswith("/"):
            raise InvalidRequest("cannot write to a path ending in '/'")
        if request.operation is Operation.HELP:
            return Response(data=self.help(request.path))
        path, captures = self._match(request.path)
        handler = path.operations.get(request.operation)
        if handler is None:
            raise UnsupportedOperation
        response = handler(request, self._validate(path, request, captures))
        if response is not None:
            self._warn(response, path, request.data, captures)
        return response

    def help(self, path: str) -> dict[str, Any]:
        """`{help, openapi, see_also}` for a path, or for the mount itself when it is empty."""
        if not path:
            text, described = texts.root_help(self.help_text, self.paths), self.paths
        else:
            found, _captures = self._match(path)
            text, described = texts.path_help(found, path), (found,)
        openapi = document(described, prefix=self.name, server_version=self.version)
        return {"help": text, "openapi": openapi, "see_also": None}

    def openapi(self, mount_path: str) -> dict[str, Any]:
        """The document of every path as mounted at `mount_path`."""
        return document(self.paths, prefix=self.name, server_version=self.version, mount_path=mount_path)

    def blank_secrets(self, path: str, data: Mapping[str, Any]) -> dict[str, Any]:
        """`data` with every secret value as "": for whoever must show the request to somebody else.

        Names stay, since policies look at them. Where a path takes secrets at all, a field it does not know is
        blanked too: it may be a secret under a misspelt name. So is everything on a path nobody serves.
        """
        found = self.find(path)
        if found is not None and not found.has_secrets:
            return dict(data)
        fields = found.fields if found is not None else {}
        return {
            name: value if name in fields and not fields[name].secret else "" for name, value in data.items()
        }

    def _route(self, path: str) -> tuple[Path, dict[str, str]] | None:
        for candidate in self.paths:
            captures = candidate.match(path)
            if captures is not None:
                return candidate, captures
        return None

    def _match(self, path: str) -> tuple[Path, dict[str, str]]:
        found = self._route(path)
        if found is None:
            raise UnsupportedPath
        return found

    def _validate(self, path: Path, request: Request, captures: Mapping[str, str]) -> FieldData:
        try:
            return FieldData.of(path.fields, request.data, captures)
        except FieldError as error:
            # A path with an existence check fails in that check first, which does not add the prefix.
            checked = path.exists is not None and request.operation in (Operation.CREATE, Operation.UPDATE)
            raise InvalidRequest(str(error) if checked else f"Field validation failed: {error}") from None

    @staticmethod
    def _warn(response: Response, path: Path, data: Mapping[str, Any], captures: Mapping[str, str]) -> None:
        ignored = sorted(name for name in data if name not in path.fields)
        if ignored:
            response.warnings.append(f"Endpoint ignored these unrecognized parameters: [{' '.join(ignored)}]")
        replaced = sorted(name for name in captures if data.get(name) is not None)
        if replaced:
            response.warnings.append(
                "Endpoint replaced the value of these parameters with the values captured from the endpoint's "
                f"path: [{' '.join(replaced)}]"
            )

    def _handle_secret(self, request: Request) -> Response:
        if request.secret is None:
            raise EngineError("request has no secret")
        secret_type = self.secrets.get(request.secret.type)
        if secret_type is None:
            raise EngineError("secret is unsupported by this backend")
        act = secret_type.renew if request.operation is Operation.RENEW else secret_type.revoke
        return act(request)
