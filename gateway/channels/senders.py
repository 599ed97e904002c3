"""Commands that clients send over their own websockets: each is carried by a task, until its result or its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

from gateway.channels.commands import Outcome, Settled
from gateway.channels.courier import Courier
from gateway.telemetry.log import Log

SCOPE = "command:send"

_log = Log("channels")


class Wish(NamedTuple):
    """What a client asks for. `id` is its own name for it; two clients may use the same."""

    id: str
    device: str
    name: str
    args: Any
    deadline_ms: int
    idempotent: bool


class Sender(Protocol):
    """A connection, as far as it sends commands."""

    @property
    def slot(self) -> int: ...

    @property
    def account_name(self) -> str: ...

    @property
    def max_payload_bytes(self) -> int:
        """The largest message that it can read."""

    def may(self, scope: str) -> bool:
        """Whether its token allows what `scope` stands for."""

    def send(self, payload: bytes) -> None:
        """Send a text message."""

    def expect(self, answers: int) -> None:
        """This much work is under way; a planned close waits a moment for it."""

    def answer(self, payloads: Iterable[bytes], answers: int) -> None:
        """This much of it is done; send these messages."""


class ResultWriting(Protocol):
    """How a subprotocol writes what became of a command."""

    def result(self, id: str, settled: Settled) -> bytes:
        """What the device answered, be it an error of its own."""

    def no_result(self, id: str, code: str, message: str) -> bytes:
        """Why there is none."""


class Senders:
    """`per_sender` bounds the commands that one connection may have under way."""

    def __init__(self, courier: Courier, writing: ResultWriting, per_sender: int) -> None:
        self._courier = courier
        self._writing = writing
        self._per_sender = per_sender
        # By slot and by the client's own name.
        self._under_way: dict[int, dict[str, asyncio.Task[None]]] = {}

    def send(self, sender: Sender, wish: Wish) -> None:
        """Begin; the sender is told `result`, or `error` with its `id`."""
        own = self._under_way.get(sender.slot, {})
        if not sender.may(SCOPE):
            self._refuse(sender, wish, "forbidden", f"the token lacks the scope {SCOPE}")
        elif wish.id in own:
            self._refuse(sender, wish, "duplicate", "a command of this id is under way")
        elif len(own) >= self._per_sender:
            self._refuse(sender, wish, "too_many", f"{self._per_sender} commands of this connection are under way")
        else:
            sender.expect(1)
            task = asyncio.get_running_loop().create_task(self._carry(sender, wish), name="client command")
            self._under_way.setdefault(sender.slot, {})[wish.id] = task

    async def _carry(self, sender: Sender, wish: Wish) -> None:
        try:
            message = await self._result(sender, wish)
        except Exception as error:
            _log.error("command_failed", exc_info=error)
            message = self._writing.no_result(wish.id, "internal", "the gateway failed; it may have been carried out")
        own = self._under_way[sender.slot]
        del own[wish.id]
        if not own:
            del self._under_way[sender.slot]
        sender.answer((message,), 1)

    async def _result(self, sender: Sender, wish: Wish) -> bytes:
        settled = await self._courier.send(
            sender.account_name, wish.device, wish.name, wish.args, wish.deadline_ms, idempotent=wish.idempotent
        )
        if settled.outcome not in (Outcome.DONE, Outcome.FAILED):
            return self._writing.no_result(wish.id, settled.outcome.value, settled.text)
        message = self._writing.result(wish.id, settled)
        if len(message) > sender.max_payload_bytes:
            said = f"it was carried out, but the result makes {len(message)} bytes; this client's class takes "
            return self._writing.no_result(wish.id, "result_too_large", f"{said}{sender.max_payload_bytes}")
        return message

    def _refuse(self, sender: Sender, wish: Wish, code: str, message: str) -> None:
        sender.send(self._writing.no_result(wish.id, code, message))

    def closed(self, sender: Sender) -> None:
        """Its connection has ended: nobody waits for the results any more."""
        for task in self._under_way.pop(sender.slot, {}).values():
            task.cancel()

    async def close(self) -> None:
        """End all that is under way."""
        tasks = [task for own in self._under_way.values() for task in own.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# Why a command of a client has no result, besides the outcomes that say so.
REFUSALS = {
    "forbidden": "the token lacks the scope `command:send`",
    "duplicate": "a command of this `id` is under way on this connection",
    "too_many": "`commands.in_flight_per_sender` commands of this connection are under way",
    "result_too_large": "the device carried it out, but its answer is larger than the client's class can take",
    "internal": "the gateway failed; it may have been carried out",
}
