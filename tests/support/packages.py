"""Real servers and tools of the machine: used where found, installed on Debian as root, else a visible skip.

With CI=true a skip is a failure.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable
from typing import NoReturn, TypeVar

import pytest

T = TypeVar("T")


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
    _update()
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", package]
    return subprocess.run(command, capture_output=True, timeout=600).returncode == 0


@functools.cache
def _update() -> None:
    subprocess.run(["apt-get", "update", "--quiet"], capture_output=True, timeout=600)
