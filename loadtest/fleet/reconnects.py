"""When each device reconnects, as its client model does. Pure."""

from __future__ import annotations

from array import array
from random import Random

from loadtest.fleet.options import FleetOptions
from loadtest.scenario.client_models import CLIENT_MODELS, ClientModel, Ended


class Reconnects:
    """`model_of` is by slot the index of the device's client model in `names`."""

    def __init__(self, options: FleetOptions, random: Random) -> None:
        self.names = list(options.client_models)
        self.model_of = array("B", (options.client_model(slot) for slot in range(options.devices)))
        self._models = [CLIENT_MODELS[name] for name in self.names]
        self._retries = array("H", bytes(2 * options.devices))
        self._options = options
        self._random = random

    def model(self, slot: int) -> ClientModel:
        """The client model of a device."""
        return self._models[self.model_of[slot]]

    def wait_s(self, slot: int, ended: Ended) -> float | None:
        """How long the device waits until it reconnects; None: it never does.

        Its model counts simulated seconds. Those of a goaway are real ones, as the result is.
        """
        speed = self._options.speed
        wait_s, self._retries[slot] = self.model(slot).next_attempt(
            self._retries[slot], self._options.trait(slot), ended.faster(speed), self._random
        )
        return None if wait_s is None else wait_s / speed
