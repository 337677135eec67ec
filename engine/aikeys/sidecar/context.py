"""The sidecar's parts, wired together once per process: the composition root that every handler is given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aikeys.framework.clock import Clock
from aikeys.settings import Settings
from aikeys.sidecar.identity import Identity
from aikeys.sidecar.mount_table import MountTable
from aikeys.sidecar.own_identity import OwnIdentity
from aikeys.sidecar.shadow import Shadow
from aikeys.sidecar.token_sweep import TokenSweep
from aikeys.sidecar.upkeep import Upkeep
from aikeys.sidecar.upstream import Upstream
from aikeys.sidecar.wrapped_answers import WrappedAnswers
from aikeys.storage.interface import Store

if TYPE_CHECKING:
    from aikeys.engine.connections import Connections
    from aikeys.framework.backend import Backend
    from aikeys.leases.expiry import Background
    from aikeys.leases.manager import LeaseManager
    from aikeys.minting.minter import Minter


@dataclass(slots=True)
class Sidecar:
    """One process's parts. `build.open_sidecar` makes it; nothing in here starts by being constructed."""

    settings: Settings
    clock: Clock
    store: Store
    backend: Backend
    connections: Connections
    minter: Minter
    leases: LeaseManager
    background: Background
    upstream: Upstream
    own: OwnIdentity
    mounts: MountTable
    shadow: Shadow
    identity: Identity
    wrapped: WrappedAnswers
    token_sweep: TokenSweep
    upkeep: Upkeep
    tidying: Upkeep
