"""The channel `drain`: one frame a second with the figures of every gateway, while anyone watches."""

from __future__ import annotations

import asyncio
from typing import Any

from gateway.channels.channel import DRAIN, Channel
from gateway.channels.fanout import Fanout
from gateway.clock import Clock
from gateway.drain.drainer import Drainer
from gateway.drain.figures import Figures, Frame, Frames, merged, shown
from gateway.drain.states import State
from gateway.drain.status import DrainStatus, status_of
from gateway.drain.target_health import TargetHealthWatch

EVERY_S = 1.0
# A gateway that has told nothing for so long is gone.
FORGET_S = 5.0

CHANNEL = Channel("", DRAIN.name)


class DrainChannel:
    """The source of this channel; `run` is its one task. `name` is ours among the gateways."""

    def __init__(
        self, drainer: Drainer, watch: TargetHealthWatch | None, fanout: Fanout, name: str, clock: Clock
    ) -> None:
        self._drainer = drainer
        self._watch = watch
        self._fanout = fanout
        self._name = name
        self._clock = clock
        self._number = 0
        self._known = Frames({})
        self._heard_s: dict[str, float] = {}
        fanout.offer_latest(DRAIN, self)

    async def run(self) -> None:
        """Tell once a second, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            self.tell()

    def tell(self) -> None:
        """Tell the figures of this moment to those who watch."""
        if self._fanout.listens(CHANNEL):
            self._fanout.publish(CHANNEL, self._own())

    def _own(self) -> Frames:
        self._number += 1
        return Frames({self._name: Frame(self._number, _figures(status_of(self._drainer, self._watch)))})

    # The source

    async def read(self, account: str, subject: str) -> Frames:
        """What is known of all gateways now."""
        self._take(self._own())
        return self._known

    def merge(self, known: Frames | None, other: Frames) -> Frames | None:
        """Our own frame, once a second, tells what the others have told since the one before."""
        self._take(other)
        return self._known if self._name in other.gateways else known

    def show(self, state: Frames) -> Any:
        """See `figures.shown`."""
        return shown({name: frame.figures for name, frame in state.gateways.items()})

    def _take(self, other: Frames) -> None:
        now_s = self._clock.monotonic_s()
        self._heard_s.update(dict.fromkeys(other.gateways, now_s))
        gone = {name for name, heard_s in self._heard_s.items() if now_s - heard_s > FORGET_S}
        for name in gone:
            del self._heard_s[name]
        found = merged(self._known, other)
        self._known = Frames({name: frame for name, frame in found.gateways.items() if name not in gone})


def _figures(status: DrainStatus) -> Figures:
    progress, receipt = status.progress, status.receipt
    if progress is not None:
        return Figures(
            status.state,
            status.connections,
            status.remaining,
            progress.origin,
            progress.sent_away,
            progress.seconds_left,
            progress.rate_target_per_s,
            progress.rate_actual_per_s,
            progress.overrun,
        )
    if receipt is not None and status.state in (State.DRAINED, State.EXITED):
        told = (receipt.origin, receipt.sent_away)
        return Figures(status.state, status.connections, status.remaining, *told, overrun=receipt.overrun)
    return Figures(status.state, status.connections, status.remaining)
