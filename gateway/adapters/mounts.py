"""Whether what is written to a folder outlives this process's container (Linux).

proc(5), "/proc/pid/mountinfo"; names of anonymous volumes as podman and docker give them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_ANONYMOUS = re.compile(r"/volumes/[0-9a-f]{64}(/|$)")
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})
_NETWORK = frozenset({"nfs", "nfs4"})
# What an escape in mountinfo stands for: space, tab, line feed, backslash.
_ESCAPE = re.compile(r"\\([0-7]{3})")


class Mount(NamedTuple):
    """`root`: which folder of its file system is mounted at `point`."""

    root: str
    point: str
    kind: str


class Loss(NamedTuple):
    """With what a folder is lost, and how to keep it."""

    lost_with: str
    mend: str


def loss_of(folder: Path, environment: Mapping[str, str], *, shared: bool = False) -> Loss | None:
    """None: nothing is known that would take it. Blocking file reads. `shared`: the index is elsewhere, and the folder
    holds what is on its way only."""
    try:
        text = Path("/proc/self/mountinfo").read_text(errors="replace")
    except OSError:
        return None
    mount = mount_of(folder.resolve(), text)
    return None if mount is None else loss(mount, environment, shared=shared)


def mount_of(folder: Path, mountinfo: str) -> Mount | None:
    """The mount that a folder (resolved; it need not exist) is in: of those that hold it the last, deepest one."""
    found: Mount | None = None
    for line in mountinfo.splitlines():
        before, separator, after = line.partition(" - ")
        fields = before.split(" ")
        if not separator or len(fields) < 6:
            continue
        root, point = (_ESCAPE.sub(lambda one: chr(int(one[1], 8)), field) for field in fields[3:5])
        holds = folder.is_relative_to(point)
        if holds and (found is None or len(Path(point).parts) >= len(Path(found.point).parts)):
            found = Mount(root, point, after.split(" ", 1)[0])
    return found


def loss(mount: Mount, environment: Mapping[str, str], *, shared: bool = False) -> Loss | None:
    """What takes a folder of this mount with it; None: nothing that is known."""
    volume = "give data.folder a named volume, as -v heiwa-data:/data"
    if mount.kind in _IN_MEMORY:
        return Loss("the memory that it is in", volume)
    if environment.get("AWS_EXECUTION_ENV") == "AWS_ECS_FARGATE" and mount.kind not in _NETWORK:
        # Nothing better is to be had there.
        return None if shared else Loss("the task, as all disks of Fargate", "set locations.opensearch_url")
    if mount.kind == "overlay":
        return Loss("the container", volume)
    if _ANONYMOUS.search(mount.root):
        return Loss("the container, when it was run with --rm: the volume has no name", volume)
    return None
