"""Two-step durable workflows of DBOS Transact. `python dbos_runs.py URL RUNS AT_ONCE`, one line of JSON."""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time

from dbos import DBOS

URL, RUNS, AT_ONCE = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
DBOS(config={"name": "bench", "system_database_url": URL, "log_level": "ERROR", "run_admin_server": False})


@DBOS.step()
async def work(value: int) -> int:
    return value + 1


@DBOS.workflow()
async def two(value: int) -> int:
    return await work(await work(value))


async def play(runs: int) -> None:
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with room:
            handle = await DBOS.start_workflow_async(two, number)
            assert await handle.get_result() == number + 2

    await asyncio.gather(*(one(number) for number in range(runs)))


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def main() -> None:
    await play(50)
    before, began_s = cpu_s(), time.monotonic()
    await play(RUNS)
    took_s = time.monotonic() - began_s
    row = {"runs": RUNS, "runs_per_s": RUNS / took_s, "cpu_ms": 1000 * (cpu_s() - before) / RUNS, "seconds": took_s}
    print(json.dumps(row), flush=True)


DBOS.launch()
asyncio.run(main())
DBOS.destroy()
