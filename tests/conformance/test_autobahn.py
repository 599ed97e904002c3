"""The Autobahn test suite on the transport. All cases of compression are `make conformance`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.conformance.install import MissingSuiteError, install
from tests.conformance.run import conformance
from tests.conformance.suite import COMPRESSION_SAMPLE, PROTOCOL_CASES, failures
from tests.support.packages import missing


@pytest.fixture(scope="module", autouse=True)
def _suite() -> None:
    try:
        install()
    except MissingSuiteError as error:
        missing(str(error))


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("name", "cases", "compression", "count", "failed"),
    [
        # 7.1.5 wants 1000 for a close within a fragmented message; websockets answers 1002.
        ("protocol", PROTOCOL_CASES, False, 301, ["7.1.5"]),
        ("compression", COMPRESSION_SAMPLE, True, len(COMPRESSION_SAMPLE), []),
    ],
)
def test_autobahn(name: str, cases: Sequence[str], compression: bool, count: int, failed: list[str]) -> None:
    outcome = conformance(name, cases, compression)
    print(f"{name}: {outcome.describe()}")
    assert len(outcome.results) == count
    assert failures(outcome.results) == failed
    assert outcome.worse == []
