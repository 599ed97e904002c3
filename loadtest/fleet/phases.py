"""Where each device of a fleet process stands, and how many stand where, in all and by kernel. Pure."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence

from loadtest.fleet.sample import OfKernel

NEW, WAITING, TRYING, UP, GIVEN_UP, DONE = range(6)


class Phases:
    """`of` is the phase by slot, `counts` the devices by phase. `kernel_of` is each device's place among `kernels`."""

    def __init__(self, kernels: Sequence[str], kernel_of: Sequence[int]) -> None:
        self.of = array("B", bytes(len(kernel_of)))
        self.counts = [len(kernel_of), 0, 0, 0, 0, 0]
        self._kernels = kernels
        self._kernel_of = kernel_of
        self._by_kernel = [[0] * 6 for _ in kernels]
        for kernel in kernel_of:
            self._by_kernel[kernel][NEW] += 1

    def enter(self, slot: int, phase: int) -> None:
        """A device goes over to another phase."""
        before, own = self.of[slot], self._by_kernel[self._kernel_of[slot]]
        self.counts[before] -= 1
        self.counts[phase] += 1
        own[before] -= 1
        own[phase] += 1
        self.of[slot] = phase

    def by_kernel(self, abnormal: Mapping[int, int]) -> dict[str, OfKernel]:
        """How the devices of each kernel are; `abnormal` by the kernel's place."""
        return {
            name: OfKernel(sum(counts), counts[UP], counts[GIVEN_UP], abnormal.get(index, 0))
            for index, (name, counts) in enumerate(zip(self._kernels, self._by_kernel, strict=True))
        }
