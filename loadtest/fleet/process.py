"""A fleet: one process with its share of the devices. `python -m loadtest.fleet.process`.

The first line of standard input holds the options as JSON, each further one a command (see `Fleet.do`); the end of the
input is a `stop`. Standard output is one `Sample` a second, and a line `{"event": …}` for what is remarkable. Exit 2:
the options or the file limit do not do, 3: a target refuses; both are said before the first device connects.
"""

from __future__ import annotations

import asyncio
import gc
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import uvloop

from gateway.adapters.machine import make_room_for_files
from gateway.errors import HeiwaError, SettingsError
from loadtest.fleet import options as fleet_options
from loadtest.fleet import replay, sample
from loadtest.fleet.acked import AckedFile
from loadtest.fleet.commands import Lines
from loadtest.fleet.connector import Connector
from loadtest.fleet.events import EventFactory
from loadtest.fleet.ledger import Ledger
from loadtest.fleet.options import FleetOptions
from loadtest.fleet.phases import DONE, GIVEN_UP, TRYING, UP
from loadtest.fleet.population import Population
from loadtest.fleet.probe import probe, tokens_of
from loadtest.fleet.replay import RecordingSummary
from loadtest.fleet.replayer import Replayer
from loadtest.fleet.sample import Sample
from loadtest.fleet.sender import TICK_S, EventSender
from loadtest.fleet.tally import FleetTally, cpu_s, rss_bytes

# Standard streams, the loop's own, a probe.
FILE_RESERVE = 64
MAX_LOST_NAMED = 100
# While nobody sends or is to connect, waking a hundred times a second would be most of what a fleet costs.
IDLE_TICK_S = 5 * TICK_S
# From the last close frame to the end of the process.
CLOSE_S = 8.0

Write = Callable[[bytes], None]


class DeviceFleet:
    """All parts of the process. Moments are seconds of `time.monotonic`."""

    def __init__(
        self, options: FleetOptions, connector: Connector, write: Write, recorded: RecordingSummary | None = None
    ) -> None:
        self.options = options
        self.ended = asyncio.Event()
        self._write = write
        self._connector = connector
        self._wall_s = time.time() - time.monotonic()
        self._run = options.run or f"{time.time_ns() // 1_000_000:x}."
        self._tally = FleetTally(options.speed)
        self._lost_named = 0
        self.population = Population(options, connector, self._sender, self._tally, time.monotonic, self.tell)
        self.sender = self.population.sender
        self._replayer: Replayer | None = None
        if recorded is not None:
            self._replayer = self.population.guide = Replayer(recorded, self.population, connector.token)
            connector.recorded_classes = recorded.classes_of(options.first, options.devices)
        self._acked = AckedFile(options, self._run, self.sender.ledger) if options.acked_file else None
        self._deadline_s = math.inf
        self._cut_short = False
        self._mourned = 0
        self._next_sample_ms = 0
        self._due_s = 0.0
        self._loop = asyncio.get_running_loop()

    def _sender(self, population: Population) -> EventSender:
        options = self.options
        arrival = options.events.of_events(options.devices)
        stride = round(options.events.period_s) if arrival is not None else 1
        return EventSender(
            arrival,
            Ledger(options.devices, options.store),
            EventFactory(self._run, options.seed, fleet_options.tracks(options.tracks), stride),
            self._tally,
            population.wheel,
            population.devices,
            population.mute,
            population.faulty,
            first=options.first,
            window=options.max_in_flight,
            wall_s=self._wall_s,
            random=Random(f"{options.seed} {options.process} events"),
            report=lambda slot, numbers: self._lost(slot, numbers, "the store of the device is full"),
        )

    # Commands

    def do(self, command: dict[str, Any]) -> None:
        """Carry out one command; raises SettingsError for what cannot be.

        | `do` | with | what |
        | --- | --- | --- |
        | `connect` | `at_ms` | open the connections, as the arrival says; of a recording those that were open |
        | `send` | `at_ms` | begin to send events, or to play the recording |
        | `pause` | | no new events |
        | `cut` | `fraction`, `how`: reset, fin, silent, stall, `for_s` | break a fraction of all connections at once |
        | `targets` | `urls` | where the next connects go; none: nowhere, unless `routing` is fixed |
        | `cut_target` | `url`, `how` | break all connections to one target, as a load balancer does |
        | `stop` | `within_s` | wait for acks, close, write the last sample, exit; again: at once |
        """
        name = command.get("do")
        if name == "connect":
            self.population.connect(self._moment_s(command), self._replayer.here if self._replayer else None)
        elif name == "send":
            gc.freeze()  # a full collection over all connections would be a pause of tens of ms
            self._send(self._moment_s(command))
        elif name == "pause":
            self._pause()
        elif name == "cut":
            connected = self.population.connected()
            fraction = min(1.0, max(0.0, float(command.get("fraction", 1))))
            chosen = self.population.random.sample(connected, round(len(connected) * fraction))
            self._cut(chosen, command)
        elif name == "targets":
            self._connector.aim([str(url) for url in command.get("urls", ())])
        elif name == "cut_target":
            found = fleet_options.target(str(command.get("url", "")))
            targets = self._connector.targets
            slots = self.population.connected(targets.index(found)) if found in targets else []
            self._cut(slots, command, ours=False)
        elif name == "stop":
            self.stop(float(command.get("within_s", self.options.finish_s)))
        else:
            raise SettingsError("do", f"there is no command {name!r}")

    def _send(self, at_s: float) -> None:
        if self._replayer is not None:
            self._replayer.begin(at_s)
        else:
            self.sender.begin(at_s, time.monotonic())

    def _pause(self) -> None:
        self.sender.pause()
        if self._replayer is not None:
            self._replayer.pause(time.monotonic())

    def _cut(self, slots: list[int], command: dict[str, Any], *, ours: bool = True) -> None:
        how = command.get("how", "reset")
        if how not in ("reset", "fin", "silent", "stall"):
            raise SettingsError("how", f"{how!r} is not reset, fin, silent or stall")
        self.population.cut(slots, how, ours=ours, for_s=float(command.get("for_s", 0)))
        self.tell("cut", count=len(slots), how=how)

    def _moment_s(self, command: dict[str, Any]) -> float:
        at_ms = max(float(command.get("at_ms", 0)), self.options.start_at_ms)
        return max(time.monotonic(), at_ms / 1000 - self._wall_s)

    def stop(self, within_s: float) -> None:
        """No new events; what is open has so long to be answered. A second call ends at once."""
        if self.population.finishing:
            self._cut_short = True
            self._deadline_s = time.monotonic()
            return
        self._pause()
        self.population.finish()
        self._deadline_s = time.monotonic() + within_s

    # Time

    async def run(self) -> None:
        """Until it was stopped and everything is written."""
        self._sample_at()
        self._due_s = time.monotonic()
        self._tick()
        await self.ended.wait()

    def _tick(self) -> None:
        self._tally.late_s = max(self._tally.late_s, time.monotonic() - self._due_s)
        try:
            self.population.turn()
            now_s = self.population.now_s
            if now_s + self._wall_s >= self._next_sample_ms / 1000:
                self._emit(self._next_sample_ms)
                self._sample_at()
            if self.population.finishing and self._is_over(now_s):
                self._end()
                return
        except BaseException as error:
            self.tell("failed", error=f"{type(error).__name__}: {error}")
            self.ended.set()
            raise
        tick_s = TICK_S if self.population.busy or self.sender.sending else IDLE_TICK_S
        self._due_s = (math.floor(time.monotonic() / tick_s) + 1) * tick_s
        self._loop.call_later(max(0.0, self._due_s - time.monotonic()), self._tick)

    def _is_over(self, now_s: float) -> bool:
        ledger, population = self.sender.ledger, self.population
        if not population.closing:
            if population.counts[GIVEN_UP] != self._mourned:
                self._mourned = population.counts[GIVEN_UP]
                self._give_up_open(GIVEN_UP, "the device stopped for good")
            if (ledger.in_flight or ledger.waiting) and now_s < self._deadline_s:
                return False
            if not self._cut_short:
                self._give_up_open(UP, "it was not acknowledged")
                self._give_up_open(None, "the device did not come back in time")
            self._deadline_s = now_s + CLOSE_S
            population.close()
        return population.counts[DONE] == self.options.devices or now_s >= self._deadline_s

    def _give_up_open(self, phase: int | None, why: str) -> None:
        """What is open on devices in this phase (None: any) will not be answered any more."""
        ledger, phases = self.sender.ledger, self.population.phases
        if not ledger.in_flight and not ledger.waiting:
            return
        for slot in range(self.options.devices):
            if (ledger.flying[slot] or ledger.stored[slot]) and phase in (None, phases[slot]):
                self._lost(slot, ledger.lose_open(slot), why)

    def _end(self) -> None:
        self._emit(round((time.monotonic() + self._wall_s) * 1000))
        if self._acked is not None:
            self._acked.finish()
        self.ended.set()

    # Output

    def tell(self, event: str, **fields: object) -> None:
        line = {"event": event, "process": self.options.process, "time_ms": time.time_ns() // 1_000_000, **fields}
        self._write(json.dumps(line).encode() + b"\n")

    def _lost(self, slot: int, numbers: Sequence[int], why: str) -> None:
        named = self.sender.ids(numbers[: MAX_LOST_NAMED - self._lost_named])
        if named:
            self._lost_named += len(named)
            self.tell("lost", account=self.options.account, device=self.options.name(slot), ids=named, why=why)

    def _keep_acked(self) -> None:
        """Before a sample tells of them: what a sample counted can be judged, however this process ends."""
        try:
            if self._acked is not None:
                self._acked.flush()
        except OSError as error:
            self.tell("acked_file", error=str(error))

    def _sample_at(self) -> None:
        """Samples end at whole seconds of the wall clock, so that those of several processes lie together."""
        self._next_sample_ms = (math.floor(time.monotonic() + self._wall_s) + 1) * 1000

    def _emit(self, time_ms: int) -> None:
        self._keep_acked()
        tally, ledger, counts = self._tally, self.sender.ledger, self.population.counts
        self._write(
            sample.encode(
                Sample(
                    process=self.options.process,
                    time_ms=time_ms,
                    devices=self.options.devices,
                    connected=counts[UP],
                    connecting=counts[TRYING],
                    connects=tally.connects,
                    closed={str(code): count for code, count in tally.closed.items()},
                    unexpected=tally.unexpected,
                    refused={str(status): count for status, count in tally.refused.items()},
                    goaways=tally.goaways,
                    given_up=counts[GIVEN_UP],
                    sent=ledger.sent,
                    acked=ledger.acked,
                    nacked=ledger.nacked,
                    in_flight=ledger.in_flight,
                    stored=ledger.waiting,
                    lost=ledger.lost,
                    resent=ledger.resent,
                    ack=tally.ack.take(),
                    faulty_ack=tally.faulty_ack.take(),
                    connect=tally.connect.take(),
                    gap=tally.gap.take(),
                    bins=tally.bins.take(),
                    client_models=self.population.states.by_client_model(tally.abnormal),
                    cpu_s=cpu_s(),
                    rss_bytes=rss_bytes(),
                    late_ms=tally.take_late_ms(),
                )
            )
            + b"\n"
        )


def write_line(line: bytes) -> None:
    """To standard output, whole, and without a buffer that would have to be flushed."""
    while line:
        line = line[os.write(1, line) :]


def raise_file_limit(devices: int) -> None:
    """Raises SettingsError when even the hard limit is too low for so many."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and devices + FILE_RESERVE > hard:
        raise SettingsError(
            "devices",
            f"{devices} devices need {devices + FILE_RESERVE} open files, and a process may have {hard}: give this "
            f"one at most {max(0, hard - FILE_RESERVE)} and start more of them, or raise the limit (ulimit -Hn)",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    make_room_for_files(devices + FILE_RESERVE)


async def run() -> None:
    """The whole life of the process. Raises HeiwaError for what is wrong before the first connection."""
    lines = Lines()
    options = fleet_options.load(lines.next())
    raise_file_limit(options.devices)
    fleet_options.tracks(options.tracks)
    recorded = replay.scan(Path(options.replay)) if options.replay else None
    connector = Connector(options, tokens_of(options))
    if options.probe:
        await probe(connector, options)
    fleet = DeviceFleet(options, connector, write_line, recorded)
    loop = asyncio.get_running_loop()

    def on_line(line: bytes) -> None:
        if not line:
            fleet.stop(options.finish_s)
        elif line.strip():
            try:
                fleet.do(json.loads(line))
            except (HeiwaError, ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
                fleet.tell("bad_command", command=line.decode(errors="replace")[:200], error=str(error))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, fleet.stop, options.finish_s)
    gc.collect()
    gc.freeze()
    fleet.tell("ready", devices=options.devices)
    lines.follow(on_line, loop)
    await fleet.run()


def main() -> None:
    # Objects of a connection live long and have no cycles: look for garbage rarely.
    gc.set_threshold(50_000, 50, 100)
    try:
        uvloop.run(run())
    except HeiwaError as error:
        print(json.dumps({"event": "error", "message": str(error)}), flush=True)
        print(f"heiwa fleet: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main()
