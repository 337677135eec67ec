"""What is done once, before any worker: the database is tried, and a wrapped secret id is spent.

In a process of its own that ends afterwards, so that the one that looks after the workers stays small.
"""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from aikeys.errors import AikeysError
from aikeys.redaction import SecretString
from aikeys.settings import Settings


def prepare(settings: Settings) -> SecretString | None:
    """The secret id that a wrapping token held, None where none is wrapped.

    Raises `AikeysError` for what keeps the sidecar from serving: a database or a credential that is wrong, an upstream
    that cannot be asked for the wrapped secret id.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as apart:
        try:
            secret_id, problem = apart.submit(_prepare, settings).result()
        except BrokenProcessPool:
            raise AikeysError("the check of database and identity was ended before it was over") from None
    if problem:
        raise AikeysError(problem)
    return SecretString(secret_id) if secret_id else None


def _prepare(settings: Settings) -> tuple[str, str]:
    """The secret id, or what is wrong: as texts, which are all that passes between processes."""
    from aikeys.framework.clock import SystemClock
    from aikeys.sidecar.build import make_login, make_upstream, open_database

    try:
        open_database(settings, SystemClock()).close()
        login = make_login(settings)
        upstream = make_upstream(settings)
        try:
            secret_id = login.prepare(upstream)
        finally:
            upstream.close()
    except AikeysError as error:
        return "", str(error)
    return (secret_id.reveal() if secret_id is not None else "", "")
