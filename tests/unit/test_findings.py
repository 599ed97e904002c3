"""Each script of findings/ can be run, and says at its head what was seen."""

import os
import re
import subprocess
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "findings").glob("*.sh"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_finding_says_what_was_seen(script: Path) -> None:
    text = script.read_text()
    head = re.match(r"#!/usr/bin/env bash\n((?:#.*\n)+)", text)
    assert head is not None
    told, _, seen = head[1].partition("# Seen:\n")
    assert re.search(r"\d+\.\d+", told), "the version"
    assert re.fullmatch(r"(#   .+\n)+", seen), "the output"
    assert os.access(script, os.X_OK)
    assert "diff - " in text, "it must fail when the output changes"
    assert subprocess.run(["bash", "-n", str(script)], timeout=30).returncode == 0
