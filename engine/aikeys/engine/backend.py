"""The engine as one backend: its path families, its secret type, its root help."""

from __future__ import annotations

from aikeys import __version__
from aikeys.engine.config import config_path
from aikeys.engine.creds import SECRET_TYPE, creds_path
from aikeys.engine.leak import leak_path
from aikeys.engine.leases import leases_path
from aikeys.engine.renewal import Renewal
from aikeys.engine.revocation import Revocation
from aikeys.engine.revoke import revoke_path
from aikeys.engine.roles import role_paths
from aikeys.engine.services import Services
from aikeys.engine.tidy import tidy_path
from aikeys.framework.backend import Backend, SecretType

NAME = "ai-keys"
HELP = """
The AI keys backend mints short-lived API keys at an AI relay.

Configure the relay with "config" and describe what keys may do with "roles/". Reading "creds/<role>" then mints a
key under a lease; when the lease ends, the relay refuses the key. "leases" shows how that goes, "tidy" finds keys
that no lease knows, "leak" the lease of a key that was found, and "revoke" ends all leases of a role, an entity, a
login or a token.
"""


def build_backend(services: Services) -> Backend:
    renewal = Renewal(services)
    revocation = Revocation(services)
    paths = [config_path(services), *role_paths(services), creds_path(services)]
    if services.books is not None:
        paths.append(leases_path(services.books))
    if services.sweep is not None:
        paths.append(tidy_path(services, services.sweep))
    if services.bulk is not None:
        paths += [leak_path(services, services.bulk), revoke_path(services.bulk)]
    return Backend(
        name=NAME,
        version=__version__,
        help_text=HELP,
        paths=paths,
        secrets=[SecretType(SECRET_TYPE, renew=renewal.renew, revoke=revocation.revoke)],
    )
