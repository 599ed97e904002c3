"""Nothing is called durable before it is synced: files, their logs, the names of new ones. A `kill -9` cannot tell."""

import subprocess
import sys
from pathlib import Path

import pytest

from gateway.adapters.sqlite import file as sqlite_file
from tests.support.program import Program, location, receive, send
from tests.support.traced import Step, steps, strace, synced_before

SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from gateway.adapters.dead_letters import DeadLetterFile
from gateway.adapters.sql.engine import parse_url
from gateway.adapters.sql.store import SqlWorkflowStore
from gateway.adapters.sqlite.manifest import Manifest
from gateway.adapters.sqlite.file import make_folder, open_store
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.adapters.sqlite.spool import SQLiteSpool
from gateway.identity.key_files import local_key
from gateway.locations.batch import DeviceEvents
from gateway.locations.outcome import Rejection
from gateway.workflows.records import NewRun
from tests.support.locations import DAY_MS, NOON_MS, ManualClock, event

folder = Path(sys.argv[1])

def say(text):
    os.write(1, f"said {text}.\\n".encode())

def group(name, time_ms=NOON_MS):
    return DeviceEvents("a", "d", [event(name, time_ms)])

async def main():
    index, spool = SQLiteLocationIndex(folder / "locations", ManualClock()), SQLiteSpool(folder / "spool.db")
    letters = DeadLetterFile(folder / "dead.jsonl", ManualClock())
    await index.open()
    await spool.open()
    say("opened")
    for number in range(3):
        await index.write([group(f"{number}")])
        say(f"indexed {number}")
    await index.write([group("yesterday", NOON_MS - DAY_MS)])
    say("indexed yesterday")
    await index.write([DeviceEvents("a", f"new{n}", [event("x")]) for n in range(9)])
    say("indexed new devices")
    for number in range(3):
        await spool.append([group(f"{number}"), group("more")])
        say(f"spooled {number}")
    record = await spool.oldest()
    await spool.keep(record.number, [group("0")])
    say("kept")
    await spool.remove(record.number)
    say("removed")
    for number in range(2):
        await letters.append([(group(f"{number}"), Rejection("bad"))])
        say(f"buried {number}")
    local_key(folder)
    say("key made")
    manifest = Manifest(folder / "a.manifest")
    manifest.held("a", 5)
    manifest.save()
    say("manifest saved")
    open_store(folder / "plain.db", "CREATE TABLE t (x);", 1, checkpoint_bytes=1 << 20, cache_bytes=1 << 20)
    say("store made")
    make_folder(folder / "new")
    say("folder made")
    runs = SqlWorkflowStore(parse_url(f"sqlite:///{folder}/workflows.db"))
    await runs.open()
    say("workflows opened")
    spec = b'{"name": "n", "nodes": {}}'
    await runs.put_definition("a", "n", spec, "digest", NOON_MS)
    say("definition put")
    await runs.create([NewRun("r", "a", "n", 1, {}, NOON_MS)], None)
    say("run created")
    await runs.signal("r", "cancel", None, NOON_MS)
    say("signal stored")
    await runs.close()
    await index.close()
    await spool.close()

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Step]]:
    """The folder, and what the script did."""
    root = tmp_path_factory.mktemp("synced")
    folder = root / "data"
    command = [*strace(root / "trace"), sys.executable, "-c", SCRIPT, str(folder)]
    subprocess.run(command, check=True, cwd=Path(__file__).parents[2], capture_output=True, timeout=100)
    return folder, steps(root / "trace")


@pytest.mark.parametrize(
    ("said", "after", "file"),
    [
        ("opened", "", "spool.db"),
        ("opened", "", ""),
        ("indexed 0", "opened", "locations/locations-2026-09-21.db-wal"),
        ("indexed 0", "opened", "locations"),
        ("indexed 1", "indexed 0", "locations/locations-2026-09-21.db-wal"),
        ("indexed 2", "indexed 1", "locations/locations-2026-09-21.db-wal"),
        ("indexed yesterday", "indexed 2", "locations/locations-2026-09-20.db-wal"),
        ("indexed yesterday", "indexed 2", "locations"),
        ("indexed new devices", "indexed yesterday", "locations/locations-2026-09-21.db-wal"),
        ("spooled 0", "indexed new devices", "spool.db-wal"),
        ("spooled 1", "spooled 0", "spool.db-wal"),
        ("spooled 2", "spooled 1", "spool.db-wal"),
        ("kept", "spooled 2", "spool.db-wal"),
        ("removed", "kept", "spool.db-wal"),
        ("buried 0", "removed", "dead.jsonl"),
        ("buried 0", "removed", ""),
        ("buried 1", "buried 0", "dead.jsonl"),
        ("key made", "buried 1", "key"),
        ("key made", "buried 1", ""),
        ("manifest saved", "key made", "a.manifest.new"),
        ("manifest saved", "key made", ""),
        ("store made", "manifest saved", "plain.db-wal"),
        ("store made", "manifest saved", ""),
        ("folder made", "store made", ""),
        ("workflows opened", "folder made", "workflows.db-wal"),
        ("workflows opened", "folder made", ""),
        ("definition put", "workflows opened", "workflows.db-wal"),
        ("run created", "definition put", "workflows.db-wal"),
        ("signal stored", "run created", "workflows.db-wal"),
    ],
)
def test_what_is_told_is_on_disk(traced: tuple[Path, list[Step]], said: str, after: str, file: str) -> None:
    """`file` empty: the data folder itself, which holds the name of a new file."""
    folder, found = traced
    synced = synced_before(found, f"said {said}.", f"said {after}." if after else "")
    wanted = str(folder / file) if file else str(folder)
    assert any(name == wanted or (file == "key" and name.startswith(wanted)) for name in synced), synced


def test_a_new_store_has_its_name_synced_whatever_sqlite_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SQLite syncs the folder when it syncs a new log, but can be built not to."""
    synced: list[Path] = []
    monkeypatch.setattr(sqlite_file, "sync_folder", synced.append)
    for _ in range(2):
        sqlite_file.open_store(
            tmp_path / "a.db", "CREATE TABLE t (x);", 1, checkpoint_bytes=1 << 20, cache_bytes=1 << 20
        ).close()
    assert synced == [tmp_path]


def test_an_ack_leaves_after_the_sync_of_its_commit(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    with Program(tmp_path / "data", prefix=strace(trace)) as program:
        with program.connect("dev") as connection:
            for number in range(5):
                send(connection, location(f"e{number}"))
                assert receive(connection, "ack")["ids"] == [f"e{number}"]
        program.terminate()
    found = steps(trace)
    for number in range(1, 5):
        before, ack = (rf"[\"e{n}\"]" for n in (number - 1, number))
        synced = synced_before(found, ack, before)
        assert [name for name in synced if name.endswith(".db-wal") and "/locations/" in name], f"ack {number}"


def test_an_ack_of_the_spool_leaves_after_its_sync(tmp_path: Path) -> None:
    """The index is full here, so all goes to the spool."""
    trace = tmp_path / "trace"
    folder = tmp_path / "data"
    with Program(folder, "locations.index_max_bytes=1048576") as program, program.connect("dev") as connection:
        for number in range(30):
            events = [{**location(f"{number}-{n}", attributes={"p": "x" * 900}), "type": None} for n in range(100)]
            send(connection, {"type": "locations", "events": events})
            receive(connection)
    with Program(folder, "locations.index_max_bytes=1048576", prefix=strace(trace)) as program:
        with program.connect("dev") as connection:
            for number in range(3):
                send(connection, location(f"e{number}"))
                assert receive(connection, "ack")["durability"] == "spooled"
        program.terminate()
    found = steps(trace)
    for number in range(1, 3):
        before, ack = (rf"[\"e{n}\"]" for n in (number - 1, number))
        assert [name for name in synced_before(found, ack, before) if name.endswith("spool.db-wal")], f"ack {number}"
