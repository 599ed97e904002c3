"""How much is asked of an index: batches in flight (AIMD) and their size, when to leave it alone (a breaker), retries.

Time is an argument, in seconds of a monotonic clock.
"""

from __future__ import annotations

from enum import Enum

from gateway.locations.packing import BULK_DOCUMENTS

MIN_BATCHES, FIRST_BATCHES, MAX_BATCHES = 1, 2, 16
MIN_DOCUMENTS, MAX_DOCUMENTS = 50, BULK_DOCUMENTS
# An ack is to come within a second: of it, an event waits for its batch, and the batch for its answer.
WAIT_S, ROUND_TRIP_S = 0.25, 0.3
_SMALLER, _MORE_DOCUMENTS = 0.7, 50.0
# RFC 6298, 2: how fast the mean and its deviation follow.
_MEAN_SHARE, _DEVIATION_SHARE = 1 / 8, 1 / 4
_SLOW_DEVIATIONS = 2.5
_SLOWER = 0.9


class Window:
    """Batches in flight, and documents in each.

    One batch more after a clean round trip of a full window, half of them after a refusal; at most once a round trip,
    for the refusals of one window are one message. A round trip that is slow by its own measure takes a tenth. Where
    there is `another_way`, one that is longer than a device should wait makes batches smaller, too, until the index
    answers in time again: what it does not keep up with had better go there than stand in its queue.
    """

    def __init__(self, *, another_way: bool = False) -> None:
        self._another_way = another_way
        self._size = float(FIRST_BATCHES)
        self._documents = float(MAX_DOCUMENTS)
        self._mean_s = 0.0
        self._deviation_s = 0.0
        self._halved_s = float("-inf")
        self._shrunk_s = float("-inf")

    @property
    def batches(self) -> int:
        """How many batches may be in flight, 1 to 16."""
        return int(self._size)

    @property
    def documents(self) -> int:
        """How many documents a batch may hold, 50 to 1,000."""
        return int(self._documents)

    @property
    def waiting(self) -> int:
        """How many documents get a place within `WAIT_S`."""
        return int(self.batches * self._documents * max(1.0, WAIT_S / max(self._mean_s, 0.001)))

    @property
    def mean_s(self) -> float:
        """The mean round trip; 0 before the first one."""
        return self._mean_s

    def taken(self, now_s: float, round_trip_s: float, documents: int, *, full: bool) -> None:
        """A batch of so many documents was taken; `full`: as many were in flight as may be."""
        slow = bool(self._mean_s) and round_trip_s > self._mean_s + _SLOW_DEVIATIONS * self._deviation_s
        late = self._another_way and round_trip_s > ROUND_TRIP_S
        if late and now_s - self._shrunk_s >= round_trip_s:
            # All that were in flight meanwhile say the same.
            self._shrunk_s = now_s
            self._documents = max(MIN_DOCUMENTS, self._documents * _SMALLER)
        elif round_trip_s < ROUND_TRIP_S / 2 and documents >= self.documents:
            self._documents = min(MAX_DOCUMENTS, self._documents + _MORE_DOCUMENTS)
        self._measure(round_trip_s)
        if slow or late:
            self._size = max(MIN_BATCHES, self._size * _SLOWER)
        elif full:
            # One a window, not one a batch.
            self._size = min(MAX_BATCHES, self._size + 1 / self.batches)

    def refused(self, now_s: float) -> None:
        """A batch was refused, in whole or in part."""
        if now_s - self._halved_s >= self._mean_s:
            self._halved_s = now_s
            self._size = max(MIN_BATCHES, self._size / 2)

    def _measure(self, round_trip_s: float) -> None:
        if not self._mean_s:
            self._mean_s, self._deviation_s = round_trip_s, round_trip_s / 2
            return
        apart_s = round_trip_s - self._mean_s
        self._deviation_s += _DEVIATION_SHARE * (abs(apart_s) - self._deviation_s)
        self._mean_s += _MEAN_SHARE * apart_s


class Way(Enum):
    """Where a batch goes: to the index, to the index to see whether it works, or not to the index."""

    DIRECT = "direct"
    PROBE = "probe"
    NOT = "not"


REFUSED_IN_A_ROW = 3
# The batches of one window are refused together, and the window is halved then: that is given the time to help.
REFUSED_FOR_S = 0.5
PROBE_EVERY_S = 1.0
CLEAN_PROBES = 5


class Breaker:
    """Leaves an index alone after three batches in a row of which half was refused, over half a second at least; one
    probe a second finds out more.

    Five clean probes in a row close it. While it is open, the last batch that was refused tells why.
    """

    def __init__(self) -> None:
        self.open = False
        self._in_a_row = 0
        self._row_began_s = 0.0
        self._clean = 0
        self._probed_s = float("-inf")

    def way(self, now_s: float) -> Way:
        """Where the next batch goes; PROBE counts as taken."""
        if not self.open:
            return Way.DIRECT
        if now_s - self._probed_s < PROBE_EVERY_S:
            return Way.NOT
        self._probed_s = now_s
        return Way.PROBE

    def seen(self, way: Way, refused: int, number: int, began_s: float, now_s: float) -> None:
        """What became of a batch that began then: how many of its documents were refused.

        One that was under way does not probe.
        """
        bad = 2 * refused >= number > 0
        if not self.open:
            if self._in_a_row == 0:
                self._row_began_s = began_s
            self._in_a_row = self._in_a_row + 1 if bad else 0
            if self._in_a_row >= REFUSED_IN_A_ROW and now_s - self._row_began_s >= REFUSED_FOR_S:
                self.trip(now_s)
        elif way is Way.PROBE:
            self._clean = 0 if bad else self._clean + 1
            if self._clean >= CLEAN_PROBES:
                self.open = False
                self._in_a_row = 0

    def trip(self, now_s: float) -> None:
        """Open at once."""
        if not self.open:
            self.open = True
            self._probed_s = now_s
        self._clean = 0


class RetryBudget:
    """Retries are a tenth of what is sent at most, so that they never make an overload worse.

    What was not used is kept, up to `reserve`: an index that fails rarely gets its retries at once.
    """

    def __init__(self, share: float = 0.1, reserve: float = 4000.0) -> None:
        self._share = share
        self._reserve = reserve
        self._left = reserve

    def sent(self, number: int) -> None:
        """So many documents were sent for the first time."""
        self._left = min(self._reserve, self._left + number * self._share)

    def take(self, number: int) -> bool:
        """Whether this number may be sent again; if so, they count."""
        if number > self._left:
            return False
        self._left -= number
        return True


class Quota:
    """A token bucket of bytes, with a second's worth in it at most."""

    def __init__(self, bytes_per_s: float) -> None:
        self._rate = bytes_per_s
        self._left = bytes_per_s
        self._seen_s = float("-inf")

    def take(self, size_bytes: int, now_s: float) -> bool:
        """Whether so much may be sent now; if so, it counts."""
        self._left = min(self._rate, self._left + (now_s - self._seen_s) * self._rate)
        self._seen_s = now_s
        if size_bytes > self._left:
            return False
        self._left -= size_bytes
        return True
