"""Two-activity workflows of Temporal. `python temporal_runs.py ADDRESS RUNS AT_ONCE`, one line of JSON."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
import uuid
from datetime import timedelta

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

ADDRESS, RUNS, AT_ONCE = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
LIMIT = timedelta(seconds=60)


@activity.defn
async def work(value: int) -> int:
    return value + 1


@workflow.defn
class Two:
    @workflow.run
    async def run(self, value: int) -> int:
        first = await workflow.execute_activity(work, value, start_to_close_timeout=LIMIT)
        return await workflow.execute_activity(work, first, start_to_close_timeout=LIMIT)


async def play(client: Client, runs: int) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with room:
            found = await client.execute_workflow(Two.run, number, id=str(uuid.uuid4()), task_queue="bench")
            assert found == number + 2

    await asyncio.gather(*(one(number) for number in range(runs)))


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def main() -> None:
    client = await Client.connect(ADDRESS)
    worker = Worker(
        client, task_queue="bench", workflows=[Two], activities=[work], workflow_runner=UnsandboxedWorkflowRunner()
    )
    async with worker:
        await play(client, 50)
        before, began_s = cpu_s(), time.monotonic()
        await play(client, RUNS)
        took_s = time.monotonic() - began_s
    row = {"runs": RUNS, "runs_per_s": RUNS / took_s, "cpu_ms": 1000 * (cpu_s() - before) / RUNS, "seconds": took_s}
    print(json.dumps(row), flush=True)


asyncio.run(main())
