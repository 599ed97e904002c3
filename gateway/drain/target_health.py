"""Polls the target health of this process and tells the drainer what it means. An error never drains."""

from __future__ import annotations

import asyncio
from collections import Counter
from random import Random
from typing import Any

from msgspec.structs import replace

from gateway.connections.hub import Hub
from gateway.drain import polling, window
from gateway.drain.drainer import Drainer
from gateway.drain.health import GroupHealth, Membership
from gateway.drain.ports import TargetHealth
from gateway.drain.signals import Peers, Presence, Watch, peers, presence
from gateway.drain.standing import Standing
from gateway.errors import CallError, CallErrorKind
from gateway.telemetry.log import Log

# Attributes of a group may be changed while we live; a service may get groups. At most; half of it at least, so that
# tasks that started together do not all ask at once. Who was never listed may be looked for in the wrong place.
_LOOK_AGAIN_S = 3600.0
_LOOK_SOON_S = 60.0
# Longer than a service takes to register a task that it has started.
_UNLISTED_S = 300.0


class TargetHealthWatch:
    """`standing` is what it has found out. `received` counts the websockets opened while any peer was draining.

    `signal_up`: the last poll said something; `polled_s` is when (the drain's clock), None: none did yet.
    """

    def __init__(self, health: TargetHealth, drainer: Drainer, hub: Hub, chance: Random, speed: float) -> None:
        self._health = health
        self._drainer = drainer
        self._hub = hub
        self._chance = chance
        self._speed = speed
        self._watch = Watch()
        self._membership: Membership | None = None
        self._looked_s = 0.0
        self._look_share = 1.0
        self._groups: dict[str, GroupHealth] = {}
        self._delays_s: dict[str, float] = {}
        self._unread: set[str] = set()
        self._opened = 0
        self._failing: CallErrorKind | None = None
        self._unlisted_s: float | None = None
        self._warned = False
        self._log = Log("drain")
        self.standing = Standing()
        self.signal_up = False
        self.polled_s: float | None = None
        self.errors: Counter[CallErrorKind] = Counter()
        self.received = 0

    async def run(self) -> None:
        """Poll until cancelled."""
        failures = 0
        while True:
            try:
                await self.poll()
                failures = 0
                self._succeeded()
                pause_s = self._pause_s()
            except Exception as error:
                # An unforeseen answer is an error like any other: it must not end thousands of connections.
                known = error if isinstance(error, CallError) else CallError(CallErrorKind.OTHER, repr(error))
                failures += 1
                self._failed(known, error)
                pause_s = polling.retry_s(known.kind, self.standing.period_s, failures, self._chance)
            await asyncio.sleep(pause_s / self._speed)

    async def registered(self) -> bool | None:
        """One quick poll at SIGTERM: whether we are registered. False: draining, gone or unknown. None: no groups."""
        try:
            async with asyncio.timeout(window.QUICK_S):
                membership = self._membership or await self._find()
                await self._ask(membership)
        except Exception as error:
            self._log.warning("poll_failed_at_sigterm", message=repr(error))
            return False
        if not membership.ports:
            return None
        return presence(group.own for group in self._groups.values()) in (Presence.GOOD, Presence.OTHER)

    async def poll(self) -> None:
        """Ask all groups once, and tell the drainer what follows. Raises CallError: nothing follows."""
        membership = self._membership
        if membership is None:
            membership = await self._find()
        elif self._drainer.now_s() >= self._looked_s + self._look_share * self._look_again_after_s():
            membership = await self._look_again(membership)
        else:
            await self._read_delays()
        if not membership.ports:
            self._forget_groups()
            self._drainer.settle()
            return
        # Not before: finding out where we are takes seconds, the first time, and the drain's deadline counts from here.
        asked_s = self._drainer.now_s()
        await self._ask(membership)
        others = peers(self._groups.values(), set(membership.places()))
        period_s = polling.period_s(others.total + 1, len(membership.ports))
        healthy = {group: health.healthy for group, health in self._groups.items()}
        self._tell(grouped=True, peers=others, period_s=period_s, healthy=healthy)
        self._count_received()
        self.signal_up, self.polled_s = True, self._drainer.now_s()
        signal = self._watch.judge(asked_s, [group.own for group in self._groups.values()])
        self._drainer.hear(signal, self.polled_s, self._watch.registered_s)
        self._warn_unlisted(asked_s, membership)

    def _forget_groups(self) -> None:
        self._tell(grouped=False, peers=Peers(), healthy={})
        self.signal_up, self.polled_s = False, None

    def _warn_unlisted(self, asked_s: float, membership: Membership) -> None:
        """A target that no group ever lists is a wrong setting, or a service that never registers: say so, once."""
        if self._watch.registered_s is not None:
            return
        if self._unlisted_s is None:
            self._unlisted_s = asked_s
        elif not self._warned and asked_s >= self._unlisted_s + _UNLISTED_S:
            self._warned = True
            ports = ",".join(str(port) for port in sorted(set(membership.ports.values())))
            self._log.warning(
                "target_never_listed", target=membership.target, ports=ports, groups=len(membership.ports)
            )

    def listed_in(self) -> set[str]:
        """The target groups that listed us when they were last asked."""
        return {group for group, health in self._groups.items() if health.own is not None}

    @property
    def alone(self) -> bool:
        """Whether it is known that there is no target group."""
        return self._membership is not None and not self._membership.ports

    def _pause_s(self) -> float:
        if self.alone:
            return _LOOK_AGAIN_S
        return polling.pause_s(self.standing.period_s, self._chance)

    async def _look_again(self, known: Membership) -> Membership:
        """What was found before stays good when the container service cannot be asked now."""
        try:
            return await self._find()
        except CallError as error:
            self._log.warning("target_not_found_again", kind=error.kind.value, message=str(error))
            self._looked()
            return known

    def _looked(self) -> None:
        self._looked_s, self._look_share = self._drainer.now_s(), self._chance.uniform(0.5, 1)

    def _look_again_after_s(self) -> float:
        unread = self._membership.unread if self._membership is not None else None
        # A person has to give a permission; nothing else is for long.
        known = unread in (None, CallErrorKind.DENIED) or self.standing.stop_timeout_s is not None
        found = self._watch.registered_s is not None or self.alone
        return _LOOK_AGAIN_S if found and known else _LOOK_SOON_S

    async def _find(self) -> Membership:
        """Where we stand, and how long the groups wait for a target that leaves. Raises CallError."""
        membership = self._with_known(await self._health.membership())
        self._tell_stop_timeout(membership)
        self._delays_s = {group: delay_s for group, delay_s in self._delays_s.items() if group in membership.ports}
        self._unread = set(membership.ports)
        await self._read_delays()
        self._groups = {group: health for group, health in self._groups.items() if group in membership.ports}
        self._membership = membership
        self._looked()
        if membership.hidden:
            self._log.warning("target_groups_hidden", message=membership.hidden)
        self._log.info("target", target=membership.target, groups=len(membership.ports), delay_s=self.standing.delay_s)
        return membership

    def _tell_stop_timeout(self, membership: Membership) -> None:
        """A definition never changes: what was read once holds."""
        if membership.stop_timeout_s is not None:
            self._tell(stop_timeout_s=membership.stop_timeout_s)
        elif membership.unread is not None and self.standing.stop_timeout_s is None:
            self._log.warning("stop_timeout_unknown", kind=membership.unread.value)

    def _with_known(self, membership: Membership) -> Membership:
        """A service may be given other groups, for its next tasks: the ones that list us now still decide about us."""
        known = self._membership.ports if self._membership is not None else {}
        listing = {
            group: port
            for group, port in known.items()
            if group not in membership.ports and group in self._groups and self._groups[group].own is not None
        }
        return replace(membership, ports={**listing, **membership.ports}) if listing else membership

    async def _read_delays(self) -> None:
        """How long the groups wait for a target that leaves; silent ones are asked again at the next poll."""
        for group in sorted(self._unread):
            try:
                attributes = await self._health.attributes(group)
            except CallError as error:
                self._log.warning("delay_unknown", group=group, kind=error.kind.value, error=str(error))
                if error.kind is CallErrorKind.DENIED:
                    self._unread.discard(group)
                continue
            self._unread.discard(group)
            self._delays_s[group] = attributes.delay_s
            if attributes.network:
                self._log.warning("network_load_balancer", group=group, cuts_after_delay=attributes.termination)
        # The group that gives up on us first decides.
        self._tell(delay_s=min(self._delays_s.values(), default=self.standing.delay_s))

    def _tell(self, **changes: Any) -> None:
        """Let the drainer know, when it is news."""
        standing = replace(self.standing, **changes)
        if standing != self.standing:
            self.standing = standing
            self._drainer.learn(standing)

    async def _ask(self, membership: Membership) -> None:
        for group, port in membership.ports.items():
            self._groups[group] = await self._health.health(group, membership.target, port, membership.also)

    def _count_received(self) -> None:
        """What came in since the last poll counts when peers are draining now: they began some time before."""
        if self.standing.peers.draining:
            self.received += self._hub.opened - self._opened
        self._opened = self._hub.opened

    def _succeeded(self) -> None:
        if self._failing is not None:
            self._log.info("poll_succeeded_again", after=self._failing.value)
        self._failing = None

    def _failed(self, error: CallError, cause: Exception) -> None:
        self.errors[error.kind] += 1
        if not self.standing.peers.draining:
            # Nobody knows since when peers drain that are seen to do so after a blind time.
            self._opened = self._hub.opened
        if error.kind is CallErrorKind.NOT_FOUND:
            # A group was deleted, as one of a blue/green pair may be: find out which there are. None of those known
            # before counts, since the answer does not say which one it was.
            self._membership = None
        if error.kind is not CallErrorKind.THROTTLED:
            self.signal_up = False
        if error.kind is not self._failing:
            unforeseen = None if cause is error else cause
            self._log.error("poll_failed", exc_info=unforeseen, kind=error.kind.value, message=str(error))
        self._failing = error.kind
