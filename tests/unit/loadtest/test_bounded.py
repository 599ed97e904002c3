import asyncio
import io
import os
from pathlib import Path

import pytest

from gateway.errors import HeiwaError, RecordingError, SettingsError
from loadtest import bounded
from loadtest.fleet import replay
from loadtest.fleet.input_lines import MAX_LINE_BYTES, InputLines
from loadtest.processes import children
from loadtest.run import folder
from loadtest.scenario import shipped


def test_lines_end_at_the_first_that_is_too_long() -> None:
    assert list(bounded.lines(io.BytesIO(b"a\nbb\n\nc"), 3)) == [b"a\n", b"bb\n", b"\n", b"c"]
    found = bounded.lines(io.BytesIO(b"a\nbbb\n"), 3)
    assert next(found) == b"a\n"
    with pytest.raises(ValueError, match="line 2 is longer than 3 bytes"):
        next(found)


@pytest.fixture
def endless() -> Path:
    """A file without an end and without a line."""
    return Path("/dev/zero")


def test_no_file_is_read_without_end(endless: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="line 1 is longer"):
        replay.scan(endless)
    with pytest.raises(SettingsError, match="larger than"):
        shipped.read(endless)
    (tmp_path / "samples.jsonl").symlink_to(endless)
    with pytest.raises(HeiwaError, match="line 1 is longer"):
        folder.begins(tmp_path)
    with pytest.raises(HeiwaError, match="line 1 is longer"):
        folder.replay([tmp_path])


@pytest.mark.parametrize("text", [b"[" * 5000, b'{"a":"\xff"}', b"9" * 5000])
def test_a_damaged_run_is_said_to_be_damaged(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "samples.jsonl").write_bytes(text + b"\n{}\n")
    with pytest.raises(HeiwaError, match="damaged: line 1"):
        folder.replay([tmp_path])


def test_the_end_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("x" * 2 * children.LINE_LIMIT_BYTES + "\nlast\n")
    assert children.last_lines(log, 1) == "last"


def test_commands_come_a_line_each_however_they_are_cut() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"one\ntwo\nthr")
    lines = InputLines(reader)
    assert (lines.next(), lines.next()) == (b"one\n", b"two\n")
    os.write(writer, b"ee\nfour")
    assert lines.next() == b"three\n"
    os.close(writer)
    assert (lines.next(), lines.next()) == (b"four", b"")
    os.close(reader)


def test_a_line_without_end_is_refused() -> None:
    with Path("/dev/zero").open("rb") as file, pytest.raises(SettingsError, match=f"more than {MAX_LINE_BYTES} bytes"):
        InputLines(file.fileno()).next()


async def test_a_command_without_end_is_the_end() -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()
    descriptor = os.open("/dev/zero", os.O_RDONLY)
    InputLines(descriptor).follow(heard.put_nowait, asyncio.get_running_loop())
    async with asyncio.timeout(20):
        assert await heard.get() == b""
    os.close(descriptor)
