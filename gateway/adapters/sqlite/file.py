"""SQLite files as this program uses them: WAL, every commit synced, errors turned into ours at this edge."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

from gateway.adapters.durable_files import sync_folder
from gateway.errors import DamagedStoreError, SchemaError, StoreError

# A commit writes every page it touches, and a few events each touch their own: of 8 KiB they are 1.6 times the bytes,
# and large batches are no faster.
PAGE_BYTES = 4096
BUSY_TIMEOUT_S = 10.0
_FULL_DISK_BYTES = 65_536


@contextlib.contextmanager
def store_errors(path: Path) -> Iterator[None]:
    """Turn the driver's exceptions into StoreError that names the file and how to mend it; not those about a row."""
    try:
        yield
    except (sqlite3.IntegrityError, sqlite3.DataError):
        # A row breaks a rule: that is no fault of the store, and who wrote it finds out which one it was.
        raise
    except sqlite3.Error as error:
        raise _of(path, error) from error
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror or error}") from error


def damaged(path: Path, problem: str) -> DamagedStoreError:
    """The error of a file whose content is at fault."""
    return DamagedStoreError(
        f"{path} is damaged ({problem}); stop the program and move the file away to go on without it"
    )


def _of(path: Path, error: sqlite3.Error) -> StoreError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path, str(error))
    # The shared memory of a log cannot be made on a full disk, which SQLite calls an I/O error.
    if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and _disk_is_full(path)):
        return StoreError(f"{path}: no space left ({error})")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
        mend = "check the owner and the mode of the file and its folder"
        return StoreError(f"{path} cannot be written ({error}); {mend}")
    return StoreError(f"{path}: {error}")


def _disk_is_full(path: Path) -> bool:
    try:
        disk = os.statvfs(path.parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _FULL_DISK_BYTES


def open_store(
    path: Path,
    schema: str,
    version: int,
    migrations: Mapping[int, str] | None = None,
    *,
    checkpoint_bytes: int,
    cache_bytes: int,
) -> sqlite3.Connection:
    """A writing connection in autocommit mode; an empty file gets `schema`, which is marked with `version`.

    `migrations` lead from each older version to the next one.

    May be used by any thread, by one at a time. Raises StoreError, or SchemaError for a file with a newer version.
    """
    if (other := _no_file(path)) is not None:
        raise StoreError(f"{path} is {other}, not a file; move it away")
    make_private(path)
    with store_errors(path):
        # Statements for thousands of rows are large: a small cache of them, each worth keeping.
        connection = sqlite3.connect(
            path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False, cached_statements=24
        )
        try:
            _prepare(connection, path, schema, version, migrations or {})
            connection.execute("PRAGMA synchronous = FULL")
            # Some builds fill freed pages with zeros, and so write them all once more: of rows that were only moved.
            connection.execute("PRAGMA secure_delete = OFF")
            # A file keeps the pages it was made with.
            page_bytes = int(connection.execute("PRAGMA page_size").fetchone()[0])
            connection.execute(f"PRAGMA wal_autocheckpoint = {checkpoint_bytes // page_bytes}")
            # A long read keeps the log growing; after it the file gets small again.
            connection.execute(f"PRAGMA journal_size_limit = {2 * checkpoint_bytes}")
            connection.execute(f"PRAGMA cache_size = -{cache_bytes // 1024}")
        except BaseException:
            connection.close()
            raise
        return connection


def _no_file(path: Path) -> str | None:
    """What is there in place of a file; None: a file, or nothing yet. SQLite makes a file that a link leads to."""
    if path.is_dir():
        return "a folder"
    if path.exists():
        return None if path.is_file() else "a pipe, a socket or a device"
    leads_to = Path(os.path.realpath(path))
    if path.is_symlink() and not leads_to.parent.is_dir():
        return f"a symbolic link to {leads_to}, whose folder is missing"
    return None


def make_private(path: Path) -> None:
    """Make the file before SQLite does: its log and shared memory get its mode. What fails here SQLite tells better."""
    # Never one that is there: closing it would drop the locks that this process has on it.
    with contextlib.suppress(OSError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))


def _prepare(
    connection: sqlite3.Connection, path: Path, schema: str, version: int, migrations: Mapping[int, str]
) -> None:
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    found = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if found > version:
        raise SchemaError(
            f"{path} has schema {found}, this version knows {version}; use a newer version of the program"
        )
    if found == version:
        return
    connection.execute("PRAGMA journal_mode = WAL")
    script = schema if found == 0 else "".join(migrations[older] for older in range(found, version))
    # One transaction, so that a crash leaves either nothing or all of it.
    connection.executescript(f"BEGIN; {script} PRAGMA user_version = {version}; COMMIT;")
    if found == 0:
        sync_folder(path.parent)


def checkpoint(connection: sqlite3.Connection) -> None:
    """Move the log into the file and empty it; while a reader is active as far as possible, without a wait."""
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT_S * 1000)}")


def open_reader(path: Path) -> sqlite3.Connection:
    """A connection that only reads, for use by one thread at a time. Raises StoreError."""
    with store_errors(path):
        connection = sqlite3.connect(
            f"{path.as_uri()}?mode=rw", uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA query_only = ON")
        return connection


def make_folder(folder: Path) -> None:
    """Make a folder that only its owner may read, and its name durable. Raises StoreError."""
    with store_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_folder(folder.parent)


def remove_store(path: Path) -> None:
    """Delete a database with its log; no writing connection may be open."""
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    sync_folder(path.parent)
