"""The phase of each device of a fleet process, and the number of devices in each phase, in all and by client model.

Pure.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

from loadtest.fleet.sample import ClientModelCounts

NEW, WAITING, TRYING, UP, GIVEN_UP, DONE = range(6)


class Phases:
    """`of` is the phase by slot, `counts` the number of devices by phase.

    `client_model_of` is by slot the index of the device's model in `client_models`.
    """

    def __init__(self, client_models: Sequence[str], client_model_of: Sequence[int]) -> None:
        self.of = array("B", bytes(len(client_model_of)))
        self.counts = [len(client_model_of), 0, 0, 0, 0, 0]
        self._client_models = client_models
        self._client_model_of = client_model_of
        self._by_client_model = [[0] * 6 for _ in client_models]
        for client_model in client_model_of:
            self._by_client_model[client_model][NEW] += 1

    def enter(self, slot: int, phase: int) -> None:
        """A device enters another phase."""
        before, own = self.of[slot], self._by_client_model[self._client_model_of[slot]]
        self.counts[before] -= 1
        self.counts[phase] += 1
        own[before] -= 1
        own[phase] += 1
        self.of[slot] = phase

    def by_client_model(self, abnormal: Mapping[int, int]) -> dict[str, ClientModelCounts]:
        """The counts of each client model; `abnormal` is by the index of the model."""
        return {
            name: ClientModelCounts(sum(counts), counts[UP], counts[GIVEN_UP], abnormal.get(index, 0))
            for index, (name, counts) in enumerate(zip(self._client_models, self._by_client_model, strict=True))
        }
