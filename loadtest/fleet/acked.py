"""The file of acknowledged events, written as acks come, so that what a killed process knew can still be judged.

A line holds account, device, the beginning of its event ids, and the numbers after it (`1-7,9`), with tabs between.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from loadtest.fleet.ledger import Ledger
from loadtest.fleet.options import FleetOptions


class AckedFile:
    """While the process runs, `flush` appends what is new: a device has many lines, and a kill may cut the last one.
    `finish` writes one line a device instead."""

    def __init__(self, options: FleetOptions, run: str, ledger: Ledger) -> None:
        """Raises OSError when the file cannot be made."""
        self._options = options
        self._run = run
        self._ledger = ledger
        self._path = Path(options.acked_file)
        self._file = self._path.open("wb", buffering=0)
        ledger.journal = []

    def flush(self) -> None:
        """Write what was acked since the last call. Raises OSError; after it, nothing is appended any more."""
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
        """Write the whole file anew, a line a device. Raises OSError; the file is then as it was."""
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


def read(path: Path) -> Iterator[tuple[str, str, str]]:
    """Account, device and id of each acknowledged event. A last line that a kill cut is left out. Raises OSError."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if not line.endswith("\n"):
                return
            account, device, run, found = line.rstrip("\n").split("\t")
            yield from ((account, device, f"{run}{number}") for number in _numbers(found))


def _numbers(found: str) -> Iterator[int]:
    for part in found.split(","):
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)
