"""Asks which deployment of our service goes on, and tells the drainer where its weights are. An error moves nobody."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Container
from random import Random

from gateway.drain import polling
from gateway.drain.deployment import Deployment, Side, side
from gateway.drain.drainer import Drainer
from gateway.drain.ports import Deployments
from gateway.errors import CallError, CallErrorKind
from gateway.telemetry.log import Log


class WeightsWatch:
    """`seen` is the last answer, `own` our part in it. `signal_up`: the last question was answered.

    `listed_in` tells the target groups that list us now.
    """

    def __init__(
        self,
        deployments: Deployments,
        drainer: Drainer,
        listed_in: Callable[[], Container[str]],
        chance: Random,
        speed: float,
    ) -> None:
        self._deployments = deployments
        self._drainer = drainer
        self._listed_in = listed_in
        self._chance = chance
        self._speed = speed
        self._asked_s: float | None = None
        self._failing: CallErrorKind | None = None
        self._log = Log("drain")
        self.seen: Deployment | None = None
        self.own = Side.UNKNOWN
        self.signal_up = False
        self.errors: Counter[CallErrorKind] = Counter()

    @property
    def period_s(self) -> float:
        """Between two questions: all tasks of the service together ask about once a second."""
        return polling.deployment_period_s(self._drainer.standing.peers.total + 1)

    async def run(self) -> None:
        """Ask until cancelled."""
        failures = 0
        # Tasks that started together do not ask together.
        pause_s = self._chance.uniform(0, polling.MIN_DEPLOYMENT_PERIOD_S)
        while True:
            await asyncio.sleep(pause_s / self._speed)
            try:
                await self.ask()
                failures, self._failing, self.signal_up = 0, None, True
                pause_s = polling.pause_s(self.period_s, self._chance)
            except Exception as error:
                known = error if isinstance(error, CallError) else CallError(CallErrorKind.OTHER, repr(error))
                failures += 1
                self._failed(known, error)
                pause_s = max(
                    polling.MIN_DEPLOYMENT_PERIOD_S,
                    polling.retry_s(known.kind, self.period_s, failures, self._chance),
                )

    async def ask(self) -> None:
        """Ask once, and tell the drainer. Raises CallError: nothing follows."""
        asked_s = self._drainer.now_s()
        definition = await self._deployments.definition()
        found = await self._deployments.deployment()
        before_s, self._asked_s = self._asked_s, asked_s
        self.seen = found
        self.own = Side.UNKNOWN if found is None else side(found, definition, self._listed_in())
        # Weights that had moved before the first answer moved at a moment that nobody knows: it counts from now.
        self._drainer.follow_weights(found, self.own, asked_s if before_s is None else before_s, 3 * self.period_s)

    def _failed(self, error: CallError, cause: Exception) -> None:
        self.errors[error.kind] += 1
        self.signal_up = self.signal_up and error.kind is CallErrorKind.THROTTLED
        if error.kind is not self._failing:
            unforeseen = None if cause is error else cause
            self._log.warning("weights_unknown", exc_info=unforeseen, kind=error.kind.value, message=str(error))
        self._failing = error.kind
