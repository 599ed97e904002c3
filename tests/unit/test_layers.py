"""Imports go one way: app → services → ports → core, and adapters → ports, core. The table is in layers.py.

Neither modules nor parts import each other in a circle. An import under TYPE_CHECKING counts: who reads a file has to
know what it names.
"""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.unit.layers import FOREIGN_IN_CORE, MAY_IMPORT, NOT_IN_CORE, SANS_IO, TABLE, Layer, layer_of, part_of

ROOT = Path(__file__).parents[2]
HEAVY = (
    "sqlalchemy",
    "alembic",
    "aiosqlite",
    "asyncpg",
    "yaml",
    "botocore",
    "redis",
    "opensearchpy",
    "pydantic",
    "jwt",
    "cryptography",
    "rich",
    "structlog",
)


# Nor does a command that asks a gateway something, or that shows its help, need an event loop.
SLOW_TO_LOAD = ("aiohttp", "asyncio", "prometheus_client", "sqlite3", "ssl", "urllib.request", "websockets", "zipfile")


class Import(NamedTuple):
    """An import of `target` in `source` at `line`."""

    source: str
    target: str
    line: int


@cache
def _files() -> dict[str, Path]:
    """All modules; empty `__init__` files are no part."""
    paths = (path for package in ("gateway", "loadtest") for path in sorted((ROOT / package).rglob("*.py")))
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in paths}
    return {module: path for module, path in modules.items() if not module.endswith(".__init__")}


def _gateway() -> list[str]:
    return [module for module in _files() if module.startswith("gateway.")]


@cache
def _imports() -> list[Import]:
    return [found for module, path in _files().items() for found in _read(module, ast.parse(path.read_text()))]


def _read(source: str, node: ast.AST) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(source, alias.name, child.lineno) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{source}:{child.lineno}: relative import"
            for alias in child.names:
                whole = f"{child.module}.{alias.name}"
                yield Import(source, whole if whole in _files() else child.module or "", child.lineno)
        else:
            yield from _read(source, child)


def _told(problems: list[Import], rule: str) -> str:
    return "\n".join(f"{found.source}:{found.line} imports {found.target}: {rule}" for found in problems)


def test_every_module_has_a_layer() -> None:
    assert [module for module in _gateway() if layer_of(module) is None] == []


def test_every_line_of_the_table_is_needed() -> None:
    unused = [pattern for pattern, _ in TABLE if not any(fnmatchcase(module, pattern) for module in _gateway())]
    assert unused == []


@pytest.mark.parametrize("layer", Layer)
def test_imports_go_one_way(layer: Layer) -> None:
    wrong = [
        found
        for found in _imports()
        if layer_of(found.source) is layer
        and found.target in _files()
        and layer_of(found.target) not in MAY_IMPORT[layer]
    ]
    assert not wrong, _told(wrong, f"not from {layer}")


def test_core_needs_no_world() -> None:
    wrong = [
        found
        for found in _imports()
        if layer_of(found.source) is Layer.CORE and not found.target.startswith("gateway") and not _pure(found.target)
    ]
    assert not wrong, _told(wrong, "core is the standard library without I/O, msgspec and websockets' Sans-I/O layer")


def _pure(target: str) -> bool:
    top = target.partition(".")[0]
    if top in sys.stdlib_module_names:
        return top not in NOT_IN_CORE
    return top in FOREIGN_IN_CORE or target in SANS_IO


@pytest.mark.parametrize("name", [lambda module: module, part_of], ids=["modules", "parts"])
def test_there_are_no_circles(name: Callable[[str], str]) -> None:
    graph: dict[str, set[str]] = {name(module): set() for module in _files()}
    for found in _imports():
        if found.target in _files() and name(found.source) != name(found.target):
            graph[name(found.source)].add(name(found.target))
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle: {' → '.join(error.args[1])}")


def test_the_gateway_stands_without_its_load_test() -> None:
    wrong = [found for found in _imports() if found.source in _gateway() and found.target.startswith("loadtest")]
    assert not wrong, _told(wrong, "loadtest is not installed with it")


def _loaded(code: str, names: tuple[str, ...]) -> list[str]:
    """Which of these modules are loaded after the code has run."""
    code = f"import sys\n{code}\nprint('loaded', *[name for name in {names!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_defaults_load_nothing_heavy() -> None:
    assert _loaded("import gateway.app.serving", HEAVY) == []


@pytest.mark.parametrize("line", ["--help", "check --help", "job --help", "token --help", "command --help"])
def test_the_command_line_loads_nothing_that_its_answer_does_not_need(line: str) -> None:
    words = ["heiwa", *line.split()]
    run = f"import gateway.__main__\nsys.argv = {words}\ntry: gateway.__main__.main()\nexcept SystemExit: pass"
    assert _loaded(run, (*HEAVY, *SLOW_TO_LOAD)) == []
