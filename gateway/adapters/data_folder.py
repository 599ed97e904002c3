"""The data folder: made at first start, readable by its owner only, used by one process at a time."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from gateway.errors import DataFolderError


class DataFolder:
    """An open data folder. The lock is the kernel's, so that a crash releases it."""

    def __init__(self, path: Path, lock: int) -> None:
        self.path = path
        self._lock = lock

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> DataFolder:
        """Make the folder if it is missing (mode 0700) and lock it for this process.

        Raises DataFolderError when it is not a folder, cannot be written, or another process holds it.
        """
        folder = Path(path).absolute()
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder.chmod(0o700)
            lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except (FileExistsError, NotADirectoryError) as error:
            raise DataFolderError(f"data.folder: {folder} is not a folder; name another one") from error
        except OSError as error:
            raise DataFolderError(f"data.folder: {folder} cannot be written: {error.strerror}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
        except BlockingIOError as error:
            holder = os.pread(lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(lock)
            raise DataFolderError(
                f"data.folder: {folder} is in use by the process {holder}; one folder belongs to one process"
            ) from error
        except OSError as error:
            os.close(lock)
            raise DataFolderError(f"data.folder: {folder} cannot be written: {error.strerror}") from error
        return cls(folder, lock)

    def close(self) -> None:
        """Release the lock; harmless when called again."""
        if self._lock >= 0:
            # The file stays: removing it would let two processes lock two files of the same name.
            os.close(self._lock)
            self._lock = -1
