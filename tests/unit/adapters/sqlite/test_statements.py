"""What SQLite's module refuses on a newer Python than the one that runs the tests."""

import ast
import re
from pathlib import Path

import pytest

from tests.support.process import ROOT

FILES = sorted((ROOT / "gateway/adapters/sqlite").glob("*.py"))
# A numbered placeholder counts as a named one. With values by position, Python 3.14 refuses the statement.
NUMBERED = re.compile(r"\?\d")


@pytest.mark.parametrize("file", FILES, ids=[file.name for file in FILES])
def test_no_placeholder_has_a_number(file: Path) -> None:
    tree = ast.parse(file.read_text())
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert not [text for text in texts if NUMBERED.search(text)]
