"""What the node is made of: a JDK that is on this machine, and the jars from Maven Central, kept in `.cache`."""

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


def jars(folder: Path = CACHE) -> Path:
    """The folder with the jars, downloaded at the first call (90 MB). Raises MissingError."""
    folder.mkdir(parents=True, exist_ok=True)
    library = (folder / "lib").absolute()
    with (folder / "lock").open("w") as lock:
        # Tests run in several processes.
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not library.exists():
            _download(library)
    return library


def _download(library: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise MissingError("OpenSearch's jars come by Maven: install it (Debian: apt install maven)")
    partial = library.with_name("lib.partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [maven, "-q", "-B", "-f", str(HERE / "pom.xml"), "dependency:copy-dependencies"]
    command += ["-DincludeScope=runtime", f"-DoutputDirectory={partial}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    if done.returncode:
        raise MissingError(f"Maven could not fetch OpenSearch: {(done.stdout + done.stderr)[-500:]}")
    partial.rename(library)
