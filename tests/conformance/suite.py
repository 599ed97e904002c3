"""Runs cases of the Autobahn fuzzing client against a server and reads its report."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

GOOD = frozenset({"OK", "NON-STRICT", "INFORMATIONAL"})
PROTOCOL_CASES = [f"{number}.*" for number in range(1, 11)]
# Compression, 12 and 13: one case of each kind. All of them take 11 minutes.
COMPRESSION_SAMPLE = [f"12.{kind}.1" for kind in range(1, 6)] + [f"13.{kind}.1" for kind in range(1, 8)]
COMPRESSION_CASES = ["12.*", "13.*"]


class Server(NamedTuple):
    """Who is tested, and how to reach it."""

    name: str
    url: str
    protocols: Sequence[str] = ()


class Result(NamedTuple):
    """One case: what became of it and of its closing handshake, and the close code the server sent (None: none)."""

    behavior: str
    close: str
    code: int | None

    @property
    def good(self) -> bool:
        return self.behavior in GOOD and self.close in GOOD

    def describe(self) -> str:
        return f"{self.behavior} / {self.close} ({self.code})"

    @property
    def rank(self) -> int:
        """The higher, the worse."""
        return (self.behavior not in GOOD) * 2 + (self.close not in GOOD)


def run_cases(wstest: Path, server: Server, cases: Sequence[str], folder: Path, timeout_s: float) -> dict[str, Result]:
    """Run the cases and return every result. Raises AssertionError when the suite wrote none."""
    # The suite always ends with 0: an old report would pass for a new one.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    described = {"agent": server.name, "url": server.url, "protocols": list(server.protocols)}
    spec = folder / "spec.json"
    spec.write_text(
        json.dumps({"outdir": str(folder), "servers": [described], "cases": list(cases), "exclude-cases": []})
    )
    with (folder / "output.txt").open("wb") as output:
        subprocess.run(
            [wstest, "--mode", "fuzzingclient", "--spec", spec],
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            timeout=timeout_s,
            check=True,
        )
    index = folder / "index.json"
    assert index.exists(), f"no report of {server.name}: {(folder / 'output.txt').read_text()[-500:]}"
    report = json.loads(index.read_text()).get(server.name, {})
    results = {
        case: Result(entry["behavior"], entry["behaviorClose"], entry["remoteCloseCode"])
        for case, entry in report.items()
    }
    assert results, f"no case was run against {server.name}"
    return results


def counts(results: dict[str, Result]) -> str:
    """How many cases ended how, for people."""
    behaviors = Counter(result.behavior for result in results.values())
    return f"{len(results)} cases: " + ", ".join(f"{count} {name}" for name, count in behaviors.most_common())


def failures(results: dict[str, Result]) -> list[str]:
    """The cases that are not good, in the suite's order."""
    bad = [case for case, result in results.items() if not result.good]
    return sorted(bad, key=lambda case: [int(part) for part in case.split(".")])


def worse(ours: dict[str, Result], theirs: dict[str, Result]) -> list[str]:
    """What we fail and the reference does not, or fails less."""
    return [case for case in failures(ours) if ours[case].rank > theirs[case].rank]
