"""Small files that are replaced as a whole."""

from __future__ import annotations

import os
from pathlib import Path

from gateway.adapters.sqlite.file import sync_folder

# Not through a symbolic link that somebody else has put there.
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
