"""Who says when the devices of a fleet are to be here. By itself everybody comes once and stays."""

from __future__ import annotations

from typing import Protocol


class Guide(Protocol):
    """What a population asks; replayer.py is the other answer."""

    @property
    def playing(self) -> bool:
        """Whether something is still to come."""

    def turn(self, now_s: float) -> None:
        """Do what is due."""

    def settled(self, slot: int) -> None:
        """A device was welcomed, or its events were answered."""

    def over(self, slot: int) -> bool:
        """Its connection, or the attempt at one, is over; true: its client model is not asked when it comes back."""


class Stay:
    """Nobody is told to go."""

    playing = False

    def turn(self, now_s: float) -> None:
        """Nothing is due."""

    def settled(self, slot: int) -> None:
        """It stays."""

    def over(self, slot: int) -> bool:
        """Its client model says when it comes back."""
        return False
