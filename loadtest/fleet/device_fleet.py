"""All parts of a fleet process together: its devices, what they send, its commands, samples and end."""

from __future__ import annotations

import asyncio
import gc
import math
import time
from collections.abc import Sequence
from random import Random

from loadtest.fleet.acked import AckedFile
from loadtest.fleet.commands import (
    ConnectCommand,
    CutCommand,
    CutTargetCommand,
    FleetCommand,
    PauseCommand,
    SendCommand,
    StopCommand,
    TargetsCommand,
)
from loadtest.fleet.connector import Connector
from loadtest.fleet.events import EventFactory
from loadtest.fleet.ledger import Ledger
from loadtest.fleet.options import FleetOptions
from loadtest.fleet.output import FleetOutput, Write
from loadtest.fleet.phases import DONE, GIVEN_UP, TRYING, UP
from loadtest.fleet.population import Population
from loadtest.fleet.replay import RecordingSummary
from loadtest.fleet.replayer import Replayer
from loadtest.fleet.sample import Sample
from loadtest.fleet.sender import TICK_S, EventSender
from loadtest.fleet.tally import FleetTally, cpu_s, rss_bytes
from loadtest.fleet.targets import target
from loadtest.fleet.tracks import tracks
from loadtest.scenario.scenario import CutMethod

# While no device sends or is about to connect, waking a hundred times a second would be most of what a fleet costs.
IDLE_TICK_S = 5 * TICK_S
# A tick that comes so late was held up: the process stood still, or its machine did.
STALL_S = 0.1
# From the last close frame to the end of the process.
CLOSE_S = 8.0


class DeviceFleet:
    """Moments are seconds of `time.monotonic`. `ended` is set when all is written."""

    def __init__(
        self, options: FleetOptions, connector: Connector, write: Write, recorded: RecordingSummary | None = None
    ) -> None:
        self.options = options
        self.ended = asyncio.Event()
        self.output = FleetOutput(options, write)
        self._connector = connector
        self._wall_s = time.time() - time.monotonic()
        self._run = options.run or f"{time.time_ns() // 1_000_000:x}."
        self._tally = FleetTally(options.speed)
        self.population = Population(options, connector, self._sender, self._tally, time.monotonic, self.output.tell)
        self.sender = self.population.sender
        self._replayer: Replayer | None = None
        if recorded is not None:
            self._replayer = self.population.guide = Replayer(recorded, self.population, connector.token)
            connector.recorded_classes = recorded.classes_of(options.first, options.devices)
        self._acked = AckedFile(options, self._run, self.sender.ledger) if options.acked_file else None
        self._deadline_s = math.inf
        self._cut_short = False
        self._given_up_seen = 0
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
            EventFactory(self._run, options.seed, tracks(options.tracks), stride),
            self._tally,
            population.wheel,
            population.devices,
            population.faults,
            first=options.first,
            window=options.max_in_flight,
            wall_s=self._wall_s,
            random=Random(f"{options.seed} {options.process} events"),
            acked=population.watching.acked,
            report=lambda slot, numbers: self._lost(slot, numbers, "the store of the device is full"),
        )

    # Commands

    def do(self, command: FleetCommand) -> None:
        """Carry out one command. Raises SettingsError when it cannot be carried out."""
        match command:
            case ConnectCommand(at_ms):
                self.population.connect(self._moment_s(at_ms), self._replayer.here if self._replayer else None)
            case SendCommand(at_ms):
                gc.freeze()  # a full collection over all connections would be a pause of tens of ms
                self._send(self._moment_s(at_ms))
            case PauseCommand():
                self._pause()
            case CutCommand(fraction, how, for_s):
                connected = self.population.connected()
                chosen = self.population.random.sample(connected, round(len(connected) * fraction))
                self._cut(chosen, how, for_s=for_s)
            case TargetsCommand(urls, weights):
                self._connector.aim(urls, weights)
            case CutTargetCommand(url, how):
                found, targets = target(url), self._connector.targets
                slots = self.population.connected(targets.index(found)) if found in targets else []
                self._cut(slots, how, ours=False)
            case StopCommand(within_s):
                self.stop(within_s)

    def _send(self, at_s: float) -> None:
        if self._replayer is not None:
            self._replayer.begin(at_s)
        else:
            self.sender.begin(at_s, time.monotonic())
            self.population.commander.begin(at_s)

    def _pause(self) -> None:
        self.sender.pause()
        self.population.commander.pause()
        if self._replayer is not None:
            self._replayer.pause(time.monotonic())

    def _cut(self, slots: list[int], how: CutMethod, *, ours: bool = True, for_s: float = 0) -> None:
        self.population.cut(slots, how, ours=ours, for_s=for_s)
        self.output.tell("cut", count=len(slots), how=how)

    def _moment_s(self, at_ms: float) -> float:
        return max(time.monotonic(), max(at_ms, self.options.start_at_ms) / 1000 - self._wall_s)

    def stop(self, within_s: float | None = None) -> None:
        """Make no new events, and wait up to `within_s` (None: `finish_s`) for answers. A second call ends at once."""
        if self.population.finishing:
            self._cut_short = True
            self._deadline_s = time.monotonic()
            return
        self._pause()
        self.population.finish()
        self._deadline_s = time.monotonic() + (self.options.finish_s if within_s is None else within_s)

    # Time

    async def run(self) -> None:
        """Return when the fleet was stopped and everything is written."""
        self._set_next_sample()
        self._due_s = time.monotonic()
        self._tick()
        await self.ended.wait()

    def _tick(self) -> None:
        late_s = time.monotonic() - self._due_s
        self._tally.late_s = max(self._tally.late_s, late_s)
        if late_s < STALL_S:
            self._turn()
        else:
            # A loop runs what is due by time before it reads: no device may give up waiting for what is here already.
            self.population.now_s = time.monotonic()
            self._loop.call_soon(self._loop.call_soon, self._turn)

    def _turn(self) -> None:
        try:
            self.population.turn()
            now_s = self.population.now_s
            if now_s + self._wall_s >= self._next_sample_ms / 1000:
                self._emit(self._next_sample_ms)
                self._set_next_sample()
            if self.population.finishing and self._is_over(now_s):
                self._end()
                return
        except BaseException as error:
            # First: there may be nobody left to be told.
            self.ended.set()
            self.output.tell("failed", error=f"{type(error).__name__}: {error}")
            raise
        busy = self.population.busy or self.sender.sending or self.population.commander.sending
        tick_s = TICK_S if busy else IDLE_TICK_S
        self._due_s = (math.floor(time.monotonic() / tick_s) + 1) * tick_s
        self._loop.call_later(max(0.0, self._due_s - time.monotonic()), self._tick)

    def _is_over(self, now_s: float) -> bool:
        ledger, population = self.sender.ledger, self.population
        if not population.closing:
            if population.counts[GIVEN_UP] != self._given_up_seen:
                self._given_up_seen = population.counts[GIVEN_UP]
                self._lose_open(GIVEN_UP, "the device stopped for good")
            unanswered = ledger.in_flight or ledger.waiting or population.commander.pending
            if (unanswered or population.watching.stale()) and now_s < self._deadline_s:
                return False
            self._tally.commands["watch_stale"] = population.watching.stale()
            population.commander.end()
            if not self._cut_short:
                self._lose_open(UP, "it was not acknowledged")
                self._lose_open(None, "the device did not come back in time")
            self._deadline_s = now_s + CLOSE_S
            population.close()
        return population.counts[DONE] == self.options.devices or now_s >= self._deadline_s

    def _lose_open(self, phase: int | None, why: str) -> None:
        """Count the open events of the devices in this phase (None: in any) as lost."""
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

    def _lost(self, slot: int, numbers: Sequence[int], why: str) -> None:
        self.output.lost(slot, self.sender.ids(numbers), why)

    def _flush_acked(self) -> None:
        """Before each sample: what a sample counted can be judged, however this process ends."""
        try:
            if self._acked is not None:
                self._acked.flush()
        except OSError as error:
            self.output.tell("acked_file", error=str(error))

    def _set_next_sample(self) -> None:
        period_s = self.options.sample_period_s
        self._next_sample_ms = round((math.floor((time.monotonic() + self._wall_s) / period_s) + 1) * period_s * 1000)

    def _emit(self, time_ms: int) -> None:
        self._flush_acked()
        ledger, counts = self.sender.ledger, self.population.counts
        self.output.sample(
            Sample(
                process=self.options.process,
                time_ms=time_ms,
                devices=self.options.devices,
                connected=counts[UP],
                connecting=counts[TRYING],
                given_up=counts[GIVEN_UP],
                sent=ledger.sent,
                acked=ledger.acked,
                nacked=ledger.nacked,
                in_flight=ledger.in_flight,
                waiting=ledger.waiting,
                lost=ledger.lost,
                resent=ledger.resent,
                client_models=self.population.states.by_client_model(self._tally.abnormal),
                cpu_s=cpu_s(),
                rss_bytes=rss_bytes(),
                **self._tally.take(),
            )
        )
