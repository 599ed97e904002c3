"""`heiwa redrive`: what was refused for good goes in once it can, once, however often it is tried."""

from __future__ import annotations

import asyncio
import gzip
import json
from base64 import b64encode
from pathlib import Path

from gateway.adapters.clock import SystemClock
from gateway.adapters.dead_letters import FILE_NAME, TAKEN_NAME, DeadLetterFile
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.adapters.sqlite.layout import INDEX_FOLDER
from gateway.cli.redrive import UNREADABLE_NAME, Redriven, redrive
from gateway.locations.batch import DeviceEvents
from gateway.locations.document import index_of, stream_records
from gateway.locations.outcome import Rejection
from gateway.locations.query import Query
from gateway.settings.load import load
from gateway.settings.model import Settings
from loadtest.opensearch.node import Node
from tests.support.locations import NOON_MS, event
from tests.support.opensearch import ask, delete, documents, initialise, new_prefix


def settings(folder: Path, *flags: str) -> Settings:
    return load(Path("/dev/null"), {}, [f"data.folder={folder}", "locations.retention_days=3650", *flags]).settings


async def bury(folder: Path, number: int) -> list[DeviceEvents]:
    groups = [DeviceEvents("a", f"d{k}", (event(f"e{k}"),)) for k in range(number)]
    await DeadLetterFile(folder / FILE_NAME, SystemClock()).append(
        [(group, Rejection("why", True)) for group in groups]
    )
    return groups


async def test_letters_go_into_the_embedded_index_once(tmp_path: Path) -> None:
    await bury(tmp_path, 3)
    with (tmp_path / FILE_NAME).open("ab") as file:
        file.write(b"half a li\n\n")
    assert await redrive(settings(tmp_path), []) == Redriven(stored=3, unreadable=1)
    assert await redrive(settings(tmp_path), []) == Redriven()
    assert not (tmp_path / FILE_NAME).exists()
    assert (tmp_path / UNREADABLE_NAME).read_bytes() == b"half a li\n"
    index = SQLiteLocationIndex(tmp_path / INDEX_FOLDER, SystemClock(), 3650)
    await index.open()
    assert len((await index.search("a", Query()))[0]) == 3
    await index.close()


async def test_one_that_was_broken_off_goes_on(tmp_path: Path) -> None:
    await bury(tmp_path, 2)
    (tmp_path / FILE_NAME).rename(tmp_path / TAKEN_NAME)
    await bury(tmp_path, 3)
    assert await redrive(settings(tmp_path), []) == Redriven(stored=2)
    assert await redrive(settings(tmp_path), []) == Redriven(stored=3)


async def test_failure_objects_that_firehose_compressed(tmp_path: Path) -> None:
    groups = [DeviceEvents("a", f"d{k}", (event(f"e{k}"),)) for k in range(3)]
    lines = [json.dumps({"rawData": b64encode(record).decode()}).encode() + b"\n" for record in stream_records(groups)]
    whole, failed = gzip.compress(lines[0] + lines[1]) + gzip.compress(lines[2]), tmp_path / "failed.gz"
    for content, expected in (
        (whole, Redriven(stored=3)),
        # Cut in the check sum of the last member, in its middle, and damaged after the first one.
        (whole[:-6], Redriven(stored=3, unreadable=1)),
        (gzip.compress(lines[0]) + whole[:12], Redriven(stored=1, unreadable=1)),
        (gzip.compress(lines[0]) + b"no gzip", Redriven(stored=1, unreadable=1)),
    ):
        failed.write_bytes(content)
        assert await redrive(settings(tmp_path), [failed]) == expected


async def test_opensearch_takes_them_when_its_mapping_is_mended(opensearch: Node, tmp_path: Path) -> None:
    prefix = new_prefix()
    flags = (f"locations.opensearch_url={opensearch.url}", f"locations.index_prefix={prefix}")
    await initialise(opensearch.url, prefix)
    groups = await bury(tmp_path, 4)
    name = index_of(prefix, NOON_MS)
    wrong = {"mappings": {"properties": {"location": {"type": "boolean"}}}}
    await asyncio.to_thread(ask, f"{opensearch.url}/{name}", "PUT", wrong)
    done = await redrive(settings(tmp_path, *flags), [])
    assert (done.stored, done.dead, done.later) == (0, 4, 0)
    assert "failed to parse field [location]" in done.why
    # A position is not told.
    assert "Preview" not in done.why
    letters = [json.loads(line) for line in (tmp_path / FILE_NAME).read_text().splitlines()]
    assert len(letters) == 4
    assert "mapper_parsing_exception" in letters[0]["reason"]
    await asyncio.to_thread(ask, f"{opensearch.url}/{name}", "DELETE")
    assert await redrive(settings(tmp_path, *flags), []) == Redriven(stored=4)
    failed = tmp_path / "failed"
    failed.write_text(
        "".join(json.dumps({"rawData": b64encode(record).decode()}) + "\n" for record in stream_records(groups))
    )
    for _ in range(2):
        assert await redrive(settings(tmp_path, *flags), [failed]) == Redriven(stored=4)
    assert len(await asyncio.to_thread(documents, opensearch.url, prefix)) == 4
    await asyncio.to_thread(delete, opensearch.url, prefix)
