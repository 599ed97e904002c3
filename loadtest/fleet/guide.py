"""What decides when the devices of a fleet connect and leave. By default each connects once and stays."""

from __future__ import annotations

from typing import Protocol


class Guide(Protocol):
    """What a population asks; the other implementation is in replayer.py."""

    @property
    def playing(self) -> bool:
        """Whether devices are still to connect or leave."""

    def turn(self, now_s: float) -> None:
        """Do what is due."""

    def settled(self, slot: int) -> None:
        """A device was welcomed, or its events were answered."""

    def over(self, slot: int) -> bool:
        """Its connection, or an attempt at one, is over; true: do not ask its client model when it reconnects."""


class Stay:
    """No device is told to leave."""

    playing = False

    def turn(self, now_s: float) -> None:
        """Nothing is due."""

    def settled(self, slot: int) -> None:
        """The device stays."""

    def over(self, slot: int) -> bool:
        """The client model decides when the device reconnects."""
        return False
