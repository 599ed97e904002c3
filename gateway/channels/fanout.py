"""The fan-out: what is published to a channel reaches its subscribers in this process.

A frame is made once and the same bytes go to all. Nobody waits for a slow subscriber: it is owed the newest state
(latest), or goes on from the store when it takes something again (log). A channel without subscribers costs nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from prometheus_client.metrics_core import CounterMetricFamily, Metric

from gateway.channels.channel import Channel, Family, Kind
from gateway.channels.fanout_ports import Neighbours, NoNeighbours, Subscriber, Writing
from gateway.channels.latest_feed import LatestFeed
from gateway.channels.latest_ports import LatestSource
from gateway.channels.log_feed import LogFeed
from gateway.channels.log_ports import ChannelLog
from gateway.channels.outlet import READ_TIMEOUT_S, Outlet
from gateway.channels.readers import Readers
from gateway.channels.refusal import Refusal
from gateway.channels.subscribers import LatestSubscribers, LogSubscribers, Subscribers
from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import gauge

# A hint that was lost costs at most this.
POLL_S = 1.0
# Of one question: a store that is asked for ten thousand at once answers nothing else meanwhile.
POLLED = 500

_log = Log("channels")


class Fanout:
    """`offer` families first. `publish` and `hint` are for what happens here, `receive` and `heard` for what the
    neighbours tell; all are called on the loop's thread and never wait.

    `holders` is who has which slot, `refused` counts by code. `close` ends what is under way; `run` is the one task.
    """

    def __init__(
        self, holders: Sequence[Any], writing: Writing, clock: Clock, neighbours: Neighbours | None = None
    ) -> None:
        self._neighbours = neighbours or NoNeighbours()
        self._outlet = Outlet(holders, writing, self._neighbours)
        self._subscriptions = self._outlet.subscriptions
        self.refused = self._outlet.refused
        self._latest = LatestFeed(self._outlet, clock)
        self._logs = LogFeed(self._outlet)
        self._readers = Readers(self._read, self._unread)
        self._families: dict[str, Family] = {}
        self._sources: dict[str, LatestSource] = {}
        self._stores: dict[str, ChannelLog] = {}
        self._unpolled = False

    # What channels there are

    @property
    def families(self) -> Mapping[str, Family]:
        """By name."""
        return self._families

    def offer_latest(self, family: Family, source: LatestSource) -> None:
        """There are such channels, of the kind latest."""
        self._families[family.name] = family
        self._sources[family.name] = source

    def offer_log(self, family: Family, log: ChannelLog) -> None:
        """There are such channels, of the kind log."""
        self._families[family.name] = family
        self._stores[family.name] = log

    # What happens

    @property
    def is_idle(self) -> bool:
        """Whether nobody, here or elsewhere, has subscribed to anything."""
        return not self._subscriptions.channels and self._neighbours.is_idle

    def listens(self, channel: Channel) -> bool:
        """Whether a change of it would reach anyone, here or elsewhere."""
        return self._subscriptions.find(channel) is not None or self._neighbours.wants(channel)

    def publish(self, channel: Channel, change: Any) -> None:
        """A latest channel has changed at this gateway; its source knows what `change` is."""
        self._neighbours.publish(channel, change)
        self.receive(channel, change)

    def receive(self, channel: Channel, change: Any) -> None:
        """A latest channel has changed at another gateway."""
        subscribers = self._subscriptions.find(channel)
        if isinstance(subscribers, LatestSubscribers):
            self._latest.take(subscribers, self._sources[channel.family], change)

    def hint(self, channel: Channel) -> None:
        """This gateway's part wrote something into a log."""
        self._neighbours.hint(channel)
        self.heard(channel)

    def heard(self, channel: Channel) -> None:
        """Another one says that there is something in a log."""
        subscribers = self._subscriptions.find(channel)
        if isinstance(subscribers, LogSubscribers):
            subscribers.due = True
            self._readers.want(subscribers)

    def doubt(self) -> None:
        """Something that the neighbours told may not have come: read everything again."""
        self.remind()
        self.doubt_states()
        for subscribers in self._subscriptions:
            if isinstance(subscribers, LogSubscribers):
                subscribers.due = True
                self._readers.want(subscribers)

    def doubt_states(self) -> None:
        """What a neighbour told last may not be so any more: read it again."""
        for subscribers in self._subscriptions:
            if isinstance(subscribers, LatestSubscribers):
                subscribers.read = False
                self._readers.want(subscribers)

    def remind(self) -> None:
        """The neighbours forget in time who watches what: tell them again."""
        for subscribers in self._subscriptions:
            self._neighbours.wanted(subscribers.channel)

    # Subscribers

    def subscribe(self, subscriber: Subscriber, channel: Channel, after: int | None) -> None:
        """Begin: it is told `subscribed`, or why not. `after` is for logs only."""
        is_log = self._families[channel.family].kind is Kind.LOG
        fresh = LogSubscribers(channel) if is_log else LatestSubscribers(channel)
        subscribers = self._subscriptions.open(subscriber.slot, fresh, after if is_log else None)
        if subscribers is fresh:
            self._neighbours.wanted(channel)
        if isinstance(subscribers, LatestSubscribers) and subscribers.read:
            self._latest.greet(subscribers, self._sources[channel.family])
        else:
            self._readers.want(subscribers)

    def unsubscribe(self, subscriber: Subscriber, name: str) -> None:
        """End it; harmless when there is no such subscription."""
        for subscribers in self._subscriptions.of(subscriber.slot):
            if subscribers.channel.name == name:
                self._outlet.end(subscribers, subscriber.slot)

    def has(self, subscriber: Subscriber, name: str) -> bool:
        """Whether it is subscribed to the channel of this name."""
        return any(each.channel.name == name for each in self._subscriptions.of(subscriber.slot))

    def count(self, subscriber: Subscriber) -> int:
        """How many channels it is subscribed to."""
        return len(self._subscriptions.of(subscriber.slot))

    def writable(self, subscriber: Subscriber) -> None:
        """It takes something again."""
        slot = subscriber.slot
        for subscribers in self._subscriptions.of(slot):
            if isinstance(subscribers, LatestSubscribers):
                self._latest.catch_up(subscribers, self._sources[subscribers.channel.family], slot)
            elif isinstance(subscribers, LogSubscribers) and subscribers.catch_up(slot):
                self._readers.want(subscribers)

    def renewed(self, subscriber: Subscriber) -> None:
        """Its token is another one: what that does not allow ends."""
        for subscribers in self._subscriptions.of(subscriber.slot):
            scope = self._families[subscribers.channel.family].scope
            if not subscriber.may(scope):
                self._outlet.refuse(
                    subscribers, subscriber.slot, Refusal.FORBIDDEN, f"the token lacks the scope {scope}"
                )

    def closed(self, subscriber: Subscriber) -> None:
        """Its connection has ended."""
        for subscribers in self._subscriptions.of(subscriber.slot):
            self._outlet.end(subscribers, subscriber.slot)

    # Reading

    async def _read(self, subscribers: Subscribers) -> None:
        family = subscribers.channel.family
        if isinstance(subscribers, LatestSubscribers):
            await self._latest.open(subscribers, self._sources[family])
        elif isinstance(subscribers, LogSubscribers):
            await self._logs.read(subscribers, self._stores[family])

    def _unread(self, subscribers: Subscribers) -> None:
        """Who waits for an answer gets one, whatever went wrong."""
        for slot in list(subscribers.opening):
            said = "the gateway failed to read it; subscribe again later"
            self._outlet.refuse(subscribers, slot, Refusal.UNAVAILABLE, said)

    async def run(self) -> None:
        """Ask the logs once a second what is new, until cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            await self.poll()

    async def poll(self) -> None:
        """Ask once."""
        for family, log in self._stores.items():
            await self._poll(family, log)

    async def _poll(self, family: str, log: ChannelLog) -> None:
        known = [each for each in self._subscriptions if each.channel.family == family]
        logs = [each for each in known if isinstance(each, LogSubscribers)]
        for first in range(0, len(logs), POLLED):
            await self._poll_some(family, log, logs[first : first + POLLED])

    async def _poll_some(self, family: str, log: ChannelLog, logs: list[LogSubscribers]) -> None:
        try:
            async with asyncio.timeout(READ_TIMEOUT_S):
                newest = await log.newest([(each.channel.account, each.channel.subject) for each in logs])
        except (StoreError, TimeoutError) as error:
            if not self._unpolled:
                _log.warning("channel_log_unreadable", channel=family, message=str(error))
            self._unpolled = True
            return
        except Exception as error:
            # Whoever tells of itself hears of it; the others of this process go on all the same.
            _log.error("channel_failed", channel=family, exc_info=error)
            return
        self._unpolled = False
        for subscribers, offset in zip(logs, newest, strict=True):
            if offset is not None:
                subscribers.hear(offset)
            if subscribers.due:
                self._readers.want(subscribers)

    @property
    def reading(self) -> int:
        """How many channels are being read, or wait for that."""
        return len(self._readers)

    async def close(self) -> None:
        """End the reads that are under way."""
        await self._readers.close()

    def collect(self) -> Iterator[Metric]:
        """Metric families for a Prometheus registry."""
        outlet = self._outlet
        yield gauge("heiwa_channels", "Channels with subscribers.", self._subscriptions.channels)
        yield gauge("heiwa_channels_reading", "Channels whose store is asked now, or soon.", self.reading)
        yield gauge("heiwa_channel_subscriptions", "Subscriptions of all connections.", len(self._subscriptions))
        for name, text, counts in (
            ("heiwa_channel_events", "Events sent to subscribers.", outlet.delivered),
            (
                "heiwa_channel_lags",
                "Times that a subscriber was too slow for an event, which it got later.",
                outlet.lagged,
            ),
        ):
            family = CounterMetricFamily(name, text, labels=["kind"])
            for kind in Kind:
                family.add_metric([kind.value], counts[kind.value])
            yield family
        refused = CounterMetricFamily(
            "heiwa_channel_refusals", "Subscriptions refused or ended, by code.", labels=["code"]
        )
        for refusal in Refusal:
            refused.add_metric([refusal.value], outlet.refused[refusal])
        yield refused
