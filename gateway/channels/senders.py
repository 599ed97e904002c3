"""Commands that clients send over their own websockets, each until its result or its deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any, NamedTuple, Protocol

from gateway.channels.commands import Command, Outcome, Settled
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
        # By slot and by the client's own name: what the courier calls it, or the task that carries it.
        self._under_way: dict[int, dict[str, str | asyncio.Task[None]]] = {}

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
            self._begin(sender, wish)

    def _begin(self, sender: Sender, wish: Wish) -> None:
        """A device that is here needs no task, which takes a tenth of the whole command."""
        command = Command(sender.account_name, wish.device, wish.name, wish.args, wish.idempotent)
        begun = self._courier.begin(command, wish.deadline_ms, partial(self._settled, sender, wish))
        if isinstance(begun, Settled):
            sender.send(self._answer(sender, wish, begun))
            return
        sender.expect(1)
        self._under_way.setdefault(sender.slot, {})[wish.id] = begun or asyncio.get_running_loop().create_task(
            self._carry(sender, wish, command), name="client command"
        )

    async def _carry(self, sender: Sender, wish: Wish, command: Command) -> None:
        try:
            settled = await self._courier.carry(command, wish.deadline_ms)
        except Exception as error:
            self._settled(sender, wish, error)
        else:
            self._settled(sender, wish, settled)

    def _settled(self, sender: Sender, wish: Wish, settled: Settled | Exception) -> None:
        own = self._under_way[sender.slot]
        del own[wish.id]
        if not own:
            del self._under_way[sender.slot]
        sender.answer((self._answer(sender, wish, settled),), 1)

    def _answer(self, sender: Sender, wish: Wish, settled: Settled | Exception) -> bytes:
        if isinstance(settled, Exception):
            return self._failed(wish, settled)
        try:
            return self._words(sender, wish, settled)
        except Exception as error:
            # The device whose result this is must not pay for it.
            return self._failed(wish, error)

    def _failed(self, wish: Wish, error: Exception) -> bytes:
        _log.error("command_failed", exc_info=error)
        return self._writing.no_result(wish.id, "internal", "the gateway failed; it may have been carried out")

    def _words(self, sender: Sender, wish: Wish, settled: Settled) -> bytes:
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
        for begun in self._under_way.pop(sender.slot, {}).values():
            if isinstance(begun, str):
                self._courier.give_up(begun)
            else:
                begun.cancel()

    async def close(self) -> None:
        """End all that is under way."""
        begun = [each for own in self._under_way.values() for each in own.values()]
        tasks = [each for each in begun if not isinstance(each, str)]
        for task in tasks:
            task.cancel()
        for name in begun:
            if isinstance(name, str):
                self._courier.give_up(name)
        await asyncio.gather(*tasks, return_exceptions=True)


# Why a command of a client has no result, besides the outcomes that say so.
REFUSALS = {
    "forbidden": "the token lacks the scope `command:send`",
    "duplicate": "a command of this `id` is under way on this connection",
    "too_many": "`commands.in_flight_per_sender` commands of this connection are under way",
    "result_too_large": "the device carried it out, but its answer is larger than the client's class can take",
    "internal": "the gateway failed; it may have been carried out",
}
