"""Every setting of `aikeys serve`, with its unit, its bounds and its default: the one place where they stand.

Each is read from the environment as `AIKEYS_<NAME>`, else from the TOML file that `--config` names, else it is the
default. A key in the file that is no setting is an error.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from aikeys.errors import SettingsError

PREFIX = "AIKEYS_"

Seconds = Annotated[float, Field(gt=0, le=86_400)]
CommaList = Annotated[tuple[str, ...], NoDecode]

# Read last: in a shell where a client works, VAULT_ADDR may well name the sidecar itself.
_BORROWED = {"upstream_addr": "VAULT_ADDR", "upstream_ca_file": "VAULT_CACERT"}

_file_values: ContextVar[Mapping[str, Any] | None] = ContextVar("file_values", default=None)


class Settings(BaseSettings):
    """Times in seconds, sizes in bytes. Instances do not change."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, extra="ignore", frozen=True, validate_default=True)

    # -- where we listen ----------------------------------------------------------------------------------------
    listen: str = Field(
        "127.0.0.1:8210", description="host:port; an address that is not loopback is your choice"
    )
    tls_cert_file: Path | None = Field(None, description="certificate chain of the listener (PEM)")
    tls_key_file: Path | None = Field(None, description="its private key (PEM)")
    workers: int = Field(1, ge=1, le=64, description="processes")
    threads: int = Field(64, ge=2, le=512, description="requests at once, for each process")
    keepalive: int = Field(75, ge=0, le=3600, description="seconds an idle client connection is kept")
    client_idle_timeout: int = Field(
        60, ge=1, le=3600, description="seconds a client may take between two bytes of a request or an answer"
    )
    graceful_timeout: int = Field(30, ge=1, le=600, description="seconds running requests get at the end")
    trusted_proxies: CommaList = Field(
        (), description="networks (CIDR) whose X-Forwarded-For is believed; others' is dropped"
    )

    # -- the Vault behind us ------------------------------------------------------------------------------------
    upstream_addr: str = Field(
        "https://127.0.0.1:8200",
        description="http[s]://host[:port] of the Vault or OpenBao; VAULT_ADDR is read too",
    )
    upstream_ca_file: Path | None = Field(
        None,
        description="what its certificate is checked against; VAULT_CACERT is read too",
    )
    upstream_connect_timeout: Seconds = Field(5.0, description="to connect")
    upstream_timeout: Seconds = Field(30.0, description="for a whole request of the sidecar's own")
    upstream_idle_timeout: Seconds = Field(
        120.0, description="without a byte in a request that is passed through"
    )

    # -- who we are there ---------------------------------------------------------------------------------------
    auth_method: Literal["approle", "kubernetes", "token_file"] = Field(
        "approle", description="how the sidecar logs in"
    )
    auth_mount: str = Field("", description='path of the auth method below auth/; "" is the method\'s name')
    auth_role_id: SecretStr | None = Field(None, description="approle: the role id")
    auth_role_id_file: Path | None = Field(None, description="approle: a file that holds it")
    auth_secret_id_file: Path | None = Field(None, description="approle: a file that holds the secret id")
    auth_wrapped_secret_id_file: Path | None = Field(
        None, description="approle: a file that holds a wrapping token with the secret id inside"
    )
    auth_kubernetes_role: str = Field("", description="kubernetes: the role")
    auth_kubernetes_jwt_file: Path = Field(
        Path("/var/run/secrets/kubernetes.io/serviceaccount/token"), description="kubernetes: the token"
    )
    auth_token_file: Path | None = Field(None, description="token_file: a file that holds a token")

    # -- what we keep -------------------------------------------------------------------------------------------
    data_dir: Path = Field(Path("/var/lib/aikeys"), description="folder of the database and the key file")
    seal_key_file: Path | None = Field(
        None, description="the seal's key file; aikeys.key in data_dir if unset"
    )

    # -- bounds of a request ------------------------------------------------------------------------------------
    max_path_length: int = Field(
        4096, ge=256, le=8000, description="characters; longer ones are 414 before the upstream sees them"
    )
    max_body_bytes: int = Field(32 * 1024 * 1024, ge=1024, description="Vault: max_request_size")
    request_timeout: Seconds = Field(90.0, description="one request; Vault: default_max_request_duration")
    identity_cache: float = Field(
        60.0, ge=0, le=60, description="seconds a token's look-up is believed, where it has no use count"
    )

    # -- leases -------------------------------------------------------------------------------------------------
    revocation_workers: int = Field(96, ge=1, le=512, description="revocations at once, for each process")
    revocation_retry_base: Seconds = Field(
        10.0, description="a failed revocation is tried again after base x 2^n, give or take half; Vault: 10"
    )
    revocation_retry_longest: Seconds = Field(
        300.0, description="the longest such pause, give or take half; there is no last try"
    )
    relay_probe_interval: Seconds = Field(
        15.0, description="while a relay does not answer, one lease is tried so often, to see when it is back"
    )

    token_sweep_interval: Seconds = Field(
        30.0,
        description="after so many seconds at the latest each token that holds leases is looked up again",
    )
    token_sweep_rate: int = Field(
        300, ge=1, le=100_000, description="the most such look-ups a second, of all processes together"
    )

    reconcile_interval: Seconds = Field(
        25.0, description="between two comparisons of our mounts with the upstream's table"
    )
    tidy_interval: float = Field(
        3600.0,
        ge=0,
        le=7 * 86_400,
        description="seconds between two sweeps for keys that no lease knows; 0: only when tidy is asked",
    )

    # -- telling ------------------------------------------------------------------------------------------------
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="of the log on stderr"
    )
    log_format: Literal["json", "text"] = Field("json", description="one JSON object, or one line of text")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """First what is given in code, then the environment, then the file, then what Vault's own clients read."""
        file = InitSettingsSource(settings_cls, dict(_file_values.get() or {}))
        borrowed = {name: os.environ[key] for name, key in _BORROWED.items() if os.environ.get(key)}
        return init_settings, env_settings, file, InitSettingsSource(settings_cls, dict(borrowed))

    # -- derived ------------------------------------------------------------------------------------------------

    @property
    def database(self) -> Path:
        return self.data_dir / "aikeys.db"

    @property
    def key_file(self) -> Path:
        return self.seal_key_file or self.data_dir / "aikeys.key"

    @property
    def host(self) -> str:
        return self.listen.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.listen.rpartition(":")[2])

    @property
    def tls(self) -> bool:
        return self.tls_cert_file is not None

    @property
    def loopback(self) -> bool:
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def proxy_networks(self) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
        return tuple(ipaddress.ip_network(item, strict=False) for item in self.trusted_proxies)

    # -- checks -------------------------------------------------------------------------------------------------

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def _split(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(item.strip() for item in value.split(",") if item.strip())
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for item in value:
            try:
                ipaddress.ip_network(item, strict=False)
            except ValueError:
                raise ValueError(f"{item!r} is no network; write it like 10.0.0.0/8 or ::1/128") from None
        return value

    @field_validator("listen")
    @classmethod
    def _address(cls, value: str) -> str:
        host, colon, port = value.rpartition(":")
        if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError("write it as host:port, such as 127.0.0.1:8210 or [::1]:8210")
        return value

    @field_validator("upstream_addr")
    @classmethod
    def _origin(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("write it as http://host:port or https://host:port")
        if parts.path not in {"", "/"} or parts.query or parts.fragment or parts.username:
            raise ValueError("give scheme, host and port only: no path, no query, no user")
        return value.rstrip("/")

    @field_validator(
        "tls_cert_file", "tls_key_file", "upstream_ca_file", "auth_role_id_file"
    )  # secrets that others put there later are read when they are needed
    @classmethod
    def _readable(cls, value: Path | None) -> Path | None:
        if value is not None and not os.access(value, os.R_OK):
            raise ValueError(f"{value} does not exist or cannot be read by this user")
        return value

    @model_validator(mode="after")
    def _together(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError(
                f"{PREFIX}TLS_CERT_FILE and {PREFIX}TLS_KEY_FILE belong together: set both or none"
            )
        if self.auth_method == "approle":
            if (self.auth_role_id is None) == (self.auth_role_id_file is None):
                raise ValueError(
                    f"the auth method approle needs {PREFIX}AUTH_ROLE_ID or {PREFIX}AUTH_ROLE_ID_FILE (one of them)"
                )
            if self.auth_secret_id_file is not None and self.auth_wrapped_secret_id_file is not None:
                raise ValueError(
                    f"{PREFIX}AUTH_SECRET_ID_FILE and {PREFIX}AUTH_WRAPPED_SECRET_ID_FILE exclude each other"
                )
        if self.auth_method == "kubernetes" and not self.auth_kubernetes_role:
            raise ValueError(f"the auth method kubernetes needs {PREFIX}AUTH_KUBERNETES_ROLE")
        if self.auth_method == "token_file" and self.auth_token_file is None:
            raise ValueError(f"the auth method token_file needs {PREFIX}AUTH_TOKEN_FILE")
        return self


@contextmanager
def _with_file(path: Path | None) -> Iterator[None]:
    values: dict[str, Any] = {}
    if path is not None:
        try:
            values = tomllib.loads(path.read_text())
        except OSError as error:
            raise SettingsError(f"cannot read the settings file {path}: {error.strerror}") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError(f"the settings file {path} is no valid TOML: {error}") from error
        unknown = sorted(set(values) - set(Settings.model_fields))
        if unknown:
            raise SettingsError(
                f"the settings file {path} has keys that are no settings: {', '.join(unknown)}; "
                f"there are: {', '.join(sorted(Settings.model_fields))}"
            )
    token = _file_values.set(values)
    try:
        yield
    finally:
        _file_values.reset(token)


def load_settings(path: Path | None = None, **given: Any) -> Settings:
    """Environment, then the TOML file at `path`, then defaults; `given` comes before all of them.

    Raises `SettingsError` that names every wrong setting, what it is and what it should be.
    """
    with _with_file(path):
        try:
            return Settings(**given)
        except ValidationError as error:
            raise SettingsError(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors(include_input=False, include_url=False, include_context=False):
        text = problem["msg"].removeprefix("Value error, ")
        name = str(problem["loc"][0]) if problem["loc"] else ""
        if not name:
            lines.append(text)
            continue
        name = name.removeprefix(PREFIX).lower()
        field = Settings.model_fields.get(name)
        purpose = f" ({field.description})" if field is not None and field.description else ""
        lines.append(f"{PREFIX}{name.upper()}{purpose}: {text}")
    return "wrong settings:\n" + "\n".join(f"  - {line}" for line in lines)
