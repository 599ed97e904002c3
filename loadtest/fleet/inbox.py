"""What the devices do with the messages of the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from gateway.decoding import Payload, decoder
from gateway.protocol.messages import (
    Ack,
    Command,
    CommandResult,
    Error,
    Event,
    Goaway,
    Nack,
    Subscribed,
    Welcome,
)
from loadtest.fleet.commander import Commander
from loadtest.fleet.device import OPEN, OPENING, DeviceConnection
from loadtest.fleet.faults import Faults
from loadtest.fleet.guide import Guide
from loadtest.fleet.options import FleetOptions
from loadtest.fleet.output import FirstEvents
from loadtest.fleet.sender import EventSender
from loadtest.fleet.tally import FleetTally
from loadtest.fleet.watching import Watching
from loadtest.scenario.client_models import ClientModel

ServerMessage = Welcome | Ack | Nack | Goaway | Error | Command | CommandResult | Subscribed | Event
_decode: Callable[[Payload], ServerMessage] = decoder(ServerMessage)  # type: ignore[arg-type]


class InboxOwner(Protocol):
    """The population that the messages change; see population.py."""

    options: FleetOptions
    tally: FleetTally
    sender: EventSender
    faults: Faults
    guide: Guide
    commander: Commander
    watching: Watching
    heartbeat_s: float
    closing: bool

    def dismiss(self, device: DeviceConnection) -> None:
        """Have a device leave with a close frame."""

    def plan_look(self, slot: int, now_s: float) -> None:
        """Set when to look next at a connection that is up."""

    def client_model_of(self, device: DeviceConnection) -> ClientModel:
        """The client model of a device."""


class Inbox:
    """`first` is told the first message of each kind that is out of the ordinary."""

    def __init__(self, population: InboxOwner, first: FirstEvents) -> None:
        self._population = population
        self._first = first

    def take(self, device: DeviceConnection, payload: bytes, now_s: float) -> None:
        """A text message came. A type that is not for devices is left out."""
        try:
            message = _decode(payload)
        except msgspec.DecodeError:
            return
        population, slot = self._population, device.slot
        match message:
            case Ack():
                population.sender.acked(slot, message, now_s)
                population.guide.settled(slot)
            case Nack():
                self._tell(f"nack: {message.code}", slot, message.message)
                population.sender.nacked(slot, message, now_s)
                population.guide.settled(slot)
            case Welcome():
                if device.state == OPENING:
                    self._welcomed(device, message, now_s)
            case Goaway():
                self._asked_to_leave(device, message)
            case Command():
                population.commander.carry_out(slot, message)
            case CommandResult():
                population.commander.answered(message, now_s)
            case Subscribed():
                population.watching.subscribed(slot, message)
            case Event():
                population.watching.event(slot, message, now_s)
            case Error(id=str(name)):
                self._tell(f"command: {message.code}", slot, message.message)
                population.commander.refused(name, message.code, now_s)
            case Error():
                self._tell(f"error: {message.code}", slot, message.message)

    def _welcomed(self, device: DeviceConnection, welcome: Welcome, now_s: float) -> None:
        population, slot = self._population, device.slot
        device.state = OPEN
        population.heartbeat_s = welcome.heartbeat_s
        if population.closing:
            population.dismiss(device)
            return
        population.sender.welcomed(slot, welcome)
        population.watching.welcomed(slot, device)
        population.commander.moved(slot, now_s)
        population.plan_look(slot, now_s)
        if population.faults.is_slow(slot) and device.transport is not None:
            device.stop_reading()
        population.guide.settled(slot)

    def _asked_to_leave(self, device: DeviceConnection, goaway: Goaway) -> None:
        self._population.tally.goaways += 1
        device.goaway_ms = max(0, goaway.reconnect_after_ms)
        if self._population.client_model_of(device).obeys_goaway:
            self._population.dismiss(device)

    def _tell(self, what: str, slot: int, message: str) -> None:
        self._first.tell(what, device=self._population.options.name(slot), message=message)
