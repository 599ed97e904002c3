"""Real managers on the real statements, in virtual time: they die between any two calls, wake up as ghosts, take over
for each other, are told things late and twice, and lose their store; then it is held against the ledger of jobs."""

from __future__ import annotations

import os
from random import SystemRandom

import pytest

from tests.simulation.play import play

# A failure names its seed; this one sets where the sample begins.
FIRST = int(os.environ.get("HEIWA_SIMULATION_SEED") or SystemRandom().randrange(10**9))


@pytest.mark.parametrize("number", range(4))
def test_every_job_is_done_once_whatever_happens_to_the_manager(number: int) -> None:
    for seed in range(FIRST + 6 * number, FIRST + 6 * (number + 1)):
        play(seed)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("thousand", range(10))
def test_so_it_is_ten_thousand_times(thousand: int) -> None:
    for seed in range(1000 * thousand, 1000 * (thousand + 1)):
        play(seed)
