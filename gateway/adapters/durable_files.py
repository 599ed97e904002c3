"""Files that survive a crash: their names, and small ones that are replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path

# Not through a symbolic link that another user has put there.
_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC


def write_whole(path: Path, content: bytes) -> None:
    """Let a file that only this user can read hold `content`, durably and all of it or nothing. Raises OSError."""
    beside = path.with_name(f"{path.name}.new")
    with os.fdopen(os.open(beside, _FLAGS, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` durable: a synced file whose name is lost is lost too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
