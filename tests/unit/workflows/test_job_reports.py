"""Progress that jobs report is stored at its pace."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.workflows.job_reports import JobReports
from gateway.workflows.records import AttemptFound
from gateway.workflows.run import Attempt
from tests.support.fake_clock import FakeClock


class Store:
    """Of one attempt; `defect` is what storing progress leads to."""

    defect: Exception | None = None

    def __init__(self) -> None:
        self.told: list[Any] = []

    async def attempt(self, public: str) -> AttemptFound:
        return AttemptFound("run", "acme", Attempt("a", 0, 1), "job", wanted=True, over=False)

    async def signals_told(self, told: list[Any], now_ms: int) -> None:
        if self.defect is not None:
            raise self.defect
        self.told += told


async def test_progress_that_cannot_be_stored_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    store, noticed = Store(), []
    reports = JobReports(store, b"key", FakeClock(), lambda: noticed.append(1))  # type: ignore[arg-type]
    store.defect = ValueError("a defect")
    await reports.report("public", "job", 10, None)
    await reports.flush()
    assert ("workflow_progress_dropped" in caplog.text, noticed) == (True, [])
    store.defect = None
    await reports.report("public", "job", 20, None)
    await reports.flush()
    assert [body["percent"] for _, _, body in store.told] == [20]
