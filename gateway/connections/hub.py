"""What all connections of a process share: settings in the units they are needed in, the columns, the wheel, counts."""

from __future__ import annotations

import asyncio
import math
import random
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from gateway.clock import Clock
from gateway.connections.admission import Admission, FlapGuard, Repeats
from gateway.connections.lifetime import age_s, token_lead_s
from gateway.connections.registry import Registry
from gateway.connections.table import Table
from gateway.connections.timing_wheel import TimingWheel
from gateway.identity.auth import Authenticator
from gateway.rate import TokenBucket
from gateway.settings.model import DeviceClass, Settings
from gateway.telemetry.log import Log
from gateway.wire.handshake import Policy
from gateway.wire.origin import allowed_origins
from gateway.wire.proxy import Networks, parse_networks
from gateway.wire.uuid7 import time_ms_of

if TYPE_CHECKING:
    from gateway.connections.accepting import Accepting
    from gateway.connections.connection import Session
    from gateway.connections.outgoing import Outgoing

TICK_S = 0.25
# Tokens of refused peers that are verified a second, to know who comes again and again.
RECOGNITIONS_PER_S = 100.0
# The work that a peer makes is counted in messages: so many other frames, or reads that end within a frame, are one.
FRAMES_A_MESSAGE = 4
READS_A_MESSAGE = 16
# A burst of bytes is what one second allows, but at least one whole message with its header.
_FRAME_OVERHEAD_BYTES = 14
# A tick that comes so late was held up: the process was stopped, or its machine was.
_STALL_S = 1.0


class Timed(Protocol):
    """Whoever holds a slot."""

    def look(self, now_s: float) -> None:
        """The wheel has come to it."""
        ...

    def failed(self, error: Exception) -> None:
        """`look` raised this: end the connection."""
        ...


class Cause:
    """Why a connection is being closed, from the decision to its end.

    `label` is the reason's name in metrics, where the reason itself is somebody's own words. `by_peer`: the peer's
    close frame began it. `goaway`: the announcement that is still to be sent.
    """

    __slots__ = ("by_peer", "code", "goaway", "label", "reason")

    def __init__(
        self, reason: str, code: int, label: str = "", *, by_peer: bool = False, goaway: bytes | None = None
    ) -> None:
        self.reason = reason
        self.code = code
        self.label = label or reason
        self.by_peer = by_peer
        self.goaway = goaway


class Hub:
    """Shared by all connections. `now_s` (monotonic) and `time_ms` (Unix epoch) are as of the last tick: good enough
    for limits and heartbeats, and no system call a message. `leaving` counts the open connections that were sent away.
    `hurry` (`drain.speed`) divides how long those are to stay away, and `tick_s`: a reset leaves with a tick.
    """

    def __init__(
        self,
        settings: Settings,
        clock: Clock,
        authenticator: Authenticator,
        sessions: Mapping[str, Session],
        maximum: int,
        chance: random.Random,
    ) -> None:
        connections = settings.connections
        self.settings = connections
        self.clock = clock
        self.chance = chance
        self.authenticator = authenticator
        self.sessions = sessions
        self.log = Log("connections")
        self.now_s = clock.monotonic_s()
        self.time_ms = clock.time_ms()
        self.table = Table()
        self.hurry = settings.drain.speed
        self.tick_s = TICK_S / self.hurry
        self.wheel = TimingWheel(self.now_s, self.tick_s)
        self.holders: list[Timed | None] = []
        self.registry = Registry()
        self.flaps = FlapGuard(connections.flap_limit, connections.flap_holdoff_s)
        burst = max(1.0, connections.handshakes_per_s)
        self.admission = Admission(
            maximum,
            connections.handshakes_pending,
            TokenBucket(connections.handshakes_per_s, burst, self.now_s),
            http_maximum=connections.http_maximum,
        )
        self.policy = Policy(
            tuple(sessions),
            allowed_origins("listen.allowed_origins", settings.listen.allowed_origins),
            connections.max_message_bytes,
            connections.compression,
            frozenset().union(*(_names(each.subprotocols) for each in settings.device_classes.values())),
        )
        self.handshake_timeout_s = settings.listen.handshake_timeout_s
        self.proxies: Networks = parse_networks("listen.trusted_proxies", settings.listen.trusted_proxies)
        self.proxy_protocol = settings.listen.proxy_protocol
        self.classes = settings.device_classes
        self.agents = [
            (prefix, name) for name, each in self.classes.items() for prefix in sorted(_names(each.user_agents))
        ]
        self.ping_early_s = min(self.tick_s, connections.heartbeat_s / 10)
        self.max_message_bytes = connections.max_message_bytes
        self.message_s = 1 / connections.messages_per_s if connections.messages_per_s else 0.0
        self.frame_s = self.message_s / FRAMES_A_MESSAGE
        self.read_s = self.message_s / READS_A_MESSAGE
        self.messages_burst_s = connections.messages_burst * self.message_s
        self.byte_s = 1 / connections.bytes_per_s if connections.bytes_per_s else 0.0
        largest = connections.max_message_bytes + _FRAME_OVERHEAD_BYTES
        self.bytes_burst_s = max(1.0, largest * self.byte_s)
        self.age_s = _range_s(connections.max_age_h)
        self.leeway_s = settings.auth.leeway_s
        self.http: Callable[[], asyncio.Protocol] | None = None
        self.refused: OrderedDict[int, Accepting] = OrderedDict()
        self.held: set[Accepting] = set()
        self.repeats = Repeats()
        self.recognitions = TokenBucket(RECOGNITIONS_PER_S, RECOGNITIONS_PER_S, self.now_s)
        self.securing: set[asyncio.Task[None]] = set()
        self.causes: dict[int, Cause] = {}
        self.strikes: dict[int, int] = {}
        self.emptied = asyncio.Event()
        self.leaving = 0
        self.opened = 0
        self.refusals: Counter[tuple[int, str]] = Counter()
        self.disconnects: Counter[tuple[str, int, str]] = Counter()
        self.messages_in = 0
        self.lag_s = 0.0
        self.longest_lag_s = 0.0
        self.refusal_logs = TokenBucket(10, 100, self.now_s)
        self.error_logs = TokenBucket(1, 1, self.now_s)
        # What one read leads to leaves in one write: whose read it is, and what was written so far.
        self.joiner: Outgoing | None = None
        self.joined: list[bytes] = []

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
        self.causes.pop(slot, None)
        self.strikes.pop(slot, None)
        self.table.give_back(slot)

    def set_deadline(self, slot: int, after_s: float) -> None:
        """What is under way in `slot` has to end within `after_s`."""
        at_s = self.now_s + after_s
        self.table.deadline_s[slot] = at_s
        self.wheel.schedule(slot, at_s)

    def plan_end(self, slot: int) -> None:
        """Settle when this connection will be asked to leave: by its age, or before its token ends."""
        table, now_ms = self.table, self.clock.time_ms()
        life_s = (table.expires_ms[slot] - now_ms) / 1000
        if life_s <= 0:  # accepted all the same: it holds for what is left of the leeway
            life_s += self.leeway_s
        left_s = min(life_s - token_lead_s(table.id_low[slot], life_s), self._age_left_s(slot, now_ms))
        table.planned_s[slot] = self.now_s + max(0.0, left_s)
        self.wheel.schedule(slot, table.planned_s[slot])

    def is_aged(self, slot: int) -> bool:
        """Whether it is its age, and not its token, that ends this connection now."""
        return self._age_left_s(slot, self.time_ms) <= self.tick_s

    def _age_left_s(self, slot: int, now_ms: int) -> float:
        if self.age_s is None:
            return math.inf
        lived_s = (now_ms - time_ms_of(self.table.id_high[slot])) / 1000
        return age_s(self.table.id_low[slot], *self.age_s) - lived_s

    def tick(self) -> None:
        """Move the clocks and look at whatever is due."""
        last_s, self.now_s = self.now_s, self.clock.monotonic_s()
        self.time_ms = self.clock.time_ms()
        if self.now_s - last_s > max(_STALL_S, self.settings.heartbeat_s / 2):
            self._forgive(self.now_s - last_s)
        for slot in self.wheel.turn(self.now_s):
            holder = self.holders[slot]
            if holder is not None:
                try:
                    holder.look(self.now_s)
                except Exception as error:
                    holder.failed(error)

    def _forgive(self, stalled_s: float) -> None:
        """We heard nobody while we stood still; what they sent lies unread. Their time stands still as well."""
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
            self.tick()
            self.lag_s = max(0.0, self.now_s - expected_s)
            self.longest_lag_s = max(self.longest_lag_s, self.lag_s)

    def device_class(self, name: str) -> DeviceClass:
        """The settings of a class; an unknown one is treated like none."""
        return self.classes.get(name) or _NO_CLASS

    def tolerates(self, name: str, subprotocol: str) -> bool:
        """Whether this class of devices offers that subprotocol unasked."""
        return subprotocol in _names(self.device_class(name).subprotocols)

    def end(self) -> None:
        """The process ends: whoever waits for the answer to a refusal gets it at once, and nobody waits again."""
        self.admission.ending = True
        for accepting in list(self.held):
            accepting.answer_held()

    def class_of_agent(self, user_agent: str) -> str:
        """The class that names this User-Agent; "" when none does."""
        return next((name for prefix, name in self.agents if user_agent.startswith(prefix)), "")


_NO_CLASS = DeviceClass()


def _names(text: str) -> frozenset[str]:
    return frozenset(part.strip() for part in text.split(",") if part.strip())


def _range_s(text: str) -> tuple[float, float] | None:
    if text == "0":
        return None
    low, _, high = text.partition("-")
    return float(low) * 3600, float(high) * 3600
