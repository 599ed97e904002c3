"""Finds Python 2.7 and installs the Autobahn test suite for it under `.cache/`; what is there already is used again."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

CACHE = Path(__file__).parents[2] / ".cache"
REQUIREMENTS = Path(__file__).with_name("requirements-autobahn.txt")
# The last one that can make environments for Python 2.7.
_VIRTUALENV = "virtualenv<20.22"
_INSTALL_TIMEOUT_S = 600


class MissingSuiteError(Exception):
    """Something the suite needs is not on this machine; the message says what to install."""


def find_python27() -> Path:
    """A Python 2.7: on the PATH, else one of pyenv's. Raises MissingSuiteError."""
    candidates = [shutil.which("python2.7")]
    if pyenv := shutil.which("pyenv"):
        versions = _output([pyenv, "versions", "--bare"]).split()
        candidates += [
            _output([pyenv, "which", "python2.7"], PYENV_VERSION=name) for name in versions if name.startswith("2.7.")
        ]
    for candidate in candidates:
        if candidate and _output([candidate, "-c", "import sys; print(sys.version_info[:2] == (2, 7))"]) == "True":
            return Path(candidate)
    raise MissingSuiteError("python2.7 is missing, the Autobahn test suite needs it (pyenv install 2.7.18)")


def install() -> Path:
    """The suite's program `wstest`, installed if need be, by one process at a time. Raises MissingSuiteError."""
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "autobahn.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _install()


def _install() -> Path:
    environment = CACHE / "autobahn-python27"
    stamp = environment / "installed"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        python27 = find_python27()
        shutil.rmtree(environment, ignore_errors=True)
        tools = CACHE / "autobahn-virtualenv"
        if not (tools / "bin" / "virtualenv").exists():
            venv.create(tools, with_pip=True, clear=True)
            _run([tools / "bin" / "pip", "install", "--quiet", _VIRTUALENV])
        _run([tools / "bin" / "virtualenv", "--quiet", "-p", python27, environment])
        _run([environment / "bin" / "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", REQUIREMENTS])
        stamp.write_text(wanted)
    return environment / "bin" / "wstest"


def _run(command: list[str | Path]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, env=_environment(), check=False
        )
    except subprocess.TimeoutExpired as error:
        raise MissingSuiteError(f"{Path(command[0]).name} took longer than {_INSTALL_TIMEOUT_S} s") from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise MissingSuiteError(f"the Autobahn test suite cannot be installed: {last}")


def _output(command: list[str], **variables: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=30, env=_environment() | variables, check=False
        )
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _environment() -> dict[str, str]:
    return {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PYTHONWARNINGS": ""}


if __name__ == "__main__":
    try:
        print(install())
    except MissingSuiteError as error:
        sys.exit(str(error))
