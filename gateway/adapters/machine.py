"""What the machine and its control group allow: files and memory (Linux)."""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
from pathlib import Path
from typing import NamedTuple

_CGROUP = Path("/sys/fs/cgroup")
# A control group of version 1 without a limit reports a number near 2**63.
_NO_LIMIT_BYTES = 1 << 60
# Eight bytes of kernel memory each; some machines allow a thousand million.
_MAX_ROOM_FILES = 131_072


class Memory(NamedTuple):
    """Bytes. `limit_bytes` is what `used_bytes` must stay under; `source` names where both come from."""

    used_bytes: int
    limit_bytes: int
    source: str

    @property
    def share(self) -> float:
        """Used of the limit, 0 to 1 and above."""
        return self.used_bytes / self.limit_bytes if self.limit_bytes else 0.0


def raise_file_limit() -> int:
    """Raise the soft limit of open files to the hard one, and return it: nothing else raises it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def make_room_for_files(count: int) -> None:
    """Let the kernel make its table of this process's open files large enough for `count` of them now.

    It doubles the table when it is full, and a process with threads then waits until each core has switched tasks
    (`synchronize_rcu` in `expand_fdtable`, fs/file.c): 6 to 16 ms on a quiet machine, far more on a busy one, in which
    the event loop accepts no connection. All receivers of a deploy would reach 1,024, 2,048, 4,096 together.
    """
    # Where the limit does not allow it, the table grows when it must.
    with contextlib.suppress(OSError), Path(os.devnull).open("rb") as file:
        os.close(fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, min(count, _MAX_ROOM_FILES) - 1))


class SpareFile:
    """A descriptor kept in reserve: when none is left, code that looks at the machine borrows it."""

    def __init__(self) -> None:
        self._descriptor: int | None = None
        self._take_back()

    def __enter__(self) -> None:
        self.close()

    def __exit__(self, *_: object) -> None:
        self._take_back()

    def close(self) -> None:
        """Give it up."""
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = None

    def _take_back(self) -> None:
        # Somebody may have been faster; the next time there may be one again.
        with contextlib.suppress(OSError):
            self._descriptor = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)


def memory(limit_bytes: int = 0) -> Memory:
    """How much memory is in use. Blocking file reads.

    `limit_bytes` set: this process's resident memory against it. 0: the control group's working set (what is used less
    file pages that can be dropped, as kubelet counts) against its limit; without one, the machine's.
    """
    if limit_bytes:
        return Memory(resident_bytes(), limit_bytes, "connections.memory_limit_bytes")
    return _version_2() or _version_1() or _machine()


def resident_bytes() -> int:
    """This process's resident memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _group_path(controller: str) -> str:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return path.lstrip("/")
    return ""


def _version_2() -> Memory | None:
    # Inside a container the group is mounted as the root of the hierarchy.
    for folder in (_CGROUP / _group_path(""), _CGROUP):
        limit = _number(folder / "memory.max")
        used = _number(folder / "memory.current")
        if limit is not None and used is not None:
            return Memory(used - _droppable(folder, "inactive_file"), limit, "cgroup v2")
    return None


def _version_1() -> Memory | None:
    root = _CGROUP / "memory"
    for folder in (root / _group_path("memory"), root):
        limit = _number(folder / "memory.limit_in_bytes")
        used = _number(folder / "memory.usage_in_bytes")
        if limit is not None and used is not None and limit < _NO_LIMIT_BYTES:
            return Memory(used - _droppable(folder, "total_inactive_file"), limit, "cgroup v1")
    return None


def _machine() -> Memory:
    fields = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        fields[name] = int(rest.split()[0]) * 1024
    return Memory(fields["MemTotal"] - fields["MemAvailable"], fields["MemTotal"], "the machine")


def _droppable(folder: Path, name: str) -> int:
    try:
        for line in (folder / "memory.stat").read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    except OSError:
        pass
    return 0


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such controller, or "max"
        return None
