"""The file of acknowledged events: written as they come, so that what a killed process knew can still be judged."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from loadtest.fleet.ledger import Ledger
from loadtest.fleet.options import FleetOptions


class AckedFile:
    """A line is account, device, what its ids begin with, the numbers acked (`1-7,9`), with tabs between.

    While the process runs, `flush` appends what is new; a device has many lines then, and a kill may cut the last one.
    `finish` replaces it by one line a device.
    """

    def __init__(self, options: FleetOptions, run: str, ledger: Ledger) -> None:
        """Raises OSError when the file cannot be made."""
        self._options = options
        self._run = run
        self._ledger = ledger
        self._path = Path(options.acked_file)
        self._file = self._path.open("wb", buffering=0)
        ledger.journal = []

    def flush(self) -> None:
        """Write what was acked since the last time. Raises OSError; then nothing is appended any more."""
        keys = self._ledger.journal
        if not keys:
            return
        self._ledger.journal = None
        numbers: dict[int, list[int]] = defaultdict(list)
        for key in keys:
            numbers[key >> 32].append(key & 0xFFFF_FFFF)
        data = "".join([self._line(slot, ranges(found)) for slot, found in numbers.items()]).encode()
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError:
            self._file.close()
            raise
        self._ledger.journal = []

    def finish(self) -> None:
        """Write all of it anew, a line a device. Raises OSError; then the file is as it was."""
        self._file.close()
        part = self._path.with_name(f"{self._path.name}.part")
        with part.open("w") as file:
            for slot in range(self._options.devices):
                if found := self._ledger.acked_ranges(slot):
                    file.write(self._line(slot, found))
        part.replace(self._path)

    def _line(self, slot: int, found: str) -> str:
        return f"{self._options.account}\t{self._options.name(slot)}\t{self._run}\t{found}\n"


def ranges(numbers: Iterable[int]) -> str:
    """`1-7,9` of different numbers in any order."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(f"{first}-{last}" if last > first else f"{first}" for first, last in parts)
