"""One open connection of a device: send what is kept, take the answers, leave when asked."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from gateway.clock import Clock
from gateway.device import messages
from gateway.device.answering import Step, failed
from gateway.device.plan import Observer, Plan, Record, Token

# The server allows 10 s for a handshake; the first frame follows at once.
WELCOME_TIMEOUT_S = 10.0
# How long a device waits for acks in flight after `goaway`; the server itself waits 2 s.
LEAVE_S = 0.5
# A token is renewed when this part of its life has passed: the server asks to leave some time before its end.
RENEW_AT = 0.5
LONGEST_WAIT_S = 3600.0
# Under way at the same time; the gateway sends no more by default.
MAX_COMMANDS = 16


class End(NamedTuple):
    """How a connection ended. `code` None: without a close frame. `goaway` None: the server did not ask to leave."""

    code: int | None
    reason: str
    goaway: messages.Goaway | None


class Session:
    """Runs one connection. `wake` is set by others when there is something new to send or to end."""

    def __init__(
        self,
        connection: ClientConnection,
        plan: Plan,
        record: Record,
        clock: Clock,
        observer: Observer,
        wake: asyncio.Event,
    ) -> None:
        self._connection = connection
        self._plan = plan
        self._record = record
        self._clock = clock
        self._observer = observer
        self._wake = wake
        self._welcome = messages.Welcome()
        self._goaway: messages.Goaway | None = None
        self._leave_by_s = 0.0
        self._renew_at_s: float | None = None
        self._carrying_out: set[asyncio.Task[None]] = set()

    async def run(
        self, token: Token, renewed: Callable[[Token], None], done: Callable[[], bool], freed: Callable[[], None]
    ) -> End:
        """Until the connection ends or `done` says that nothing is left to do.

        `renewed` gets each token made meanwhile, `freed` is called when events have left the outbox.
        """
        self._plan_renewal(token)
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                self._receive(await self._connection.recv())
            await self._exchange(renewed, done, freed)
        except ConnectionClosed:
            pass
        except TimeoutError:
            self._observer.note(f"no welcome within {WELCOME_TIMEOUT_S:g} s")
        except msgspec.DecodeError as error:
            self._observer.note(f"the server sent something unreadable: {error}")
            await self._connection.close(1002)
        finally:
            self._record.outbox.disconnected()
        code, reason = self._connection.close_code, self._connection.close_reason
        return End(None if code in (None, 1006) else code, reason or "", self._goaway)

    async def _exchange(
        self, renewed: Callable[[Token], None], done: Callable[[], bool], freed: Callable[[], None]
    ) -> None:
        sending = asyncio.create_task(self._send_all(renewed, done), name="device-send")
        receiving = asyncio.create_task(self._receive_all(freed), name="device-receive")
        try:
            await asyncio.wait({sending, receiving}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and isinstance(sending.exception(), ConnectionClosed | None):
                # The connection is closed; answers and a `goaway` that came before still count.
                await receiving
        finally:
            tasks = [sending, receiving, *self._carrying_out]
            for task in tasks:
                task.cancel()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        for error in ended:
            if isinstance(error, Exception):
                raise error

    async def _receive_all(self, freed: Callable[[], None]) -> None:
        # Ends when the connection does, with an exception unless the close code is 1000 or 1001.
        async for frame in self._connection:
            self._receive(frame)
            freed()

    async def _send_all(self, renewed: Callable[[Token], None], done: Callable[[], bool]) -> None:
        outbox = self._record.outbox
        while True:
            self._wake.clear()
            now_s = self._clock.monotonic_s()
            if done() or (self._goaway is not None and (outbox.in_flight == 0 or now_s >= self._leave_by_s)):
                await self._connection.close()
                return
            if self._goaway is None:
                await self._renew_if_due(now_s, renewed)
                outbox.overdue(now_s)
                message = outbox.take(now_s, self._welcome.max_events, self._welcome.max_message_bytes)
                if message is not None:
                    await self._connection.send(message.payload, text=True)
                    continue
            await self._rest(now_s)

    async def _rest(self, now_s: float) -> None:
        """Until something new comes or falls due."""
        moments = (self._record.outbox.next_due_s(), self._renew_at_s)
        due_s = min((moment for moment in moments if moment is not None), default=now_s + LONGEST_WAIT_S)
        if self._goaway is not None:
            due_s = self._leave_by_s
        # At least a moment: an event that is due may still not be sent while the window is full.
        wait_s = min(LONGEST_WAIT_S, max(0.01, due_s - now_s))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._wake.wait()

    def _receive(self, frame: str | bytes) -> None:
        message = messages.decode(frame)
        if isinstance(message, messages.Ack):
            self._acknowledged(message)
        elif isinstance(message, messages.Nack):
            self._refused(message)
        elif isinstance(message, messages.Welcome):
            self._welcome = message
        elif isinstance(message, messages.Command):
            self._command(message)
        elif isinstance(message, messages.Goaway):
            self._goaway = message
            self._leave_by_s = self._clock.monotonic_s() + LEAVE_S
        elif isinstance(message, messages.ServerError):
            self._observer.note(f"the server says {message.code}: {message.message}")
        self._wake.set()

    def _command(self, command: messages.Command) -> None:
        self._record.commands += 1
        steps: Iterator[Step]
        if len(self._carrying_out) >= MAX_COMMANDS:
            steps = iter([Step(0, failed(command.id, "busy", f"{MAX_COMMANDS} commands are under way"))])
        elif self._plan.appliance is None:
            steps = iter([Step(0, failed(command.id, "unknown_command", "this device carries out no commands"))])
        else:
            self._observer.note(f"command {command.name} {json.dumps(command.args)}")
            steps = self._plan.appliance.carry_out(command.id, command.name, command.args)
        task = asyncio.create_task(self._carry_out(steps), name="device-command")
        self._carrying_out.add(task)
        task.add_done_callback(self._carrying_out.discard)

    async def _carry_out(self, steps: Iterator[Step]) -> None:
        with contextlib.suppress(ConnectionClosed):
            for step in steps:
                await asyncio.sleep(step.after_s)
                await self._connection.send(messages.encode(step.message), text=True)

    def _acknowledged(self, ack: messages.Ack) -> None:
        latencies_ms = self._record.outbox.acknowledge(ack.ids, self._clock.monotonic_s())
        self._record.durabilities[ack.durability] += len(latencies_ms)
        for latency_ms in latencies_ms:
            self._record.latency.add(latency_ms)

    def _refused(self, nack: messages.Nack) -> None:
        given_up = self._record.outbox.refuse(nack.ids, nack.retry_after_ms, self._clock.monotonic_s())
        if given_up:
            # One line for each kind of refusal; the rest is in the count of the summary.
            if nack.code not in self._record.refusals:
                self._observer.note(f"refused for good: {nack.code}: {nack.message} ({nack.ids[0]})")
            self._record.refusals[nack.code] += given_up

    def _plan_renewal(self, token: Token) -> None:
        self._renew_at_s = None
        if self._plan.mint is not None and token.expires_s is not None:
            life_s = token.expires_s - self._clock.time_ms() / 1000
            self._renew_at_s = self._clock.monotonic_s() + max(0.0, life_s) * RENEW_AT

    async def _renew_if_due(self, now_s: float, renewed: Callable[[Token], None]) -> None:
        if self._plan.mint is None or self._renew_at_s is None or now_s < self._renew_at_s:
            return
        token = self._plan.mint()
        renewed(token)
        self._plan_renewal(token)
        await self._connection.send(messages.encode_auth(token.text), text=True)
