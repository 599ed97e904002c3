"""Waits at the pause hooks of a deployment until there is something to judge, and then continues it or rolls it back.

Nothing is decided on an error or on one look alone, for servers may answer from old copies; and what somebody else has
decided stays decided: two guards do no harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.clock import Clock
from gateway.drain.guard import Action, Bounds, Decision, Pause, decide
from gateway.drain.ports import Guarded
from gateway.errors import CallError, CallErrorKind, HeiwaError
from gateway.telemetry.log import Log

PERIOD_S = 30.0
# The second look before a decision.
AGAIN_S = 10.0
# A pipeline starts the guard in the moment in which it starts the deployment.
APPEAR_S = 300.0
# What is usual for the old revision is read of so many minutes: at the last step it may have few devices left.
USUAL_MINUTES = 60
# So many refusals in a row are no accident, where calls were allowed before.
DENIALS = 3


class Guard:
    """Use once. `told` is called with each new decision, those to wait included."""

    def __init__(
        self,
        guarded: Guarded,
        clock: Clock,
        bounds: Bounds,
        told: Callable[[Pause, Decision], None],
        *,
        dry_run: bool = False,
        keep: bool = False,
        timeout_s: float = 7200.0,
        period_s: float = PERIOD_S,
    ) -> None:
        """`dry_run`: decide, change nothing, and end at what would be rolled back. `keep`: guard the next deployments,
        too, for ever."""
        self._guarded = guarded
        self._clock = clock
        self._bounds = bounds
        self._told = told
        self._dry_run = dry_run
        self._keep = keep
        self._timeout_s = timeout_s
        self._period_s = period_s
        self._said: tuple[str, str] | None = None
        self._leaning: tuple[str, Action] | None = None
        self._unsure = False
        self._denials = DENIALS - 1
        self._seen = False
        self._log = Log("guard")

    async def run(self) -> bool:
        """Return when the deployment is over: whether it succeeded. Raises HeiwaError: denied, or the time is over."""
        began_s = self._clock.monotonic_s()
        while True:
            try:
                over = await self._turn()
                self._denials = 0
            except Exception as error:
                self._failed(error)
                over = None
            if over is not None and not self._keep:
                return over
            waited_s = self._clock.monotonic_s() - began_s
            if not self._keep and not self._seen and waited_s >= APPEAR_S:
                raise HeiwaError(f"no deployment of the service began within {APPEAR_S:g} s")
            if not self._keep and waited_s >= self._timeout_s:
                raise HeiwaError(f"the deployment still goes on after {self._timeout_s:g} s; its hooks were left alone")
            await asyncio.sleep(min(self._period_s, AGAIN_S) if self._unsure else self._period_s)

    def _failed(self, error: Exception) -> None:
        """Log an error after which it goes on; raise what a person has to mend, who waits for the result."""
        known = error if isinstance(error, CallError) else CallError(CallErrorKind.OTHER, repr(error))
        self._denials = self._denials + 1 if known.kind is CallErrorKind.DENIED else 0
        # One that guards what is to come may be there before the service and its permissions are.
        if not self._keep:
            if known.kind is CallErrorKind.NOT_FOUND and not self._seen:
                raise error
            if self._denials >= DENIALS:
                raise error
        unforeseen = None if known is error else error
        self._log.warning("guard_could_not_ask", exc_info=unforeseen, kind=known.kind.value, message=str(known))

    async def _turn(self) -> bool | None:
        """One look. None: it goes on, or there is none yet."""
        state = await self._guarded.state()
        if state.pause is not None:
            self._seen = True
            return await self._judge(state.pause)
        if state.outcome is None:
            self._seen = self._seen or state.goes_on
            return None
        return state.outcome if self._seen else None

    async def _judge(self, pause: Pause) -> bool | None:
        minutes = self._bounds.minutes
        # At the first hook, too: then a missing permission is told before the first device moves.
        new = await self._guarded.readings(pause.new, minutes)
        old = await self._guarded.readings(pause.old, minutes)
        earlier = await self._guarded.readings(pause.old, max(minutes, USUAL_MINUTES))
        decision = decide(pause, new, old, self._bounds, earlier)
        leaning, self._leaning = self._leaning, (pause.hook, decision.action)
        self._unsure = decision.action is not Action.WAIT and leaning != self._leaning
        if self._unsure:
            return None
        self._say(pause, decision)
        if decision.action is Action.WAIT:
            return None
        if self._dry_run:
            return False if decision.action is Action.ROLLBACK else None
        if not await self._guarded.resume(pause, decision.action):
            self._log.info("guard_was_not_first", deployment=pause.deployment, hook=pause.hook)
        return None

    def _say(self, pause: Pause, decision: Decision) -> None:
        if self._said == (pause.hook, decision.reason):
            return
        self._said = (pause.hook, decision.reason)
        self._log.info(
            "guard_decided",
            deployment=pause.deployment,
            hook=pause.hook,
            action=decision.action.value,
            reason=decision.reason,
            dry_run=self._dry_run,
        )
        self._told(pause, decision)
