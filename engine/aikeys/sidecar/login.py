"""The ways in which the sidecar gets a token at the upstream: AppRole, Kubernetes, a token file."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from aikeys.errors import AikeysError
from aikeys.framework.clock import Clock
from aikeys.redaction import SecretString
from aikeys.sidecar.exchange import Reply
from aikeys.sidecar.upstream import Upstream, UpstreamDown


class LoginRefused(AikeysError):
    """The upstream, or a file that should hold a credential, gave no token; the message says what to look at."""


@dataclass(frozen=True, slots=True)
class OwnToken:
    """`ends_at` is on the monotonic clock, None for a token that never expires."""

    token: SecretString
    accessor: str
    ends_at: float | None
    renewable: bool


class Login(Protocol):
    """`log_in` and `renew` raise `UpstreamDown` and `LoginRefused`."""

    name: str
    # Whether the token is of its own making, and so to be revoked at the end.
    makes_tokens: bool

    def prepare(self, upstream: Upstream) -> SecretString | None:
        """Do what can be done only once, and give back what was got by it."""
        ...

    def log_in(self, upstream: Upstream, clock: Clock) -> OwnToken: ...

    def renew(self, upstream: Upstream, token: OwnToken, clock: Clock) -> OwnToken | None:
        """The same token with a later end; None when a new login is due instead."""
        ...


def read_credential(path: Path, what: str) -> str:
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LoginRefused(f"{what}: cannot read {path} ({type(error).__name__})") from error
    if not text:
        raise LoginRefused(f"{what}: {path} is empty")
    return text


def _check(reply: Reply, what: str) -> dict[str, Any]:
    if reply.status in {429, 472, 473} or reply.status >= 500:
        raise UpstreamDown(
            f"the Vault behind this sidecar answered {reply.status} to {what}: {'; '.join(reply.errors)[:200]}"
        )
    if reply.status != 200:
        raise LoginRefused(f"{what} was answered {reply.status}: {'; '.join(reply.errors)[:200]}")
    parsed = reply.json()
    if not isinstance(parsed, dict):
        raise LoginRefused(f"{what} was answered with something that is no JSON object")
    return parsed


def _token_of(reply: Reply, what: str, clock: Clock) -> OwnToken:
    auth = _check(reply, what).get("auth")
    if not isinstance(auth, dict) or not isinstance(auth.get("client_token"), str):
        raise LoginRefused(f"{what} was answered without a token")
    seconds = auth.get("lease_duration") or 0
    return OwnToken(
        SecretString(auth["client_token"]),
        str(auth.get("accessor") or ""),
        clock.monotonic() + seconds if seconds else None,
        bool(auth.get("renewable")),
    )


def renew_self(upstream: Upstream, token: OwnToken, clock: Clock) -> OwnToken | None:
    """`auth/token/renew-self`; None when it is not renewable, refused, or no longer gains time."""
    if token.ends_at is None:
        return token
    if not token.renewable:
        return None
    reply = upstream.request("POST", "auth/token/renew-self", token=token.token.reveal(), body={})
    try:
        renewed = _token_of(reply, "the renewal of the sidecar's token", clock)
    except LoginRefused:
        return None
    if renewed.ends_at is not None and renewed.ends_at <= token.ends_at + 1.0:
        # The maximum is near: a new login is better than ever shorter renewals.
        return None
    return OwnToken(token.token, token.accessor, renewed.ends_at, renewed.renewable)


class AppRoleLogin:
    """`auth/<mount>/login` with a role id and a secret id, the latter from a file, plain or wrapped.

    A wrapping token is spent once, by `prepare`, and only when it was made for a secret id of this mount;
    the secret id then lives in memory. A plain file is read at every login, so that it may be replaced.
    """

    name = "approle"
    makes_tokens = True

    def __init__(
        self,
        *,
        role_id: SecretString,
        mount: str = "approle",
        secret_id_file: Path | None = None,
        wrapped_secret_id_file: Path | None = None,
        unwrapped: SecretString | None = None,
    ) -> None:
        """`unwrapped` is the secret id of a wrapping token that is spent already."""
        self._role_id = role_id
        self._mount = mount.strip("/")
        self._secret_id_file = secret_id_file
        self._wrapped_file = wrapped_secret_id_file
        self._unwrapped = unwrapped

    def prepare(self, upstream: Upstream) -> SecretString | None:
        if self._wrapped_file is None or self._unwrapped is not None:
            return self._unwrapped
        wrapping = SecretString(read_credential(self._wrapped_file, "the wrapped secret id"))
        what = "the look-up of the wrapped secret id"
        looked_up = _check(
            upstream.request("POST", "sys/wrapping/lookup", token="", body={"token": wrapping.reveal()}), what
        )
        found = str((looked_up.get("data") or {}).get("creation_path", ""))
        expected = rf"auth/{re.escape(self._mount)}/role/[^/]+/secret-id"
        if not re.fullmatch(expected, found):
            raise LoginRefused(
                f"the wrapping token in {self._wrapped_file} was made by {found!r}, not by a secret-id path of "
                f"auth/{self._mount}: somebody may have replaced it; it was not spent"
            )
        unwrapped = _check(
            upstream.request("POST", "sys/wrapping/unwrap", token=wrapping.reveal()),
            "the unwrapping of the secret id",
        )
        secret_id = (unwrapped.get("data") or {}).get("secret_id")
        if not isinstance(secret_id, str) or not secret_id:
            raise LoginRefused("the wrapped answer holds no secret_id")
        self._unwrapped = SecretString(secret_id)
        return self._unwrapped

    def log_in(self, upstream: Upstream, clock: Clock) -> OwnToken:
        body = {"role_id": self._role_id.reveal()}
        if self._wrapped_file is not None:
            self.prepare(upstream)
            assert self._unwrapped is not None
            body["secret_id"] = self._unwrapped.reveal()
        elif self._secret_id_file is not None:
            secret_id = SecretString(read_credential(self._secret_id_file, "the secret id"))
            body["secret_id"] = secret_id.reveal()
        reply = upstream.request("POST", f"auth/{self._mount}/login", token="", body=body)
        return _token_of(reply, f"the login at auth/{self._mount}", clock)

    def renew(self, upstream: Upstream, token: OwnToken, clock: Clock) -> OwnToken | None:
        return renew_self(upstream, token, clock)


class KubernetesLogin:
    """`auth/<mount>/login` with the service account token that Kubernetes keeps fresh in a file."""

    name = "kubernetes"
    makes_tokens = True

    def __init__(self, *, role: str, jwt_file: Path, mount: str = "kubernetes") -> None:
        self._role = role
        self._jwt_file = jwt_file
        self._mount = mount.strip("/")

    def prepare(self, upstream: Upstream) -> None:
        """Nothing is spent by a login."""

    def log_in(self, upstream: Upstream, clock: Clock) -> OwnToken:
        jwt = SecretString(read_credential(self._jwt_file, "the service account token"))
        reply = upstream.request(
            "POST", f"auth/{self._mount}/login", token="", body={"role": self._role, "jwt": jwt.reveal()}
        )
        return _token_of(reply, f"the login at auth/{self._mount}", clock)

    def renew(self, upstream: Upstream, token: OwnToken, clock: Clock) -> OwnToken | None:
        return renew_self(upstream, token, clock)


class TokenFileLogin:
    """A token that somebody else (a Vault Agent's sink, an operator) puts into a file and may replace there."""

    name = "token_file"
    makes_tokens = False

    def __init__(self, path: Path) -> None:
        self._path = path

    def prepare(self, upstream: Upstream) -> None:
        """Nothing is spent by a login."""

    def log_in(self, upstream: Upstream, clock: Clock) -> OwnToken:
        token = SecretString(read_credential(self._path, "the token file"))
        reply = upstream.request("GET", "auth/token/lookup-self", token=token.reveal())
        data = _check(reply, f"the look-up of the token in {self._path}").get("data") or {}
        seconds = data.get("ttl") or 0
        return OwnToken(
            token,
            str(data.get("accessor") or ""),
            clock.monotonic() + seconds if seconds else None,
            bool(data.get("renewable")),
        )

    def renew(self, upstream: Upstream, token: OwnToken, clock: Clock) -> OwnToken | None:
        """The file's token when it was replaced; else the same one, renewed where that is allowed."""
        if read_credential(self._path, "the token file") != token.token.reveal():
            return None
        return renew_self(upstream, token, clock)
