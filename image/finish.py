"""The end of the Dockerfile's first stage: lay out what goes into the image, compiled, with a bill of materials.

Writes `root/` (paths as in the image) and `volumes/` (the folders of its user) into the working folder.
"""

from __future__ import annotations

import ast
import marshal
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from importlib.util import MAGIC_NUMBER, cache_from_source, decode_source, source_hash
from pathlib import Path

HOME = Path("/opt/heiwa")
ROOT = Path("root")
SHARE = ROOT / "usr/share/heiwa"
# Parts of the standard library that no server needs, and what is not of it.
LEFT_OUT = {"test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pydoc_data", "site-packages"}
# Of the SDK's 400 services: what is called, and what credentials may come from.
SERVICES = {"batch", "ecs", "elbv2", "firehose", "sso", "sso-oidc", "sts"}
# Those that SQLAlchemy speaks to, and we do not.
DATABASES = ("mssql", "mysql", "oracle")
# PEP 552. Layers change the times of files: bytecode is believed without a look at them.
BELIEVED = (0b01).to_bytes(4, "little")
# Their docstrings say what commands and settings are for. Those of all others take about 1 MB in each process.
OURS = {"gateway", "loadtest"}


def main() -> None:
    """Lay out the files."""
    # It stands in the lock for installations of the checkout only.
    _run("-m", "pip", "--python", str(HOME / "bin/python3"), "uninstall", "--quiet", "--yes", "setuptools")
    _leave_out()
    shutil.copytree(HOME, ROOT / HOME.relative_to("/"), symlinks=True)
    _compile(HOME.rglob("*.py"))
    # The official images of Python hold no bytecode, and on a read-only disk each start would compile it anew.
    library = Path(sysconfig.get_path("stdlib"))
    found = library.rglob("*.py")
    _compile(source for source in found if not LEFT_OUT.intersection(source.relative_to(library).parts))
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


def _compile(sources: Iterable[Path]) -> None:
    for source in sorted(sources):
        text = source.read_bytes()
        tree = ast.parse(decode_source(text), str(source))
        if not OURS.intersection(source.parts):
            _strip(tree)
        code = compile(tree, str(source), "exec", dont_inherit=True, optimize=0)
        compiled = ROOT / Path(cache_from_source(str(source))).relative_to("/")
        compiled.parent.mkdir(parents=True, exist_ok=True)
        compiled.write_bytes(MAGIC_NUMBER + BELIEVED + source_hash(text) + marshal.dumps(code))


def _strip(tree: ast.Module) -> None:
    """Take the docstrings out; asserts stay."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            match node.body:
                case [ast.Expr(ast.Constant(str())) as first]:
                    node.body = [ast.copy_location(ast.Pass(), first)]
                case [ast.Expr(ast.Constant(str())), *others]:
                    node.body = others


def _write_bill_of_materials() -> None:
    """CycloneDX: the installed distributions with versions and licences."""
    target = str(SHARE / "sbom.cdx.json")
    _run("-m", "cyclonedx_py", "environment", "--output-reproducible", "--output-file", target, str(HOME))


def _run(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], check=True)


main()
