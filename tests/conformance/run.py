"""The transport against the Autobahn test suite; what it fails is compared with websockets' own server.

`python -m tests.conformance.run [--all]`. Reports are kept under `.cache/autobahn/`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from gateway.identity.key_files import local_key
from gateway.identity.token import mint
from gateway.wire.handshake import BEARER
from tests.conformance.install import CACHE, MissingSuiteError, install
from tests.conformance.suite import (
    COMPRESSION_CASES,
    COMPRESSION_SAMPLE,
    PROTOCOL_CASES,
    Result,
    Server,
    counts,
    failures,
    run_cases,
    worse,
)
from tests.support.echo import ECHO
from tests.support.process import server

MAX_BYTES = 16_777_216  # 9.* sends messages of this size
_SETTINGS = (
    f"connections.max_message_bytes={MAX_BYTES}",
    f"connections.outbound_max_bytes={4 * MAX_BYTES}",
    "connections.messages_per_s=0",
    "connections.bytes_per_s=0",
    "connections.flap_limit=0",
    "connections.duplicates=allow",
)
_REPORTS = CACHE / "autobahn"
_FAR_S = 4_102_444_800
_TIMEOUT_S = 3600.0


class Outcome(NamedTuple):
    """A run: all results, the reference's for those that failed, and what is worse than it."""

    results: dict[str, Result]
    reference: dict[str, Result]
    worse: list[str]

    def describe(self) -> str:
        text = counts(self.results)
        for case in failures(self.results):
            text += f"\n  {case}: {self.results[case].describe()}, websockets: {self.reference[case].describe()}"
        return text


def conformance(name: str, cases: Sequence[str], compression: bool) -> Outcome:
    """Run the cases; those that fail are run against the reference too. Raises MissingSuiteError."""
    wstest = install()
    with _gateway(compression) as ours:
        results = run_cases(wstest, ours, cases, _REPORTS / name, _TIMEOUT_S)
    failed = failures(results)
    reference = {}
    if failed:
        arguments = ["--max-bytes", str(MAX_BYTES), *(["--compression"] if compression else [])]
        with server("tests.conformance.reference", arguments) as port:
            theirs = Server("websockets", f"ws://127.0.0.1:{port}/")
            reference = run_cases(wstest, theirs, failed, _REPORTS / f"{name}-websockets", _TIMEOUT_S)
    return Outcome(results, reference, worse(results, reference))


@contextmanager
def _gateway(compression: bool) -> Iterator[Server]:
    with tempfile.TemporaryDirectory() as folder:
        flags = [*_SETTINGS, f"connections.compression={str(compression).lower()}"]
        arguments = ["--folder", folder, *(part for flag in flags for part in ("--set", flag))]
        claims = {"sub": "autobahn", "account": "tests", "scope": "progress:read", "exp": _FAR_S}
        token = mint(claims, local_key(Path(folder)))
        with server("tests.support.echo", arguments) as port:
            yield Server("heiwa", f"ws://127.0.0.1:{port}/ws", [ECHO, f"{BEARER}{token}"])


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--all", action="store_true", help="all cases of compression, 11 minutes more")
    everything = parser.parse_args().all
    status = 0
    for name, cases, compression in (
        ("protocol", PROTOCOL_CASES, False),
        ("compression", COMPRESSION_CASES if everything else COMPRESSION_SAMPLE, True),
    ):
        try:
            outcome = conformance(name, cases, compression)
        except MissingSuiteError as error:
            print(error, file=sys.stderr)
            return 2
        print(f"{name}: {outcome.describe()}")
        if outcome.worse:
            print(f"{name}: worse than websockets: {', '.join(outcome.worse)}", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
