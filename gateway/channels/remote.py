"""Carries commands to devices that other gateways hold: directory, broker, holder, device, and back the same way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from functools import partial

from gateway.channels.announcing import Announcer
from gateway.channels.commands import Command, Outcome, Progress, Settled
from gateway.channels.directory import Holder
from gateway.channels.envelopes import Carried, Order, Reported, carried, settled_of
from gateway.channels.local import LocalCourier, Telling
from gateway.channels.paced import Paced
from gateway.channels.peers import NobodyError, Peers
from gateway.channels.ports import Directory
from gateway.errors import BrokerDownError

_MEANWHILE = "the broker was lost meanwhile: it may have been carried out"


class RemoteCourier:
    """Sends ours to other gateways, and has theirs carried out here."""

    def __init__(self, local: LocalCourier, peers: Peers, directory: Directory, announcer: Announcer) -> None:
        self._local = local
        self._peers = peers
        self._directory = directory
        self._announcer = announcer
        self._telling: set[asyncio.Task[None]] = set()
        self._watched: dict[str, tuple[str, Telling]] = {}
        self._numbers = itertools.count(1)
        peers.serve(Order, self._carry_out)
        peers.serve(Reported, self._reported)

    async def send(self, command: Command, deadline_ms: int, told: Telling | None = None) -> Settled:
        """Send it to the gateway that holds the device; see LocalCourier.send. UNREACHABLE: the broker is away."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + deadline_ms / 1000
        try:
            entry = await self._directory.find(command.account, command.device)
        except BrokerDownError as error:
            return Settled(Outcome.UNREACHABLE, detail=str(error))
        if entry is None:
            return Settled(Outcome.UNKNOWN)
        if entry.holder is None:
            return Settled(Outcome.OFFLINE, entry.last)
        if entry.holder.gateway == self._peers.gateway:
            # It is about to leave, or has just left.
            self._announcer.missed(command.account, command.device, entry.holder.connection)
            return Settled(Outcome.GONE_UNSENT)
        left_ms = max(1, int((end_s - loop.time()) * 1000))
        if told is None:
            return await self._ask(command, entry.holder, left_ms, "")
        watch = str(next(self._numbers))
        self._watched[watch] = (command.account, told)
        try:
            return await self._ask(command, entry.holder, left_ms, watch)
        finally:
            del self._watched[watch]

    async def _ask(self, command: Command, holder: Holder, deadline_ms: int, watch: str) -> Settled:
        back = self._peers.gateway if watch else ""
        order = Order(command.device, holder.connection, command.name, command.args, deadline_ms, watch, back)
        try:
            answer = await self._peers.ask(holder.gateway, command.account, order, Carried, deadline_ms / 1000)
        except NobodyError:
            return Settled(Outcome.GONE_UNSENT)
        except TimeoutError:
            return Settled(Outcome.TIMED_OUT)
        except BrokerDownError as error:
            return (
                Settled(Outcome.GONE, detail=_MEANWHILE)
                if error.sent
                else Settled(Outcome.UNREACHABLE, detail=str(error))
            )
        try:
            return settled_of(answer)
        except ValueError:
            return Settled(Outcome.GONE, detail=f"{holder.gateway} answered what this version does not understand")

    async def _carry_out(self, account: str, order: Order) -> Carried:
        command = Command(account, order.device, order.name, order.args)
        told = Paced(partial(self._pass_on, account, order)) if order.watch else None
        settled = await self._local.send(command, order.deadline_ms, told)
        if told is not None:
            told.close()
        if settled.outcome is Outcome.GONE_UNSENT:
            self._announcer.missed(account, order.device, order.connection)
        return carried(settled)

    def _pass_on(self, account: str, order: Order, progress: Progress) -> None:
        """Tell the gateway that asked; what does not get there is followed by something newer, or by the result."""
        task = asyncio.get_running_loop().create_task(self._tell(account, order, progress), name="peer progress")
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)

    async def _tell(self, account: str, order: Order, progress: Progress) -> None:
        with contextlib.suppress(BrokerDownError):
            await self._peers.tell(order.back, account, Reported(order.watch, progress.percent, progress.message))

    async def _reported(self, account: str, found: Reported) -> None:
        """Late and foreign ones are dropped."""
        owner, told = self._watched.get(found.watch, ("", None))
        if told is not None and owner == account:
            told(Progress(found.percent, found.message))
