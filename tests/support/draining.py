"""Devices without sockets on a gateway that drains, and a clock that only the test moves."""

from __future__ import annotations

import json
from typing import Any

from msgspec.structs import replace

from gateway.connections.connection import Connection
from gateway.drain.drainer import Drainer
from gateway.drain.health import TargetState
from gateway.drain.signals import Peers
from gateway.drain.states import Signal, State
from tests.support.bench import Bench, device
from tests.support.fake_transport import FakeTransport


class Fleet:
    """A bench with devices, behind one target group unless `grouped` is false."""

    def __init__(self, count: int, *flags: str, grouped: bool = True, device_class: str = "") -> None:
        self.bench = Bench("connections.heartbeat_s=3600", *flags)
        self.drainer: Drainer = self.bench.drainer
        self.knows(grouped=grouped, peers=Peers(4, 0, 4, {TargetState.HEALTHY: 4}))
        self.pairs = [self.join(f"dev-{number}", device_class) for number in range(count)]
        if grouped:
            self.hear(Signal.REGISTERED)
        else:
            self.drainer.settle()

    def join(self, name: str, device_class: str = "") -> tuple[Connection, FakeTransport]:
        return self.bench.open(device(name, device_class=device_class))

    def knows(self, **changes: Any) -> None:
        """Something else is known of the balancer."""
        self.drainer.learn(replace(self.drainer.standing, **changes))

    def hear(self, signal: Signal | None, good_ago_s: float = 0.0) -> State:
        """Where it stands then."""
        now_s = self.drainer.now_s()
        self.drainer.hear(signal, now_s, now_s - good_ago_s)
        return self.drainer.state

    def pass_time(self, seconds: float, step_s: float = 0.25) -> list[int]:
        """Move the clock in ticks; how many left in each. Peers answer the close at once."""
        left = []
        for _ in range(round(seconds / step_s)):
            before = self.drainer.remaining
            self.bench.clock.advance(step_s)
            self.bench.hub.tick()
            self.drainer.turn()
            left.append(before - self.drainer.remaining)
            self.lose_closing()
        return left

    def lose_closing(self) -> None:
        self.bench.turns.end()
        for connection, _ in self.pairs:
            open_yet = connection.hub.holders[connection.slot] is connection
            if open_yet and not connection.stays and not (connection.in_flight and self.is_waiting(connection)):
                connection.connection_lost(None)

    def is_waiting(self, connection: Connection) -> bool:
        return bool(self.bench.hub.table.deadline_s[connection.slot])

    def told_to_wait_ms(self) -> list[int]:
        """Of each: `reconnect_after_ms` of its goaway."""
        found = [bytes(transport.written) for _, transport in self.pairs]
        return [json.loads(text[2:].split(b"}")[0] + b"}")["reconnect_after_ms"] for text in found]

    def goaways(self) -> int:
        return sum(b'"goaway"' in bytes(transport.written) for _, transport in self.pairs)
