"""Carries commands to devices that other gateways hold: directory, broker, holder, device, and back the same way."""

from __future__ import annotations

import asyncio

from gateway.channels.announcing import Announcer
from gateway.channels.commands import Command, Outcome, Settled
from gateway.channels.directory import Holder
from gateway.channels.envelopes import Carried, Order, carried, settled_of
from gateway.channels.local import LocalCourier
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
        peers.serve(Order, self._carry_out)

    async def send(self, command: Command, deadline_ms: int) -> Settled:
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
        return await self._ask(command, entry.holder, max(1, int((end_s - loop.time()) * 1000)))

    async def _ask(self, command: Command, holder: Holder, deadline_ms: int) -> Settled:
        order = Order(command.device, holder.connection, command.name, command.args, deadline_ms)
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
        settled = await self._local.send(command, order.deadline_ms)
        if settled.outcome is Outcome.GONE_UNSENT:
            self._announcer.missed(account, order.device, order.connection)
        return carried(settled)
