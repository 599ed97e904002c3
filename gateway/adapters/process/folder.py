"""The folder of one attempt: what its process has left there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any, NamedTuple

# The fields of /proc/PID/stat behind the name; the start time is the 22nd of all.
_START_FIELD = 22 - 3
MAX_SAID_CHARS = 1_000


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

    def known(self) -> Known | None:
        """The process that began it; None: it has not said so."""
        text = self._read("pid")
        fields = text.split()
        if len(fields) <= _START_FIELD + 1 or not fields[0].isdigit():
            return None
        return Known(int(fields[0]), int(fields[_START_FIELD + 1]))

    def exit_code(self) -> int | None:
        """How the command ended; None: it was not written down."""
        text = self._read("exit").strip()
        return int(text) if text.isdigit() else None

    def result(self) -> dict[str, Any]:
        """The last line of its output, when that is a JSON object."""
        lines = self._read("output").strip().splitlines()
        with contextlib.suppress(ValueError, RecursionError):
            found = json.loads(lines[-1], parse_constant=_no_constant) if lines else {}
            if isinstance(found, dict):
                return found
        return {}

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
                return file.read(1 << 20).decode(errors="replace")
            except OSError:
                return ""


def _no_constant(text: str) -> float:
    raise ValueError(text)


def describe(code: int) -> str:
    """An exit code as a shell gives it, in words."""
    if code > 128:
        with contextlib.suppress(ValueError):
            return f"ended by {signal.Signals(code - 128).name}"
    return {126: "cannot be executed", 127: "the command was not found"}.get(code, f"exit code {code}")
