"""The end of the Dockerfile's first stage: lay out what goes into the image, compiled, with a bill of materials.

Writes `root/` (paths as in the image) and `volumes/` (the folders of its user) into the working folder.
"""

from __future__ import annotations

import compileall
import py_compile
import shutil
import subprocess
import sys
import sysconfig
from importlib.util import cache_from_source
from pathlib import Path
from py_compile import PycInvalidationMode

HOME = Path("/opt/heiwa")
ROOT = Path("root")
SHARE = ROOT / "usr/share/heiwa"
# Parts of the standard library that no server needs, and what is not of it.
LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "site-packages"}
# Of the SDK's 400 services: what is called, and what credentials may come from.
SERVICES = {"batch", "ecs", "elbv2", "firehose", "sso", "sso-oidc", "sts"}
# Those that SQLAlchemy speaks to, and we do not.
DATABASES = ("mssql", "mysql", "oracle")
# Layers change the times of files: bytecode is believed without a look at them.
BELIEVED = PycInvalidationMode.UNCHECKED_HASH


def main() -> None:
    """Lay out the files."""
    # It stands in the lock for installations of the checkout only.
    _run("-m", "pip", "--python", str(HOME / "bin/python3"), "uninstall", "--quiet", "--yes", "setuptools")
    _leave_out()
    if not compileall.compile_dir(HOME, quiet=1, invalidation_mode=BELIEVED):
        sys.exit(f"{HOME} holds files that cannot be compiled")
    shutil.copytree(HOME, ROOT / HOME.relative_to("/"), symlinks=True)
    _compile_library(Path(sysconfig.get_path("stdlib")))
    SHARE.mkdir(parents=True)
    shutil.copy("image/healthcheck.py", SHARE)
    _write_bill_of_materials()
    Path("volumes/data").mkdir(mode=0o700, parents=True)


def _leave_out() -> None:
    """What comes with the libraries, and that no gateway ever reads."""
    (packages,) = HOME.glob("lib/python3*/site-packages")
    unused = [folder for folder in packages.glob("botocore/data/*/") if folder.name not in SERVICES]
    unused += [packages / "sqlalchemy/dialects" / name for name in DATABASES]
    unused += packages.glob("*/tests/")
    for folder in unused:
        if folder.is_dir():
            shutil.rmtree(folder)


def _compile_library(library: Path) -> None:
    """The official images of Python hold no bytecode, and on a read-only disk each start would compile it anew."""
    for source in sorted(library.rglob("*.py")):
        if not LEFT_OUT.intersection(source.relative_to(library).parts):
            compiled = ROOT / Path(cache_from_source(str(source))).relative_to("/")
            py_compile.compile(str(source), str(compiled), str(source), invalidation_mode=BELIEVED)


def _write_bill_of_materials() -> None:
    """CycloneDX: the installed distributions with versions and licences."""
    target = str(SHARE / "sbom.cdx.json")
    _run("-m", "cyclonedx_py", "environment", "--output-reproducible", "--output-file", target, str(HOME))


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True)


main()
