"""Both listeners as Schemathesis sees them: whatever it makes of the OpenAPI document, the answer is an announced one.

A failure names a seed; `--seed` plays it again.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.openapi_of import write_document
from tests.support.program import Program

SECONDS = 25
# A query may be wrong and too long at the same time.
CONFIG = """
[checks.negative_data_rejection]
expected-statuses = [400, 401, 403, 404, 405, 406, 409, 413, 414, 415, 422, 429]
"""
# No schema can say that a cursor must be one that was given out, or that a ring must be closed.
LEFT_OUT = ["positive_data_acceptance"]


@pytest.mark.parametrize(
    ("listener", "scope", "left_out"),
    [
        # A bad event is answered with 200 and its own nack.
        ("public", "location:write", [*LEFT_OUT, "negative_data_rejection"]),
        ("operations", "admin", LEFT_OUT),
    ],
)
def test_every_answer_is_one_of_those_announced(tmp_path: Path, listener: str, scope: str, left_out: list[str]) -> None:
    write_document(tmp_path / "openapi.json", listener)
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    unlimited = ("connections.messages_per_s=0", "connections.bytes_per_s=0")
    with Program(tmp_path / "data", "log.format=json", *unlimited) as program:
        url = program.operations if listener == "operations" else f"http://127.0.0.1:{program.public_port}"
        command = [sys.executable, "-m", "schemathesis.cli", "run", "openapi.json", "--url", url]
        command += ["--header", f"Authorization: Bearer {program.token('dev', scope)}"]
        command += ["--checks", "all", "--exclude-checks", ",".join(left_out), "--phases", "coverage,fuzzing"]
        # They would end the process's service; they have tests of their own.
        command += ["--exclude-operation-id", "startDrain", "--exclude-operation-id", "cancelDrain"]
        command += ["--max-time", str(SECONDS), "--max-examples", "50", "--no-shrink", "--warnings", "off"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=110, cwd=tmp_path, check=False)
        assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-2000:]
        assert "Tested: 0" not in done.stdout
        assert not [line for line in program.events() if line["level"] in ("error", "critical")]
        assert program.process.poll() is None
