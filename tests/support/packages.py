"""Real servers and tools of the machine: used where found, installed on Debian as root, else a visible skip.

With CI=true a skip is a failure.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypeVar

import pytest

T = TypeVar("T")
_LOCK = Path(tempfile.gettempdir()) / "heiwa-tests-apt.lock"
_APT = ("apt-get", "-o", "DPkg::Lock::Timeout=300")


def need(package: str, find: Callable[[], T | None]) -> T:
    """What `find` returns; when that is None, after installing a Debian package. Skips the test naming the package."""
    found = find()
    if found is None and _install(package):
        found = find()
    if found is None:
        missing(f"needs the Debian package {package}")
    return found


def missing(why: str) -> NoReturn:
    """Skip the test, or fail it where nothing may be skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{why} (with CI=true nothing is skipped)")
    pytest.skip(why)


@functools.cache
def _install(package: str) -> bool:
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return False
    # Several processes run tests, and a second apt-get gives up at once.
    with _LOCK.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _update()
        command = [*_APT, "install", "--yes", "--quiet", "--no-install-recommends", package]
        return subprocess.run(command, capture_output=True, timeout=600).returncode == 0


@functools.cache
def _update() -> None:
    subprocess.run([*_APT, "update", "--quiet"], capture_output=True, timeout=600)
