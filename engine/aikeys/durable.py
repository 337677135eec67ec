"""Names that survive a power cut: a file's content is synced with the file, its name with the folder that holds it."""

from __future__ import annotations

import os
from pathlib import Path


def sync_names(folder: Path) -> None:
    """Make sure of the names in `folder`, of its own, and of those of all folders above it.

    Also of those that were there already: an earlier process may have made them and have been killed before it could
    make sure. OSError when that fails; a folder above that may not be read was not made by us.
    """
    folder = folder.resolve()
    for directory in (folder, *folder.parents):
        try:
            descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except PermissionError:
            if directory == folder:
                raise
            return
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
