"""How closes are spread when the process has to go."""

from __future__ import annotations

import pytest

from gateway.connections.hub import TICK_S
from gateway.connections.shutdown import due, window_s


@pytest.mark.parametrize(
    ("connections", "stop_timeout_s", "expected"),
    [(0, 30, 1.0), (1, 30, 1.0), (200, 30, 1.0), (2000, 30, 10.0), (15_000, 30, 20.0), (15_000, 5, TICK_S)],
)
def test_the_window(connections: int, stop_timeout_s: float, expected: float) -> None:
    assert window_s(connections, stop_timeout_s) == expected


@pytest.mark.parametrize("connections", [1, 3, 199, 15_000])
@pytest.mark.parametrize("window", [0.25, 1.0, 20.0])
def test_the_last_goes_when_the_time_is_over(connections: int, window: float) -> None:
    left, left_s, most = connections, window, 0
    while left:
        going = due(left, left_s)
        assert 0 < going <= left
        most = max(most, going)
        left -= going
        left_s -= TICK_S
    assert left_s >= -TICK_S
    assert most <= connections * TICK_S / window + 1
