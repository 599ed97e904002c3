"""Location events as devices send them, built cheaply. Pure.

An event is a function of its device, its number and its time, so that it can be sent again without being kept.
Positions follow a recorded track, or a synthetic walk around the device's home, to its end and back again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from random import Random

from gateway.device.gpx import Fix
from gateway.device.walk import walk
from loadtest.fleet.spread import bits

WALK_STEPS = 4096
_PART = (1 << 24) - 1
_OPEN = '{"type":"locations","events":['
_TYPE = '"type":"location",'
# Makes an event longer; attributes may take 1,024 bytes with their name and brackets (locations/event.py).
_PADDING = ',"attributes":{"pad":"%s"}'
_PADDING_BYTES = len(_PADDING) - len("%s")
MAX_PADDING_BYTES = 1000


class EventFactory:
    """The events of all devices of a run. An id is `run` and a number, so that no two runs share one.

    `tracks` are lists of points; empty: synthetic walks. A device moves `stride` points from one event to the next.
    """

    def __init__(self, run: str, seed: int, tracks: Sequence[Sequence[Fix]] = (), stride: int = 1) -> None:
        self._run = run
        self._seed = seed
        self._stride = max(1, stride)
        self._tracks = [[(fix.lat, fix.lon) for fix in track] for track in tracks]
        self._steps: list[tuple[float, float]] = []
        if not self._tracks:
            self._steps = [(leg.lat, leg.lon) for leg in islice(walk(Random(seed), 0.0, 0.0), WALK_STEPS)]

    def id_of(self, number: int) -> str:
        return f"{self._run}{number}"

    def number_of(self, name: str) -> int | None:
        """The number of an id; None: it is not an id of this run."""
        digits = name[len(self._run) :]
        if name.startswith(self._run) and digits.isascii() and digits.isdigit():
            return int(digits)
        return None

    def location(self, index: int, number: int, time_ms: int, size: int = 0) -> bytes:
        """A `location` message of device `index`; `time_ms` since the Unix epoch, `size` as for `locations`."""
        return f"{{{_TYPE}{self._fields(index, number, time_ms, size)}".encode()

    def locations(self, index: int, events: Sequence[tuple[int, int, int]]) -> bytes:
        """A `locations` message from numbers, times and sizes.

        An event is padded to `size` bytes, by up to `MAX_PADDING_BYTES`; 0: no padding.
        """
        parts = ",".join([f"{{{self._fields(index, number, time_ms, size)}" for number, time_ms, size in events])
        return f"{_OPEN}{parts}]}}".encode()

    def position(self, index: int, number: int) -> tuple[float, float]:
        """The position of device `index` at its event `number`, degrees."""
        own = bits(self._seed, index)
        step = (own >> 48) + number * self._stride
        if self._tracks:
            track = self._tracks[index % len(self._tracks)]
            return track[_there_and_back(step, len(track))]
        north, east = self._steps[_there_and_back(step, WALK_STEPS)]
        lat = (own & _PART) / _PART * 130 - 60 + north
        lon = (own >> 24 & _PART) / _PART * 360 - 180 + east
        return lat, (lon + 180) % 360 - 180

    def _fields(self, index: int, number: int, time_ms: int, size: int) -> str:
        lat, lon = self.position(index, number)
        text = f'"id":"{self._run}{number}","time":{time_ms},"lat":{lat:.6f},"lon":{lon:.6f},"accuracy":5'
        # 2: the brackets of the object.
        more = size - len(text) - 2 - _PADDING_BYTES
        return f"{text}}}" if more <= 0 else f"{text}{_PADDING % ('x' * min(more, MAX_PADDING_BYTES))}}}"


def size_of_each(size: int, count: int) -> int:
    """The bytes of each of `count` events in a message of `size` bytes."""
    if count == 1:
        return max(0, size - len(_TYPE))
    return max(0, (size - len(_OPEN) - 2 - (count - 1)) // count)


def _there_and_back(step: int, length: int) -> int:
    """0, 1 … length - 1, length - 2 … 1, 0, 1 …"""
    if length < 2:
        return 0
    place = step % (2 * length - 2)
    return place if place < length else 2 * length - 2 - place
