"""Questions to other gateways and their answers; theirs to us, and ours."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec

from gateway.channels.envelopes import Content, Envelope, Unknown, content_of, seal, unseal
from gateway.channels.ports import Broker
from gateway.errors import BrokerDownError
from gateway.telemetry.log import Log

# Questions under way, ours and theirs. Each of theirs has a task.
MAX_ASKED = 20_000
MAX_SERVED = 20_000
# The answer of a holder whose own time is over needs a moment to get here.
TRANSIT_S = 0.25
# An answer that could not be sent is tried again so often, until nobody waits for it any more.
AGAIN_S = 0.2

_log = Log("broker")
T = TypeVar("T", bound=Content)
# The account, and what is asked.
Serve = Callable[[str, Any], Awaitable[Content | None]]


class NobodyError(Exception):
    """Nobody reads what is posted to that gateway: nothing has happened there."""


class Peers:
    """`serve` says who answers which question. Everything happens on the loop's thread."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._numbers = itertools.count(1)
        self._asked: dict[str, tuple[str, asyncio.Future[Content]]] = {}
        self._served: set[asyncio.Task[None]] = set()
        self._handlers: dict[type[Content], Serve] = {}
        self.dropped = 0
        self.returns = 0

    @property
    def gateway(self) -> str:
        """Our own name."""
        return self._broker.gateway

    @property
    def problem(self) -> str:
        """Why other gateways cannot be reached; "": they can."""
        return self._broker.problem

    def serve(self, kind: type[T], handler: Serve) -> None:
        """Have `handler` answer questions of this kind; None: they want no answer."""
        self._handlers[kind] = handler

    async def ask(self, gateway: str, account: str, question: Content, answer: type[T], wait_s: float) -> T:
        """Its answer. Raises NobodyError, BrokerDownError, or TimeoutError: it may have happened all the same.

        Cancelled, the other gateway goes on.
        """
        if len(self._asked) >= MAX_ASKED:
            raise BrokerDownError(f"{MAX_ASKED} questions to other gateways are under way")
        name = str(next(self._numbers))
        waiter: asyncio.Future[Content] = asyncio.get_running_loop().create_future()
        self._asked[name] = (account, waiter)
        try:
            envelope = seal(gateway, self.gateway, account, question, id=name, wait_ms=int(wait_s * 1000))
            async with asyncio.timeout(wait_s + TRANSIT_S):
                if not await self._broker.post(gateway, envelope):
                    raise NobodyError(gateway)
                found = await waiter
        finally:
            del self._asked[name]
        if not isinstance(found, answer):
            raise BrokerDownError(f"{gateway} is of a version that does not understand {type(question).__name__}")
        return found

    async def tell(self, gateway: str, account: str, content: Content) -> bool:
        """Tell it without an answer; whether somebody reads it. Raises BrokerDownError."""
        return await self._broker.post(gateway, seal(gateway, self.gateway, account, content))

    def receive(self, data: bytes) -> None:
        """Something came into our inbox."""
        try:
            envelope = unseal(data, self.gateway)
            content = content_of(envelope)
        except msgspec.DecodeError as error:
            self.dropped += 1
            _log.warning("envelope_dropped", problem=str(error))
            return
        if envelope.re:
            self._answered(envelope, content)
        elif len(self._served) < MAX_SERVED:
            task = asyncio.get_running_loop().create_task(self._serve(envelope, content), name="peer question")
            self._served.add(task)
            task.add_done_callback(self._served.discard)
        else:
            self.dropped += 1

    def _answered(self, envelope: Envelope, content: Content) -> None:
        """Late and foreign answers are dropped."""
        account, waiter = self._asked.get(envelope.re, ("", None))
        if waiter is not None and not waiter.done() and account == envelope.account:
            waiter.set_result(content)

    async def _serve(self, envelope: Envelope, content: Content) -> None:
        handler = self._handlers.get(type(content))
        end_s = asyncio.get_running_loop().time() + envelope.wait_ms / 1000 + TRANSIT_S
        try:
            answer = Unknown() if handler is None else await handler(envelope.account, content)
        except Exception as error:
            _log.error("question_failed", exc_info=error, kind=envelope.kind)
            return
        if answer is not None and envelope.id:
            await self._reply(
                envelope, seal(envelope.sender, self.gateway, envelope.account, answer, re=envelope.id), end_s
            )

    async def _reply(self, envelope: Envelope, data: bytes, end_s: float) -> None:
        """Until it is taken, or nobody waits for it any more. One that comes twice is dropped there."""
        while True:
            try:
                if await self._broker.post(envelope.sender, data):
                    return
            except BrokerDownError:
                pass
            if asyncio.get_running_loop().time() + AGAIN_S > end_s:
                self.dropped += 1
                return
            await asyncio.sleep(AGAIN_S)

    async def close(self) -> None:
        """End what is under way."""
        for task in list(self._served):
            task.cancel()
        await asyncio.gather(*self._served, return_exceptions=True)
