"""The folder of one attempt: what its process has left there."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
from pathlib import Path
from typing import Any, NamedTuple

from gateway.decoding import object_in

# The fields of /proc/PID/stat behind the name; the start time is the 22nd of all.
_START_FIELD = 22 - 3
MAX_SAID_CHARS = 1_000
# What is kept of each output.
TAIL_BYTES = 65_536
# The kernel gives no larger ones (proc(5), pid_max).
_MAX_PID = 1 << 22
_MAX_DIGITS = 18


class Known(NamedTuple):
    """A process that no other can be taken for: pids are used again."""

    pid: int
    started: int


class Home(NamedTuple):
    """Where an attempt is to be found: its folder, in one life of one machine."""

    boot: str
    folder: str

    def __str__(self) -> str:
        return f"{self.boot}@{self.folder}"

    @classmethod
    def parse(cls, text: str) -> Home:
        """What `str` made."""
        boot, _, folder = text.partition("@")
        return cls(boot, folder)


def boot_id() -> str:
    """Which life of this machine it is."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """In clock ticks since the boot; None: there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[_START_FIELD])


def user_of(pid: int) -> int | None:
    """Whom a process runs as; None: there is no such process."""
    try:
        return Path(f"/proc/{pid}").stat().st_uid
    except OSError:
        return None


class JobFolder:
    """Blocks; the files are small."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, owner: tuple[int, int] | None) -> None:
        """For a job that runs as `owner` (user and group); None: as ourselves."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if owner is not None:
            os.chown(self.path, *owner)

    def take(self, owner: tuple[int, int] | None) -> bool:
        """Have nobody begin the attempt any more; False: somebody has begun it."""
        self.make(owner)
        try:
            (self.path / "started").mkdir(mode=0o700)
        except FileExistsError:
            return False
        return True

    @property
    def has_started(self) -> bool:
        """Whether a process has begun the attempt."""
        return (self.path / "started").is_dir()

    def known(self, user: int) -> Known | None:
        """The process that began it; None: it has not said so.

        The job can write there, too: what it does not run as is not its process, and must not be ended in its place.
        """
        fields = self._read("pid").split()
        if len(fields) <= _START_FIELD + 1:
            return None
        pid, started = _number(fields[0]), _number(fields[_START_FIELD + 1])
        if not pid or pid > _MAX_PID or started is None or user_of(pid) not in (None, user):
            return None
        return Known(pid, started)

    def exit_code(self) -> int | None:
        """How the command ended; None: it was not written down."""
        return _number(self._read("exit").strip())

    def result(self) -> dict[str, Any]:
        """The last line of its output, when that is a JSON object. Raises ValueError when its beginning is lost, or it
        cannot be kept."""
        text = self._read("output")
        # Other ends of lines may stand in a text of JSON.
        last = text.strip().rpartition("\n")[2]
        found = object_in(last)
        if not found and "\n" not in text.strip() and last.endswith("}") and self._size("output") >= TAIL_BYTES:
            raise ValueError(f"the last line of its output, its result, is longer than {TAIL_BYTES:,} bytes")
        return found

    def said(self) -> str:
        """The end of what it wrote to standard error, else to standard output."""
        text = (self._read("errors").strip() or self._read("output").strip())[-MAX_SAID_CHARS:]
        return "".join(letter for letter in text if letter.isprintable() or letter == "\n")

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)

    def _read(self, name: str) -> str:
        try:
            # A job may put anything there, a link or a pipe among it.
            descriptor = os.open(self.path / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return ""
        with os.fdopen(descriptor, "rb") as file:
            try:
                # A second name may be that of a file which only we can read.
                if os.fstat(descriptor).st_nlink != 1:
                    return ""
                return file.read(1 << 20).decode(errors="replace")
            except OSError:
                return ""

    def _size(self, name: str) -> int:
        with contextlib.suppress(OSError):
            found = os.lstat(self.path / name)
            return found.st_size if stat.S_ISREG(found.st_mode) else 0
        return 0


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None


def describe(code: int) -> str:
    """An exit code as a shell gives it, in words."""
    if code > 128:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(code - 128).name}"
    return {126: "cannot be executed", 127: "the command was not found"}.get(code, f"exit code {code}")
