"""One process's sidecar, made from its settings: the only place that knows every part."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from aikeys.backoff import Backoff
from aikeys.engine.backend import build_backend
from aikeys.engine.entries import CONFIG, LEAK, LEASES, REVOKE, ROLES, TIDY
from aikeys.engine.services import Services
from aikeys.errors import SettingsError
from aikeys.framework.backend import Backend
from aikeys.framework.clock import Clock, SystemClock
from aikeys.framework.request import Mount, Operation, Request
from aikeys.framework.response import EngineError, Secret
from aikeys.leases.bulk import BulkRevocation
from aikeys.leases.expiry import Background
from aikeys.leases.manager import LeaseManager
from aikeys.leases.settings import LeaseSettings
from aikeys.minting.bounds import MintBounds
from aikeys.minting.minter import Minter
from aikeys.minting.resolver import IntentResolver
from aikeys.redaction import SecretString
from aikeys.relays import registry
from aikeys.seals.keyfile import KeyFileSeal
from aikeys.settings import Settings
from aikeys.sidecar.context import Sidecar
from aikeys.sidecar.identity import Identity
from aikeys.sidecar.intercepts import Reconciler
from aikeys.sidecar.login import (
    AppRoleLogin,
    KubernetesLogin,
    Login,
    LoginRefused,
    TokenFileLogin,
    read_credential,
)
from aikeys.sidecar.mount_table import MountTable
from aikeys.sidecar.own_identity import OwnIdentity
from aikeys.sidecar.references import ReferenceReader
from aikeys.sidecar.shadow import Shadow
from aikeys.sidecar.tidying import LOOK_EVERY, Tidying
from aikeys.sidecar.token_sweep import TokenSweep
from aikeys.sidecar.upkeep import Upkeep
from aikeys.sidecar.upstream import Bounds, Upstream
from aikeys.sidecar.witness import Witness
from aikeys.sidecar.wrapped_answers import WrappedAnswers
from aikeys.storage import open_store, reserve
from aikeys.storage.interface import Store
from aikeys.transport import KeepAliveTransport, tls_context


class EngineCallbacks:
    """A lease's renewal and revocation, as requests to the engine."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def renew(self, secret: Secret, mount: Mount) -> Secret:
        response = self._backend.handle(Request(Operation.RENEW, "", mount, secret=secret))
        if response is None or response.secret is None:
            raise EngineError("the engine renewed nothing")
        return response.secret

    def revoke(self, secret: Secret, mount: Mount) -> dict[str, Any]:
        response = self._backend.handle(Request(Operation.REVOKE, "", mount, secret=secret))
        return dict(response.data or {}) if response is not None else {}


class ServedPaths:
    """Where the engine has objects, so that the shadow must have markers."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __call__(self, mount: Mount) -> Iterable[str]:
        yield from (TIDY, LEAK, REVOKE, LEASES)
        entries = self._store.entries(mount.uuid)
        if entries.get(CONFIG) is not None:
            yield CONFIG
        for name in entries.list(ROLES):
            yield ROLES + name
            yield "creds/" + name


def open_sidecar(settings: Settings, *, login: Login | None = None, clock: Clock | None = None) -> Sidecar:
    """Everything connected, nothing started. To be called after a fork, once in each process.

    Raises `SettingsError`, `StorageError`, `SealError`.
    """
    clock = clock or SystemClock()
    upstream = make_upstream(settings, clock)
    own = OwnIdentity(upstream, login or make_login(settings), clock=clock)
    store = open_database(settings, clock)
    mounts = MountTable(store)
    bounds = MintBounds()
    minter = Minter(store, clock, bounds)
    services = Services.of_store(
        store, minter, registry, clock, ReferenceReader(own, mounts), bulk=lambda: bulk
    )
    backend = build_backend(services)
    lease_settings = _lease_settings(settings)
    leases = LeaseManager(store, clock, EngineCallbacks(backend), mounts.by_uuid, lease_settings)
    bulk = BulkRevocation(store, clock, leases)
    resolver = IntentResolver(store, clock, services.connections.driver, bounds)
    background = Background(store, leases, resolver, clock, lease_settings)
    minter.unsettled = background.settle_soon
    shadow = Shadow(own, ServedPaths(store))
    assert services.sweep is not None
    services.sweep.wake = background.settle_soon
    tidying = Tidying(
        store,
        clock,
        sweep=services.sweep,
        connections=services.connections,
        mounts=mounts,
        interval=settings.tidy_interval,
    )
    sidecar = Sidecar(
        settings=settings,
        clock=clock,
        store=store,
        backend=backend,
        connections=services.connections,
        minter=minter,
        leases=leases,
        background=background,
        upstream=upstream,
        own=own,
        mounts=mounts,
        shadow=shadow,
        identity=Identity(own, cache_seconds=settings.identity_cache, clock=clock),
        wrapped=WrappedAnswers(store),
        token_sweep=TokenSweep(
            store,
            leases,
            own,
            Witness(store, own, mounts, shadow, clock=clock, interval=settings.token_sweep_interval),
            clock=clock,
            interval=settings.token_sweep_interval,
            rate=max(1.0, settings.token_sweep_rate / settings.workers),
        ),
        upkeep=Upkeep(settings.reconcile_interval),
        tidying=Upkeep(min(settings.tidy_interval, LOOK_EVERY), tidying.run),
    )
    sidecar.upkeep.task = Reconciler(sidecar).run
    return sidecar


def _lease_settings(settings: Settings) -> LeaseSettings:
    probe = settings.relay_probe_interval
    return LeaseSettings(
        workers=settings.revocation_workers,
        backoff=Backoff(settings.revocation_retry_base, settings.revocation_retry_longest),
        probe=probe,
        hasten=2 * probe,
    )


def make_upstream(settings: Settings, clock: Clock | None = None) -> Upstream:
    try:
        tls = (
            tls_context(str(settings.upstream_ca_file or ""))
            if settings.upstream_addr.startswith("https")
            else None
        )
    except ValueError as error:
        raise SettingsError(f"AIKEYS_UPSTREAM_CA_FILE: {error}") from error
    return Upstream(
        settings.upstream_addr,
        KeepAliveTransport(tls=tls),
        bounds=Bounds(
            connect_timeout=settings.upstream_connect_timeout,
            timeout=settings.upstream_timeout,
            idle_timeout=settings.upstream_idle_timeout,
        ),
        clock=clock,
    )


def make_login(settings: Settings, secret_id: SecretString | None = None) -> Login:
    """`secret_id` is what the wrapping token held, where it has been spent already."""
    mount = settings.auth_mount or settings.auth_method
    match settings.auth_method:
        case "kubernetes":
            return KubernetesLogin(
                role=settings.auth_kubernetes_role, jwt_file=settings.auth_kubernetes_jwt_file, mount=mount
            )
        case "token_file":
            assert settings.auth_token_file is not None
            return TokenFileLogin(settings.auth_token_file)
        case "approle":
            return AppRoleLogin(
                role_id=SecretString(_role_id(settings)),
                mount=mount,
                secret_id_file=settings.auth_secret_id_file,
                wrapped_secret_id_file=settings.auth_wrapped_secret_id_file,
                unwrapped=secret_id,
            )


def _role_id(settings: Settings) -> str:
    if settings.auth_role_id is not None:
        return settings.auth_role_id.get_secret_value()
    assert settings.auth_role_id_file is not None
    try:
        return read_credential(settings.auth_role_id_file, "the role id")
    except LoginRefused as error:
        raise SettingsError(f"AIKEYS_AUTH_ROLE_ID_FILE: {error}") from error


def open_database(settings: Settings, clock: Clock) -> Store:
    """The store in the data folder, which is made (0700) when it is missing."""
    folder: Path = settings.data_dir
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"AIKEYS_DATA_DIR: cannot make the folder {folder}: {error.strerror}") from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise SettingsError(f"AIKEYS_DATA_DIR: {folder} must be readable and writable for this user")
    return open_store(settings.database, KeyFileSeal(settings.key_file), clock=clock, reserve=reserve.SIZE)


def start_sidecar(sidecar: Sidecar) -> None:
    """Everything that runs beside the requests. Once in each process, after the fork."""
    sidecar.own.start()
    sidecar.background.start()
    sidecar.token_sweep.start()
    sidecar.upkeep.start()
    if sidecar.settings.tidy_interval:
        sidecar.tidying.start()


def close_sidecar(sidecar: Sidecar, timeout: float = 10.0) -> None:
    """Stop what runs in the background and let go of everything. What was not finished is on record."""
    sidecar.upkeep.stop()
    sidecar.tidying.stop()
    sidecar.token_sweep.stop()
    sidecar.background.stop(timeout)
    sidecar.own.stop()
    sidecar.own.log_out()
    sidecar.connections.close()
    sidecar.upstream.close()
    sidecar.store.close()
