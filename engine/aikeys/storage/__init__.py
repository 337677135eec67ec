"""Where the engine keeps what must survive: one store, sealed, in one database."""

from aikeys.storage.store import SqlStore, open_store

__all__ = ["SqlStore", "open_store"]
