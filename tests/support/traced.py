"""A program under strace: in which order it synced files and said things."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

from tests.support.packages import need
from tests.support.program import eventually

_CALL = re.compile(r"^(?P<pid>\d+) +(?P<name>\w+)\((?P<rest>.*)$")
_RESUMED = re.compile(r"^(?P<pid>\d+) +<\.\.\. (?P<name>\w+) resumed>")
_PATH = re.compile(r"^\d+<(?P<path>[^>]*)>")
SYNCS = ("fsync", "fdatasync")
SENDS = ("write", "writev", "sendto", "sendmsg")


class Step(NamedTuple):
    """Either a file that is on disk from here on (`synced`), or what was written to somebody."""

    synced: str
    said: str


def strace(output: Path) -> tuple[str, ...]:
    """What goes before a command, so that `steps` can read `output` afterwards. The process is the command's own."""
    program = need("strace", lambda: shutil.which("strace"))
    calls = ",".join((*SYNCS, *SENDS))
    return (program, "--follow-forks", "--daemonize", "-y", "-s", "400", "-e", f"trace={calls}", "-o", str(output))


def steps(output: Path) -> list[Step]:
    """Syncs in the order of their ends, and writes in the order of their beginnings: so none looks later than it is."""
    eventually(lambda: "+++ exited with" in output.read_text(errors="replace")[-300:], 20, "strace did not end")
    found: list[Step] = []
    under_way: dict[tuple[str, str], str] = {}
    for line in output.read_text(errors="replace").splitlines():
        if (resumed := _RESUMED.match(line)) is not None:
            path = under_way.pop((resumed["pid"], resumed["name"]), "")
            if path and line.endswith("= 0"):
                found.append(Step(path, ""))
            continue
        call = _CALL.match(line)
        if call is None:
            continue
        if call["name"] in SENDS:
            found.append(Step("", call["rest"]))
            continue
        path = (_PATH.match(call["rest"]) or {"path": ""})["path"]
        if line.endswith("<unfinished ...>"):
            under_way[call["pid"], call["name"]] = path
        elif line.endswith("= 0"):
            found.append(Step(path, ""))
    return found


def synced_before(found: list[Step], said: str, after: str = "") -> list[str]:
    """The files synced before something was said, and after something else was. Fails when it was never said."""
    synced: list[str] = []
    begun = not after
    for step in found:
        if step.synced and begun:
            synced.append(step.synced)
        elif after and after in step.said:
            begun = True
        elif said in step.said:
            assert begun, f"{said} came before {after}"
            return synced
    raise AssertionError(f"{said} was never said")
