"""The data folder: made at first start, readable by its owner only, used by one process at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

from gateway.errors import DataFolderError
from gateway.telemetry.log import Log

LOCK_NAME = "lock"
_log = Log("app")


class DataFolder:
    """An open data folder. The locks are the kernel's, so that a crash releases them.

    The folder is locked, and the file `lock` in it, where others look for who it is: a file can be removed, and the
    next process would lock another one of its name.
    """

    def __init__(self, path: Path, locks: list[int]) -> None:
        self.path = path
        self._locks = locks

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> DataFolder:
        """Make the folder if it is missing (mode 0700) and lock it for this process.

        Raises DataFolderError when it is not a folder, cannot be written, or another process holds it.
        """
        folder = Path(path).absolute()
        locks: list[int] = []
        try:
            _make(folder)
            locks.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            _lock_folder(locks[0])
            locks.append(_lock_file(folder / LOCK_NAME))
        except BlockingIOError as error:
            _close(locks)
            raise DataFolderError(
                f"data.folder: {folder} is in use by the process {_holder(folder)}; one folder belongs to one process"
            ) from error
        except (FileExistsError, NotADirectoryError) as error:
            _close(locks)
            raise DataFolderError(f"data.folder: {folder} is not a folder; name another one") from error
        except OSError as error:
            _close(locks)
            if error.errno == errno.ELOOP:
                raise DataFolderError(f"data.folder: {folder / LOCK_NAME} is a symbolic link; remove it") from error
            raise DataFolderError(
                f"data.folder: {folder} cannot be written: {error.strerror}{_owner(folder)}"
            ) from error
        return cls(folder, locks)

    def close(self) -> None:
        """Release the locks; harmless when called again."""
        _close(self._locks)


def _owner(folder: Path) -> str:
    """Whose it is, when that may be why: a volume often belongs to root."""
    try:
        owner = folder.stat().st_uid
    except OSError:
        return ""
    own = os.geteuid()
    return "" if owner == own else f"; it belongs to user {owner}, this is user {own}: chown {own} it"


def _make(folder: Path) -> None:
    """A folder that was there keeps its mode: it may hold other things, and belong to another user."""
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if not folder.is_dir():
            raise
        mode = folder.stat().st_mode & 0o777
        if mode & 0o077:
            _log.warning("data_folder_open_to_others", folder=str(folder), mode=f"{mode:04o}")


def _lock_folder(descriptor: int) -> None:
    """Raises BlockingIOError when another process has it. Some network file systems lock files only."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        _log.warning("data_folder_not_locked", error=error.strerror)


def _lock_file(path: Path) -> int:
    """A descriptor of the locked file, which names this process. Raises BlockingIOError when another one has it."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.lexists(path) and os.path.samestat(os.fstat(lock), os.lstat(path)):
                os.ftruncate(lock, 0)
                os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
                return lock
        except BaseException:
            os.close(lock)
            raise
        # It was removed between the two calls: lock the one that has the name.
        os.close(lock)


def _holder(folder: Path) -> str:
    try:
        return (folder / LOCK_NAME).read_text(errors="replace")[:32].strip() or "unknown"
    except OSError:
        return "unknown"


def _close(locks: list[int]) -> None:
    # The file stays: removing it would let two processes lock two files of the same name.
    while locks:
        os.close(locks.pop())
