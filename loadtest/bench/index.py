"""Speed of the embedded location index alone: writing to N rows beside a busy Python thread, then searching them.

    python -m loadtest.bench.index --rows 5000000 --busy

The data is a fleet's: 15,000 devices in 50 towns, 20 events a message, times nearly in order. `--busy` spins a Python
thread, which stands for an event loop that never rests; without it the figure says nothing about a gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

from gateway.adapters.clock import SystemClock
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.locations.batch import DeviceEvents
from gateway.locations.event import LocationEvent
from gateway.locations.query import Position, Query, parse_search

DEVICES = 15_000
TOWNS = 50
EVENTS_PER_MESSAGE = 20
PROGRESS_ROWS = 500_000
SEARCHES = 30


def messages(seed: int, start_ms: int) -> Iterator[DeviceEvents]:
    """An endless stream of messages of a fleet that sends 20,000 events a second."""
    rng = random.Random(seed)
    towns = [(rng.uniform(-50, 60), rng.uniform(-179, 179)) for _ in range(TOWNS)]
    places = [(lat + rng.gauss(0, 0.1), lon + rng.gauss(0, 0.1)) for lat, lon in rng.choices(towns, k=DEVICES)]
    sent = [0] * DEVICES
    order = list(range(DEVICES))
    rng.shuffle(order)
    now_ms = start_ms
    while True:
        for number in order:
            lat, lon = places[number]
            name = f"device-{number:05}"
            events = []
            for step in range(EVENTS_PER_MESSAGE):
                lat, lon = lat + rng.uniform(-1e-4, 1e-4), lon + rng.uniform(-1e-4, 1e-4)
                at_ms = now_ms - (EVENTS_PER_MESSAGE - 1 - step) * 750
                events.append(
                    LocationEvent(
                        f"{name}-{sent[number] + step}", at_ms, round(lat, 6), round(lon, 6), speed=13.2, heading=270.5
                    )
                )
            places[number], now_ms = (lat, lon), now_ms + 1
            sent[number] += EVENTS_PER_MESSAGE
            yield DeviceEvents("fleet", name, events)


async def write(index: SQLiteLocationIndex, rows: int, batch: int, busy: bool, start_ms: int) -> None:
    """Write `rows` events in batches, and say every half million how fast it went."""
    source = messages(1, start_ms)
    done = 0
    while done < rows:
        # Data is made outside of the measured time.
        step = min(PROGRESS_ROWS, rows - done)
        groups = [next(source) for _ in range(step // EVENTS_PER_MESSAGE)]
        took: list[float] = []
        stop = threading.Event()
        spinner = threading.Thread(target=_spin, args=(stop,))
        if busy:
            spinner.start()
        cpu_s, began_s = time.process_time(), time.perf_counter()
        for first in range(0, len(groups), batch // EVENTS_PER_MESSAGE):
            batch_began_s = time.perf_counter()
            refused = await index.write(groups[first : first + batch // EVENTS_PER_MESSAGE])
            assert not refused, refused
            took.append(time.perf_counter() - batch_began_s)
        wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
        stop.set()
        if busy:
            spinner.join()
        done += step
        took.sort()
        cpu = "" if busy else f"  cpu {cpu_s / step * 1e6:.1f} µs a row"
        print(
            f"{done:>10,} rows  {step / wall_s:>8,.0f} rows/s  a batch: p50 {took[len(took) // 2] * 1e3:.0f} "
            f"p99 {took[int(len(took) * 0.99)] * 1e3:.0f} max {took[-1] * 1e3:.0f} ms{cpu}",
            flush=True,
        )


def _spin(stop: threading.Event) -> None:
    while not stop.is_set():
        for _ in range(1000):
            pass


async def search(index: SQLiteLocationIndex) -> None:
    """Time each kind of search on what is stored."""
    newest, _ = await index.search("fleet", Query(limit=1))
    some = newest[0]
    box = f"{some.lon - 0.01},{some.lat - 0.01},{some.lon + 0.01},{some.lat + 0.01}"
    wide = f"{max(some.lon - 5, -180)},{some.lat - 5},{min(some.lon + 5, 180)},{some.lat + 5}"
    old_ms = str(some.time - 60_000)
    queries = {
        "newest 100 of the world": {},
        "empty small box": {"bbox": "0.001,-89.002,0.002,-89.001"},
        "empty box in a town": {"bbox": f"{some.lon + 3e-7},{some.lat + 3e-7},{some.lon + 6e-7},{some.lat + 6e-7}"},
        "box of 2 km in a town": {"bbox": box},
        "box of 10 degrees": {"bbox": wide},
        "box of 2 km, older than a minute": {"bbox": box, "to": old_ms},
        "within 1 km": {"near": f"{some.lat},{some.lon}", "radius_m": "1000"},
        "newest 1,000 of the world": {"limit": "1000"},
        "one device": {"device": some.device},
    }
    for name, parameters in queries.items():
        query = parse_search(parameters)
        await _time(name, lambda query=query: _count(index, query))  # type: ignore[misc]
    after = Query(after=Position(some.time - 30_000, "", ""))
    await _time("a page from a cursor", lambda: _count(index, after))
    track = Query(device=some.device)
    await _time("track of one device", lambda: _count(index, track, track=True))
    await _time("latest of one device", lambda: _latest(index, some.device))


async def _count(index: SQLiteLocationIndex, query: Query, *, track: bool = False) -> int:
    events, _ = await (index.track if track else index.search)("fleet", query)
    return len(events)


async def _latest(index: SQLiteLocationIndex, device: str) -> int:
    return int(await index.latest("fleet", device) is not None)


async def _time(name: str, call: Callable[[], Awaitable[int]]) -> None:
    took = []
    found = 0
    for _ in range(SEARCHES):
        began_s = time.perf_counter()
        found = await call()
        took.append((time.perf_counter() - began_s) * 1e3)
    took.sort()
    print(f"  {name:<34} p50 {took[SEARCHES // 2]:>8.2f} ms  max {took[-1]:>8.2f} ms  ({found} found)")


async def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--batch", type=int, default=2000)
    parser.add_argument("--busy", action="store_true", help="spin a Python thread while writing")
    parser.add_argument("--folder", type=Path, help="keep the files here, and search what is there already")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="heiwa-bench-"))
    clock = SystemClock()
    index = SQLiteLocationIndex(folder, clock, max_bytes=1 << 40)
    await index.open()
    try:
        # From yesterday's midnight, so that everything falls on one day.
        midnight_ms = clock.time_ms() // 86_400_000 * 86_400_000 - 86_400_000
        await write(index, arguments.rows, arguments.batch, arguments.busy, midnight_ms + 60_000)
        await search(index)
    finally:
        await index.close()
        if arguments.folder is None:
            shutil.rmtree(folder)


if __name__ == "__main__":
    asyncio.run(main())
