"""What all open connections of a process share: the clock, the wheel, the columns, the limits and the counts."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from gateway.clock import Clock
from gateway.connections.admission import Admission
from gateway.connections.ending import Ending
from gateway.connections.lifetime import age_s, token_lead_s
from gateway.connections.outbox import Outbox
from gateway.connections.registry import Registry
from gateway.connections.table import Table
from gateway.connections.timing_wheel import TimingWheel
from gateway.rate import TokenBucket
from gateway.settings.device_classes import DeviceClass
from gateway.settings.model import Connections, Settings
from gateway.telemetry.log import Log
from gateway.wire.uuid7 import time_ms_of

TICK_S = 0.25
# Work is counted in messages: this number of other frames, or of reads that end within a frame, counts as one.
FRAMES_A_MESSAGE = 4
READS_A_MESSAGE = 16
# A burst of bytes is what one second allows, but at least one whole message with its header.
_FRAME_OVERHEAD_BYTES = 14
# A tick that comes so late was held up: the process was stopped, or its machine was. A loop that has too much to do is
# late each time, and its peers' time must go on: then half a heartbeat is the limit.
_STALL_S = 1.0


class Timed(Protocol):
    """Whoever holds a slot."""

    def look(self, now_s: float) -> None:
        """The wheel has come to it."""
        ...

    def failed(self, error: Exception) -> None:
        """`look` raised this: end the connection."""
        ...


class Limits:
    """What a peer may cost, in the units that counting needs: seconds of its allowance (see `rate.next_arrival`).

    0 in `message_s` or `byte_s`: there is no limit.
    """

    __slots__ = ("byte_s", "bytes_burst_s", "frame_s", "message_bytes", "message_s", "messages_burst_s", "read_s")

    def __init__(self, settings: Connections) -> None:
        self.message_bytes = settings.max_message_bytes
        self.message_s = 1 / settings.messages_per_s if settings.messages_per_s else 0.0
        self.frame_s = self.message_s / FRAMES_A_MESSAGE
        self.read_s = self.message_s / READS_A_MESSAGE
        self.messages_burst_s = settings.messages_burst * self.message_s
        self.byte_s = 1 / settings.bytes_per_s if settings.bytes_per_s else 0.0
        self.bytes_burst_s = max(1.0, (settings.max_message_bytes + _FRAME_OVERHEAD_BYTES) * self.byte_s)


class Hub:
    """Shared by all connections. `now_s` (monotonic) and `time_ms` (Unix epoch) are as of the last tick: good enough
    for limits and heartbeats, and no system call a message. `resumed_s` is when the process last went on after it had
    stood still, and `catching_up` says that what came in meanwhile may still be unread.

    `leaving` counts the open connections that were sent away.
    `gateway` is the name of this process among others. `hurry` (`drain.speed`) divides how long those are to stay away,
    and `tick_s`: a reset leaves with a tick. `defer` calls back in the next turn; None: as the running loop does.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        admission: Admission,
        chance: random.Random,
        defer: Callable[[Callable[[], None]], object] | None = None,
    ) -> None:
        connections = settings.connections
        self.settings = connections
        self.clock = clock
        self.chance = chance
        self.admission = admission
        self.log = Log("connections")
        self.now_s = clock.monotonic_s()
        self.time_ms = clock.time_ms()
        self.table = Table()
        self.hurry = settings.drain.speed
        self.tick_s = TICK_S / self.hurry
        self.wheel = TimingWheel(self.now_s, self.tick_s)
        self.holders: list[Timed | None] = []
        self.registry = Registry()
        self.gateway = ""
        self.classes = settings.device_classes
        self.limits = Limits(connections)
        self.ping_early_s = min(self.tick_s, connections.heartbeat_s / 10)
        self.ages_s = _range_s(connections.max_age_h)
        self._leeway_s = settings.auth.leeway_s
        self.endings: dict[int, Ending] = {}
        self.emptied = asyncio.Event()
        self.leaving = 0
        self.opened = 0
        self.disconnects: Counter[tuple[str, int, str]] = Counter()
        self.messages_in = 0
        self.lag_s = 0.0
        self.longest_lag_s = 0.0
        self.resumed_s = self.now_s
        self.catching_up = False
        self.error_logs = TokenBucket(1, 1, self.now_s)
        self.outbox = Outbox(defer or _next_turn)

    def take_slot(self, holder: Timed) -> int:
        """A slot for a new connection; `holder` is looked at when the wheel comes to it."""
        slot = self.table.take()
        while slot >= len(self.holders):
            self.holders.append(None)
        self.holders[slot] = holder
        return slot

    def free_slot(self, slot: int) -> None:
        """The connection ended."""
        self.wheel.cancel(slot)
        self.holders[slot] = None
        self.endings.pop(slot, None)
        self.table.give_back(slot)

    def set_deadline(self, slot: int, after_s: float) -> None:
        """What is under way in `slot` has to end within `after_s` from now on, however long ago the last tick was."""
        self.catch_up()
        at_s = self.now_s + after_s
        self.table.deadline_s[slot] = at_s
        self.wheel.schedule(slot, at_s)

    def plan_end(self, slot: int) -> None:
        """Settle when this connection will be asked to leave: by its age, or before its token ends."""
        table, now_ms = self.table, self.clock.time_ms()
        life_s = (table.expires_ms[slot] - now_ms) / 1000
        if life_s <= 0:  # accepted all the same: it holds for what is left of the leeway
            life_s += self._leeway_s
        left_s = min(life_s - token_lead_s(table.id_low[slot], life_s), self._age_left_s(slot, now_ms))
        table.planned_s[slot] = self.now_s + max(0.0, left_s)
        self.wheel.schedule(slot, table.planned_s[slot])

    def is_aged(self, slot: int, within_s: float = 0.0) -> bool:
        """Whether it is its age, and not its token alone, that ends this connection now or `within_s`."""
        return self._age_left_s(slot, self.time_ms) <= within_s + self.tick_s

    def _age_left_s(self, slot: int, now_ms: int) -> float:
        if self.ages_s is None:
            return math.inf
        lived_s = (now_ms - time_ms_of(self.table.id_high[slot])) / 1000
        return age_s(self.table.id_low[slot], *self.ages_s) - lived_s

    def tick(self) -> None:
        """Move the clocks and look at whatever is due."""
        self.catch_up()
        for slot in self.wheel.turn(self.now_s):
            holder = self.holders[slot]
            if holder is not None:
                try:
                    holder.look(self.now_s)
                except Exception as error:
                    holder.failed(error)
        self.catching_up = False

    def catch_up(self) -> None:
        """Move the clocks."""
        last_s, self.now_s = self.now_s, self.clock.monotonic_s()
        self.time_ms = self.clock.time_ms()
        if self.now_s - last_s > _STALL_S + min(2 * self.lag_s, self.settings.heartbeat_s / 2):
            self.resumed_s = self.now_s
            self.catching_up = True
            self._forgive(self.now_s - last_s)

    def _forgive(self, stalled_s: float) -> None:
        """This process stood still, and what peers sent lies unread: their time stood still, too."""
        table = self.table
        for slot, holder in enumerate(self.holders):
            if holder is not None:
                table.heard_s[slot] += stalled_s
                if table.deadline_s[slot]:
                    table.deadline_s[slot] += stalled_s

    async def run(self) -> None:
        """Tick until cancelled."""
        while True:
            expected_s = self.clock.monotonic_s() + self.tick_s
            await asyncio.sleep(self.tick_s)
            self.catch_up()
            self.lag_s = max(0.0, self.now_s - expected_s)
            self.longest_lag_s = max(self.longest_lag_s, self.lag_s)
            # A loop runs what is due by time before it reads. Nobody is judged by a clock whose bytes are here already.
            await asyncio.sleep(0)
            self.tick()

    def device_class(self, name: str) -> DeviceClass:
        """The settings of a class; an unknown one is treated like none."""
        return self.classes.get(name) or _NO_CLASS


_NO_CLASS = DeviceClass()


def _next_turn(callback: Callable[[], None]) -> None:
    asyncio.get_running_loop().call_soon(callback)


def _range_s(text: str) -> tuple[float, float] | None:
    if text == "0":
        return None
    low, _, high = text.partition("-")
    return float(low) * 3600, float(high) * 3600
