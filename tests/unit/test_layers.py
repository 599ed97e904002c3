"""Imports go one way: app → services → ports → core, and adapters → ports, core. The table is in layers.py."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.unit.layers import FOREIGN_IN_CORE, MAY_IMPORT, NOT_IN_CORE, SANS_IO, TABLE, Layer, layer_of

ROOT = Path(__file__).parents[2]
HEAVY = ("sqlalchemy", "botocore", "opensearchpy", "pydantic", "jwt", "cryptography", "rich", "structlog")


class Import(NamedTuple):
    """An import of `target` in `source` at `line`; `typing`: under TYPE_CHECKING, it does not happen at run time."""

    source: str
    target: str
    line: int
    typing: bool


@cache
def _files() -> dict[str, Path]:
    """The package's modules; its empty `__init__` files are nobody's layer."""
    files = {}
    for path in sorted((ROOT / "gateway").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] != "__init__":
            files[".".join(parts)] = path
    return files


@cache
def _imports() -> list[Import]:
    return [found for module, path in _files().items() for found in _read(module, ast.parse(path.read_text()), False)]


def _read(source: str, node: ast.AST, typing: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(source, alias.name, child.lineno, typing) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{source}:{child.lineno}: relative import"
            for alias in child.names:
                whole = f"{child.module}.{alias.name}"
                yield Import(source, whole if whole in _files() else child.module or "", child.lineno, typing)
        else:
            checked = isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING")
            yield from _read(source, child, typing or checked)


def _told(problems: list[Import], rule: str) -> str:
    return "\n".join(f"{found.source}:{found.line} imports {found.target}: {rule}" for found in problems)


def test_every_module_has_a_layer() -> None:
    assert [module for module in _files() if layer_of(module) is None] == []


def test_every_line_of_the_table_is_needed() -> None:
    unused = [pattern for pattern, _ in TABLE if not any(fnmatchcase(module, pattern) for module in _files())]
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


def test_there_are_no_cycles() -> None:
    graph: dict[str, set[str]] = {module: set() for module in _files()}
    for found in _imports():
        if not found.typing and found.target in graph:
            graph[found.source].add(found.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"import cycle: {' → '.join(error.args[1])}")


def test_defaults_load_nothing_heavy() -> None:
    code = f"import sys, gateway.app.serving; print(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
