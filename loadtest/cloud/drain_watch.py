"""What the gateways of a deploy say of their drains: where they stand, what they plan, what their receipts tell."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gateway.adapters import receipt_files
from gateway.drain import window
from gateway.identity.token import mint
from gateway.settings.model import Drain
from loadtest.cloud.balancer import POLL_PERIOD_S
from loadtest.cloud.clock import SimulatedClock
from loadtest.cloud.launcher import Start
from loadtest.cloud.tasks import CHECK_PERIOD_S, GatewayTask
from loadtest.results.records import GatewayDrain
from loadtest.scenario.deploy import DeploySection

NOTICED_WITHIN_REAL_S = 5.0
# A gateway plays its plan close by close, for all the tasks of a wave.
PLAN_WITHIN_REAL_S = 60.0
REGISTERING = "registering"
SHIFTING = "shifting"
MARGIN_S = Drain().margin_s


class PlannedWave(NamedTuple):
    """What the old gateways expect of a wave: the simulated seconds its closes are spread over, its connections, and
    its highest second. None: they could not be asked."""

    window_s: float
    connections: int | None
    peak_per_s: float | None


class DrainWatch:
    """Remembers the last answer of each gateway."""

    def __init__(self, options: DeploySection, start: Start, clock: SimulatedClock) -> None:
        self._options = options
        self._start = start
        self._clock = clock
        self._states: dict[str, str] = {}
        self._polled: set[str] = set()
        self._held: dict[str, int] = {}

    async def look(self, tasks: Iterable[GatewayTask]) -> None:
        """Ask gateways where they stand, and remember it."""
        asked = list(tasks)
        answers = await asyncio.gather(*(task.ask("/api/v1/drain", self._token()) for task in asked))
        for task, answer in zip(asked, answers, strict=True):
            if answer is not None:
                self._states[task.name] = str(answer.get("state", ""))
                self._held[task.name] = int(answer.get("connections", 0))
                if answer.get("signal_up"):
                    self._polled.add(task.name)

    def held(self, tasks: Iterable[GatewayTask]) -> int:
        """How many connections these had when they were last asked."""
        return sum(self._held.get(task.name, 0) for task in tasks)

    def has_polled(self, task: GatewayTask) -> bool:
        """Whether it has had an answer of the load balancer."""
        return task.name in self._polled

    def has_noticed(self, task: GatewayTask) -> bool:
        """Whether it has seen itself healthy. One that never was does not believe that it drains."""
        return self._states.get(task.name) not in (None, REGISTERING)

    def has_settled(self, task: GatewayTask) -> bool:
        """Whether its connections follow no weights now."""
        return self._states.get(task.name) != SHIFTING

    async def until(self, tasks: Iterable[GatewayTask], holds: Callable[[GatewayTask], bool]) -> None:
        """Ask these until `holds` of each, for NOTICED_WITHIN_REAL_S: a process loads its SDK no faster at a speed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(NOTICED_WITHIN_REAL_S):
                for task in tasks:
                    while not holds(task):
                        await self._clock.sleep(CHECK_PERIOD_S)
                        await self.look([task])

    async def planned(self, old: Sequence[GatewayTask]) -> PlannedWave:
        """What the old gateways of a wave plan for the drain that is about to come."""
        options = self._options
        path = f"/api/v1/drain/plan?tasks={len(old)}"
        if options.order != "rolling":
            # SIGTERM finds them registered: they have what the stop time-out leaves.
            path += f"&window_s={window.stop_window_s(0, options.stop_timeout_s, registered=True):g}"
        plans = await asyncio.gather(*(task.ask(path, self._token(), PLAN_WITHIN_REAL_S) for task in old))
        found = [plan for plan in plans if plan is not None]
        if not found:
            return PlannedWave(self._default_window_s(), None, None)
        window_s = sum(plan["window_s"] for plan in found) / len(found)
        if not options.drain:
            # They do not know the delay.
            window_s = self._default_window_s()
        # Each gateway plans for the whole wave, as if all held as many connections as itself.
        connections = round(sum(plan["connections"] / plan["tasks"] for plan in found))
        peak_per_s = sum(plan["peak_reconnects_per_s"] for plan in found) / len(found)
        return PlannedWave(window_s, connections, peak_per_s)

    async def drains(self, tasks: Sequence[GatewayTask]) -> list[GatewayDrain]:
        """What these gateways did so far, from the receipts in their folders."""
        return await asyncio.to_thread(self._read_receipts, tasks)

    def _read_receipts(self, tasks: Sequence[GatewayTask]) -> list[GatewayDrain]:
        found = []
        for task in tasks:
            state = self._states.get(task.name, "")
            receipts = sorted(task.gateway.folder.glob(f"{receipt_files.PREFIX}*.json"))
            found += [_drain(task.name, state, receipt) for receipt in receipts] or [GatewayDrain(task.name, state)]
        return found

    def _default_window_s(self) -> float:
        """The window that a gateway with default settings makes of the delay."""
        return window.longest_s(self._options.delay_s, MARGIN_S, POLL_PERIOD_S)

    def _token(self) -> str:
        claims = {"sub": "loadtest", "account": self._start.account, "scope": "admin", "exp": time.time() + 3600}
        return mint(claims, self._start.secret.encode())


def _drain(name: str, state: str, receipt: Path) -> GatewayDrain:
    fields = msgspec.json.decode(receipt.read_bytes(), type=dict[str, Any])
    known = {key: fields[key] for key in GatewayDrain.__struct_fields__ if key in fields}
    return msgspec.convert({**known, "name": name, "state": state}, GatewayDrain)
