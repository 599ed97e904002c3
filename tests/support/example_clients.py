"""The example devices of docs/examples, built where needed: each takes a URL, and its token from HEIWA_TOKEN."""

from __future__ import annotations

import atexit
import functools
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.packages import missing, need
from tests.support.process import ROOT

EXAMPLES = ROOT / "docs/examples"
BUILD_S = 300


def python() -> list[str]:
    return [sys.executable, str(EXAMPLES / "device.py")]


def javascript() -> list[str]:
    found = need("nodejs", lambda: shutil.which("node"))
    major = int(re.sub(r"v(\d+)\..*", r"\1", _output([found, "--version"])))
    if major < 20:
        missing("needs Node.js 20 or newer")
    return [found, *(["--experimental-websocket"] if major < 22 else []), str(EXAMPLES / "device.mjs")]


def c() -> list[str]:
    compiler = need("gcc", lambda: shutil.which("cc") or shutil.which("gcc"))
    need("libwebsockets-dev", lambda: next(Path("/usr/include").glob("**/libwebsockets.h"), None))
    return _built(
        "device-c", (compiler, "-O2", "-Wall", "-Wextra", "-Werror", str(EXAMPLES / "device.c")), "-lwebsockets"
    )


def go() -> list[str]:
    found = shutil.which("go")
    if found is None or _go_version(found) < (1, 23):
        missing("needs Go 1.23 or newer")
    return _built("device-go", (found, "build", "-mod=readonly"), ".", folder=EXAMPLES / "go")


CLIENTS: dict[str, Callable[[], list[str]]] = {"python": python, "javascript": javascript, "c": c, "go": go}


@functools.cache
def _folder() -> Path:
    made = Path(tempfile.mkdtemp(prefix="heiwa-examples-"))
    atexit.register(shutil.rmtree, made, ignore_errors=True)
    return made


def _built(name: str, command: Sequence[str], last: str, folder: Path = ROOT) -> list[str]:
    made = _folder() / name
    if not made.exists():
        done = subprocess.run(
            [*command, "-o", str(made), last], cwd=folder, capture_output=True, text=True, timeout=BUILD_S
        )
        assert done.returncode == 0, done.stderr
    return [str(made)]


def _go_version(found: str) -> tuple[int, int]:
    match = re.search(r"go(\d+)\.(\d+)", _output([found, "version"]))
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stdout.strip()
