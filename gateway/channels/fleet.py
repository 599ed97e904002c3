"""All other gateways at once: the same question to each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

from gateway.channels.directory import Entry
from gateway.channels.envelopes import Content
from gateway.channels.peers import NobodyError, Peers
from gateway.channels.ports import Directory
from gateway.errors import BrokerDownError

# Who is alive answers within milliseconds; who died a moment ago, and still has its lease, must not hold up the others.
ANSWER_S = 1.0

T = TypeVar("T", bound=Content)


class Answers(NamedTuple, Generic[T]):
    """What the others said, and the names of those that said nothing."""

    answers: Sequence[T]
    unheard: Sequence[str]

    @property
    def incomplete(self) -> str:
        """Who was not heard, in words; "": all were."""
        return f"no answer from {', '.join(self.unheard)}" if self.unheard else ""

    def complete(self) -> None:
        """Raises BrokerDownError unless all of them were heard."""
        if self.unheard:
            raise BrokerDownError(self.incomplete)


class Fleet:
    """The living gateways, as the directory names them."""

    def __init__(self, peers: Peers, directory: Directory) -> None:
        self.peers = peers
        self._directory = directory

    async def find(self, account: str, device: str) -> Entry | None:
        """What the directory knows of a device; None: nothing. Raises BrokerDownError."""
        return await self._directory.find(account, device)

    async def ask_all(self, account: str, question: Content, answer: type[T]) -> Answers[T]:
        """Ask every other living gateway. Raises BrokerDownError when the broker is away."""
        others = sorted(name for name in await self._directory.gateways() if name != self.peers.gateway)
        asked = (self.peers.ask(name, account, question, answer, ANSWER_S) for name in others)
        found = await asyncio.gather(*asked, return_exceptions=True)
        for one in found:
            if isinstance(one, BaseException) and not isinstance(one, NobodyError | TimeoutError | BrokerDownError):
                raise one
        unheard = [name for name, one in zip(others, found, strict=True) if isinstance(one, BaseException)]
        return Answers([one for one in found if not isinstance(one, BaseException)], unheard)
