"""A synthetic walk: a person who keeps a heading for a while and never jumps."""

from __future__ import annotations

import math
from collections.abc import Iterator
from random import Random

from gateway.device.track import SPACING_MS, Leg

EARTH_RADIUS_M = 6_371_008.8
SPEED_M_S = 1.4
TURN_DEGREES = 12.0
MAX_LATITUDE = 85.0


def walk(random: Random, lat: float, lon: float) -> Iterator[Leg]:
    """Endless points, one a second, 1.4 m apart, from (`lat`, `lon`) in degrees.

    It crosses the antimeridian and turns back before a pole.
    """
    heading = random.uniform(0, 360)
    pause_ms = 0
    while True:
        yield Leg(pause_ms, round(lat, 7), round(lon, 7), None, None)
        pause_ms = SPACING_MS
        heading = (heading + random.gauss(0, TURN_DEGREES)) % 360
        lat, lon = step(lat, lon, heading, SPEED_M_S * SPACING_MS / 1000)
        if abs(lat) > MAX_LATITUDE:
            lat, heading = math.copysign(MAX_LATITUDE, lat), (heading + 180) % 360


def step(lat: float, lon: float, heading: float, distance_m: float) -> tuple[float, float]:
    """Where one is after `distance_m` towards `heading` (degrees from north, clockwise); longitude within ±180."""
    north_m = distance_m * math.cos(math.radians(heading))
    east_m = distance_m * math.sin(math.radians(heading))
    new_lat = lat + math.degrees(north_m / EARTH_RADIUS_M)
    new_lon = lon + math.degrees(east_m / (EARTH_RADIUS_M * max(0.01, math.cos(math.radians(lat)))))
    return max(-90.0, min(90.0, new_lat)), (new_lon + 180) % 360 - 180
