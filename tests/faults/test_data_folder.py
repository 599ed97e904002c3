"""The data folder: one process at a time, readable by its owner, and nothing that is not ours is touched."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.adapters.data_folder import DataFolder
from gateway.adapters.dead_letters import DeadLetterFile
from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.adapters.sqlite.spool import SQLiteSpool
from gateway.errors import DataFolderError, StoreError
from gateway.locations.batch import DeviceEvents
from gateway.locations.outcome import Rejection
from gateway.locations.query import Query
from tests.support.locations import ManualClock, event


def group(number: int) -> list[DeviceEvents]:
    return [DeviceEvents("a", "d", [event(f"{number}-{k}") for k in range(5)])]


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def opened_by_another_process(path: Path) -> str:
    """What it says when it opens a data folder; empty: it could."""
    other = subprocess.run(
        [sys.executable, "-c", f"from gateway.adapters.data_folder import DataFolder; DataFolder.open({str(path)!r})"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    return other.stderr


def test_a_data_folder_belongs_to_one_process(tmp_path: Path) -> None:
    path = tmp_path / "new" / "data"
    folder = DataFolder.open(path)
    assert path.stat().st_mode & 0o777 == 0o700
    assert (path / "lock").stat().st_mode & 0o777 == 0o600
    assert f"in use by the process {os.getpid()}" in opened_by_another_process(path)
    with pytest.raises(DataFolderError, match="in use"):
        DataFolder.open(path)
    folder.close()
    folder.close()
    DataFolder.open(path).close()


def test_a_lock_left_by_a_crash_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("99999999\n")
    folder = DataFolder.open(tmp_path)
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    folder.close()


def test_a_file_is_not_a_data_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataFolderError, match="is not a folder"):
            DataFolder.open(path)


def test_a_folder_that_cannot_be_written_is_named() -> None:
    with pytest.raises(DataFolderError, match="/proc/heiwa cannot be written"):
        DataFolder.open("/proc/heiwa")


def test_a_lock_that_was_removed_lets_nobody_in(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path)
    (tmp_path / "lock").unlink()
    assert "in use by the process unknown" in opened_by_another_process(tmp_path)
    with pytest.raises(DataFolderError, match="in use"):
        DataFolder.open(tmp_path)
    folder.close()
    assert opened_by_another_process(tmp_path) == ""


def test_who_locks_the_file_only_is_respected(tmp_path: Path) -> None:
    """As older versions do."""
    with (tmp_path / "lock").open("w+") as lock:
        lock.write("4711\n")
        lock.flush()
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataFolderError, match="in use by the process 4711"):
            DataFolder.open(tmp_path)
    DataFolder.open(tmp_path).close()


@pytest.mark.parametrize("through_a_link", [False, True])
def test_a_folder_that_was_there_keeps_its_mode_and_it_is_said(
    tmp_path: Path, through_a_link: bool, caplog: pytest.LogCaptureFixture
) -> None:
    real = tmp_path / "real"
    real.mkdir()
    real.chmod(0o755)
    path = tmp_path / "link" if through_a_link else real
    if through_a_link:
        path.symlink_to(real)
    DataFolder.open(path).close()
    assert real.stat().st_mode & 0o777 == 0o755
    assert [record.getMessage() for record in caplog.records] == ["data_folder_open_to_others"]
    real.chmod(0o700)
    DataFolder.open(path).close()
    assert len(caplog.records) == 1


def test_a_lock_that_is_a_link_truncates_nothing(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep me")
    (tmp_path / "lock").symlink_to(tmp_path / "precious")
    with pytest.raises(DataFolderError, match="symbolic link"):
        DataFolder.open(tmp_path)
    assert (tmp_path / "precious").read_text() == "keep me"


async def test_dead_letters_do_not_follow_a_link(tmp_path: Path) -> None:
    (tmp_path / "dead").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        await DeadLetterFile(tmp_path / "dead", ManualClock()).append([(group(1)[0], Rejection("bad"))])
    assert names(tmp_path) == ["dead"]


async def test_all_files_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        DataFolder.open(tmp_path / "data").close()
        index, spool = (
            SQLiteLocationIndex(tmp_path / "data/locations", ManualClock()),
            SQLiteSpool(tmp_path / "data/s.db"),
        )
        workflows = SqlWorkflowStore(parse_url(f"sqlite:///{tmp_path}/data/w.db"))
        await index.open()
        await spool.open()
        await workflows.open()
        await index.write(group(1))
        await spool.append(group(1))
        await index.search("a", Query())
        await DeadLetterFile(tmp_path / "data/dead", ManualClock()).append([(group(1)[0], Rejection("bad"))])
        modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "data").rglob("*")}
        await index.close()
        await spool.close()
        await workflows.close()
    finally:
        os.umask(before)
    assert modes.pop("locations") == 0o700
    assert set(modes.values()) == {0o600}, modes
    assert {"lock", "s.db", "s.db-wal", "s.db.manifest", "w.db", "w.db-wal", "dead", "manifest.json"} <= set(modes)
