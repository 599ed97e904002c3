"""How an attempt ended is told once, by whoever knows it best."""

from __future__ import annotations

import asyncio

import pytest

from gateway.workflows.own_word import OwnWord
from gateway.workflows.records import AttemptFound
from gateway.workflows.run import Attempt
from gateway.workflows.step import Failed, Happening

END = Failed(Attempt("a", 0, 1), "exit code 7")


async def test_an_end_is_told_although_what_the_job_said_cannot_be_read(caplog: pytest.LogCaptureFixture) -> None:
    told: asyncio.Queue[Happening] = asyncio.Queue()

    async def find(public: str) -> AttemptFound | None:
        raise ValueError("of a later version")

    own_word = OwnWord(lambda run, happening: told.put_nowait(happening), find)
    own_word("run", END)
    async with asyncio.timeout(10):
        assert await told.get() == END
    assert "workflow_end_unread" in caplog.text
    await own_word.close()
