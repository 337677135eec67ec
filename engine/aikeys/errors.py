"""The errors a user can meet that no narrower module owns.

Every message says what happened and, where a reader can act, what to do next. None holds a secret:
whoever raises one passes foreign text through `aikeys.redaction` first.
"""


class AikeysError(Exception):
    """Root of every error this package raises on purpose."""


class SettingsError(AikeysError):
    """A setting is missing or wrong; the message names it, what was found and what is allowed."""


class StorageError(AikeysError):
    """The database could not do what was asked; nothing was changed."""


class DiskFull(StorageError):
    """There is no space left for the database; nothing was changed."""


class SealError(AikeysError):
    """The data key could not be wrapped or unwrapped: wrong key file, changed file, seal out of reach."""
