from itertools import islice, pairwise
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from gateway.device.walk import SPEED_M_S, walk
from gateway.locations.geo import distance_m


@given(st.integers(), st.floats(-84.9, 84.9), st.floats(-180, 180))
def test_no_step_is_a_jump(seed: int, lat: float, lon: float) -> None:
    path = list(islice(walk(Random(seed), lat, lon), 50))
    for before, after in pairwise(path):
        assert distance_m(before.lat, before.lon, after.lat, after.lon) < SPEED_M_S * 1.2
        assert -90 <= after.lat <= 90
        assert -180 <= after.lon <= 180


def test_the_same_seed_walks_the_same_way() -> None:
    assert list(islice(walk(Random(7), 35, 135), 10)) == list(islice(walk(Random(7), 35, 135), 10))
    assert list(islice(walk(Random(7), 35, 135), 10)) != list(islice(walk(Random(8), 35, 135), 10))
