"""What clients ask for: which channels a subscription may be to, and how many of them there may be."""

from __future__ import annotations

from collections.abc import Callable

from gateway.channels.channel import Channel, Family
from gateway.channels.fanout import Fanout
from gateway.channels.fanout_ports import Subscriber, Writing
from gateway.channels.outlet import NOT_FOUND
from gateway.channels.refusal import Refusal


class Subscribing:
    """`maximum` of one connection. `is_short` says whether this process is short of memory."""

    def __init__(self, fanout: Fanout, writing: Writing, maximum: int, is_short: Callable[[], bool]) -> None:
        self._fanout = fanout
        self._writing = writing
        self._maximum = maximum
        self._is_short = is_short

    def subscribe(self, subscriber: Subscriber, name: str, after: int | None) -> None:
        """The answer is `subscribed` or `error`, once what there is was read."""
        family = self._fanout.families.get(name.partition(":")[0])
        if family is None or family.subject_of(name) is None:
            # What is unknown is answered as what is another account's.
            self._refuse(subscriber, name, Refusal.NOT_FOUND, NOT_FOUND)
        elif not subscriber.may(family.scope):
            self._refuse(subscriber, name, Refusal.FORBIDDEN, f"the token lacks the scope {family.scope}")
        elif self._fanout.count(subscriber) >= self._maximum and not self._fanout.has(subscriber, name):
            self._refuse(subscriber, name, Refusal.TOO_MANY, f"a connection has at most {self._maximum} subscriptions")
        elif self._is_short():
            self._refuse(subscriber, name, Refusal.OVERLOADED, "this gateway is short of memory; subscribe again later")
        else:
            self._fanout.subscribe(subscriber, _channel(subscriber, family, name), after)

    def unsubscribe(self, subscriber: Subscriber, name: str) -> None:
        """The answer is `unsubscribed`, whether it was subscribed or not."""
        self._fanout.unsubscribe(subscriber, name)
        subscriber.send(self._writing.unsubscribed(name))

    def writable(self, subscriber: Subscriber) -> None:
        """It was slow, and takes messages again."""
        self._fanout.writable(subscriber)

    def renewed(self, subscriber: Subscriber) -> None:
        """Its token is another one: what that does not allow ends."""
        self._fanout.renewed(subscriber)

    def closed(self, subscriber: Subscriber) -> None:
        """Its connection has ended."""
        self._fanout.closed(subscriber)

    def _refuse(self, subscriber: Subscriber, name: str, refusal: Refusal, message: str) -> None:
        self._fanout.refused[refusal] += 1
        subscriber.send(self._writing.refused(name, refusal, message))


def _channel(subscriber: Subscriber, family: Family, name: str) -> Channel:
    return Channel(subscriber.account_name if family.by_account else "", name)
