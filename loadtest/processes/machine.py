"""What Linux tells of this machine, the memory of its kernel, and its processes. Blocking reads of small files."""

from __future__ import annotations

import os
import platform
import resource
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from loadtest.results.records import KernelReading, ProcessReading, Role

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
PACKAGES = ("heiwa-gateway", "uvloop", "websockets", "msgspec", "aiohttp", "hdrhistogram")


def process(name: str, role: Role, pid: int, *, whole: bool = False) -> ProcessReading | None:
    """A process now; None when it has ended. `whole` also reads smaps_rollup, which walks all pages of the process."""
    folder = Path(f"/proc/{pid}")
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
        resident = int((folder / "statm").read_text().split()[1]) * PAGE_BYTES
        if fields[0] in "ZX":
            return None
        mapped = _kilobytes((folder / "smaps_rollup").read_text()) if whole else {}
        files = sum(1 for _ in os.scandir(folder / "fd")) if whole else 0
    except (OSError, IndexError):
        return None
    return ProcessReading(
        time_ms=time.time_ns() // 1_000_000,
        name=name,
        role=role,
        pid=pid,
        cpu_s=(int(fields[11]) + int(fields[12])) / TICKS_PER_S,
        rss_bytes=resident,
        files=files,
        pss_bytes=mapped.get("Pss", 0),
        private_bytes=mapped.get("Private_Clean", 0) + mapped.get("Private_Dirty", 0),
    )


def own(name: str, *, whole: bool = False) -> ProcessReading | None:
    """This process."""
    return process(name, "conductor", os.getpid(), whole=whole)


def kernel() -> KernelReading:
    """Slab, TCP buffers and stolen time of the whole machine, and the sockets of this network namespace."""
    tcp_pages = sockets = 0
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        name, *pairs = line.split()
        values = dict(zip(pairs[::2], pairs[1::2], strict=False))
        if name == "TCP:":
            tcp_pages = int(values["mem"])
        elif name == "sockets:":
            sockets = int(values["used"])
    slab = _kilobytes(Path("/proc/meminfo").read_text())["Slab"]
    stolen_ticks = int(_lines("/proc/stat")[0].split()[8])
    return KernelReading(time.time_ns() // 1_000_000, slab, tcp_pages * PAGE_BYTES, sockets, stolen_ticks / TICKS_PER_S)


def cores() -> int:
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def file_limit() -> int:
    """The hard limit of open files of a process; each process of ours raises its soft limit to it."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def memory_available_bytes() -> int:
    """The memory that new processes can have without swapping."""
    return _kilobytes(Path("/proc/meminfo").read_text())["MemAvailable"]


def system_files_free() -> int:
    """The number of free entries of the system's file table."""
    used, _, maximum = Path("/proc/sys/fs/file-nr").read_text().split()
    return int(maximum) - int(used)


def describe() -> dict[str, Any]:
    """The machine, for the report, without names of hosts or people."""
    memory = _kilobytes(Path("/proc/meminfo").read_text())
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "processors": os.cpu_count() or 0,
        "processor": models[0] if models else platform.machine(),
        "memory_bytes": memory["MemTotal"],
        "kernel": platform.release(),
        "files_a_process": file_limit(),
    }


def versions() -> dict[str, str]:
    """The versions of Python and of the main packages."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _kilobytes(text: str) -> dict[str, int]:
    """`Name: 12 kB` lines, in bytes."""
    values = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if len(words) == 2 and words[1] == "kB":
            values[name] = int(words[0]) * 1024
    return values


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()
