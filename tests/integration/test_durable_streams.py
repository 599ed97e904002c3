"""The groups of `@durable-streams/server-conformance-tests` that are about reading by offset, on our log of events."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from pathlib import Path

from tests.support.durable_streams.server import FOLDER, Streams
from tests.support.packages import missing

CACHE = Path(__file__).parents[2] / ".cache" / "durable-streams"
# docs/topics/workflows.md says why the others do not apply.
GROUPS = (
    "Read Operations",
    "Long-Poll Operations",
    "Offset Validation and Resumability",
    "Read-Your-Writes Consistency",
)
NOT_OURS = "SSE"
WITHIN_S = 110.0


def _installed() -> Path:
    npm = shutil.which("npm")
    if npm is None:
        missing("needs npm, to fetch the suite of Durable Streams")
    CACHE.mkdir(parents=True, exist_ok=True)
    for name in ("package.json", "groups.test.js"):
        shutil.copy(FOLDER / name, CACHE)
    return Path(npm)


async def _run(*command: str, **environment: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=CACHE,
        env={**os.environ, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), WITHIN_S)
    return process.returncode or 0, out.decode(errors="replace")


async def test_the_groups_about_offsets_hold(tmp_path: Path) -> None:
    npm = _installed()
    if not (CACHE / "node_modules" / ".bin" / "vitest").exists():
        code, said = await _run(str(npm), "install", "--silent", "--no-package-lock")
        if code:
            missing(f"the suite of Durable Streams cannot be had: {said[-200:]}")
    streams = Streams(f"sqlite:///{tmp_path}/streams.db")
    runner = await streams.start()
    host, port = runner.addresses[0][:2]
    wanted = f"^(?!.*{NOT_OURS})({'|'.join(map(re.escape, GROUPS))})"
    report = tmp_path / "report.json"
    arguments = ["run", "-t", wanted, "--reporter=json", f"--outputFile={report}", "groups.test.js"]
    try:
        _, said = await _run(str(CACHE / "node_modules/.bin/vitest"), *arguments, URL=f"http://{host}:{port}")
    finally:
        await runner.cleanup()
        await streams.close()
    assert report.exists(), said[-2_000:]
    results = [one for file in json.loads(report.read_text())["testResults"] for one in file["assertionResults"]]
    failed = [f"{one['fullName']}: {one['failureMessages'][:1]}" for one in results if one["status"] == "failed"]
    assert not failed, "\n".join(failed)
    passed = {one["ancestorTitles"][-1] for one in results if one["status"] == "passed"}
    print(len(results), "tests,", sum(one["status"] == "passed" for one in results), "passed")
    assert passed == set(GROUPS)
    assert sum(one["status"] == "passed" for one in results) >= 20
