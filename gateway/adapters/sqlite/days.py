"""The day files of the embedded location index: which there are, which are open for writing, which have to go.

Used by the writing thread; `generation` and `newest_first` by others, too.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from itertools import count as numbers
from pathlib import Path

from gateway.adapters.sqlite.damage import Damage
from gateway.adapters.sqlite.day import CHECKPOINT_BYTES, DayWriter
from gateway.adapters.sqlite.file import make_folder, remove_store, store_errors
from gateway.adapters.sqlite.layout import DAY_PREFIX, MANIFEST_NAME, day_file_name
from gateway.adapters.sqlite.manifest import Manifest
from gateway.adapters.sqlite.readers import Readers
from gateway.clock import Clock
from gateway.errors import StoreError
from gateway.locations.batch import DeviceEvents
from gateway.locations.outcome import Rejection
from gateway.locations.retention import Cutoff, first_cutoff, look
from gateway.telemetry.log import Log

_EPOCH = date(1970, 1, 1)
# Late events are rarely older than a day or two; a fleet that comes back from a month offline opens files in turn.
MAX_OPEN_WRITERS = 4
# Above its limit by this factor the index takes nothing of anybody.
_HARD_LIMIT = 1.25
# How many events may be written between two looks at the total size.
_SIZE_CHECK_EVENTS = 50_000

_log = Log("locations")


class Days:
    """Whole days are dropped, oldest first: those before the cut-off, and more while all take more than `max_bytes`.

    The newest day is never dropped. When it alone is too large, accounts that take more than an even share are refused.
    An account that takes `account_max_bytes` is refused, too (0: no limit). `full` says why nothing can be written;
    None: it can.
    """

    def __init__(
        self, folder: Path, clock: Clock, retention_days: int, max_bytes: int, account_max_bytes: int, readers: int
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._retention_days = retention_days
        self._max_bytes = max_bytes
        self._generations: dict[int, int] = {}  # newest first; replaced as a whole, read by several threads
        self._next_generation = numbers(1)
        self._writers: dict[int, DayWriter] = {}
        self._unchecked_events = 0
        self._manifest = Manifest(folder / MANIFEST_NAME)
        self._cutoff = Cutoff(0)
        self._account_max_bytes = account_max_bytes
        self._account_bytes: Counter[str] = Counter()
        self._even_share_bytes: int | None = None
        self.readers = Readers(self.generation, readers)
        self.damage = Damage()
        self.dropped: Counter[str] = Counter()
        self.full: str | None = None

    def path(self, day: int) -> Path:
        """Where a day is kept."""
        return self._folder / day_file_name(_name(day))

    def generation(self, day: int) -> int | None:
        """A number that changes when the file of a day is another one; None: there is none."""
        return self._generations.get(day)

    def newest_first(self) -> dict[int, int]:
        """All days with their generations."""
        return self._generations

    def open(self) -> None:
        """Make the folder, check the file of every day, drop what is too old. Raises StoreError, SchemaError."""
        make_folder(self._folder)
        self._manifest.load()
        with store_errors(self._folder):
            found = self._find()
        for name in set(self._manifest.names()) - {self.path(day).name for day in found}:
            _log.error("day_missing", file=name)
            self._manifest.forget(name)
        self._generations = {day: next(self._next_generation) for day in sorted(found, reverse=True)}
        first = first_cutoff(self._manifest.cutoff_day, found, self._clock.time_ms(), self._retention_days)
        self._cutoff = Cutoff(first)
        # First what has to go: a full disk may leave no room to open the rest.
        for day in self._expired():
            self._drop(day, self._size(day), "retention")
        # The newest last, so that they stay open.
        for day in reversed(self._generations):
            self._account_bytes.update(self.writer(day).account_bytes())
        self.keep(0, None)
        self.sweep()

    def close(self) -> None:
        """Close all files."""
        self.readers.close()
        for day in list(self._writers):
            self._close_writer(day)
        self._manifest.save()

    def writer(self, day: int) -> DayWriter:
        """The open file of a day, made if missing; the least recently used one of too many is closed."""
        writer = self._writers.pop(day, None)
        if writer is None:
            if len(self._writers) >= MAX_OPEN_WRITERS:
                self._close_writer(next(iter(self._writers)))
            self._manifest.check_size(self.path(day))
            writer = DayWriter(self.path(day), day)
            try:
                self._manifest.check(self.path(day), writer.pages())
            except BaseException:
                writer.close()
                raise
        self._writers[day] = writer
        if day not in self._generations:
            generations = {**self._generations, day: next(self._next_generation)}
            self._generations = dict(sorted(generations.items(), reverse=True))
            self._manifest.held(self.path(day).name, writer.pages())
            self._manifest.save()
        return writer

    def write(self, day: int, groups: Sequence[DeviceEvents]) -> Mapping[int, Rejection]:
        """See `DayWriter.write`; counts what each account takes."""
        writer = self.writer(day)
        rejections = writer.write(groups)
        self._account_bytes.update(writer.added())
        return rejections

    @property
    def is_due(self) -> bool:
        """Whether it is time for `settle`."""
        return any(writer.is_due for writer in self._writers.values())

    def settle(self) -> None:
        """Move into the indices what is fresh in the files where that is much. What fails is tried again later."""
        for day, writer in self._writers.items():
            if writer.is_due:
                try:
                    writer.settle()
                except Exception as error:
                    _log.error("day_not_settled", day=_name(day), problem=str(error))

    def refusal(self, account: str) -> Rejection | None:
        """Why nothing more of an account is taken; None: it is."""
        taken_bytes = self._account_bytes.get(account, 0)
        for maximum_bytes, whose in (
            (self._account_max_bytes, "locations.account_max_bytes"),
            (self._even_share_bytes, "an even share of the full index"),
        ):
            if maximum_bytes and taken_bytes >= maximum_bytes:
                reason = f"the account's events take {taken_bytes} bytes of the index, {whose} is {maximum_bytes}"
                return Rejection(reason, code="account_full")
        return None

    def keep(self, events: int, events_ms: int | None) -> None:
        """So many events are about to be written: drop what has to go. `events_ms`: see `retention.look`."""
        before = self._cutoff.day
        now_ms, now_s = self._clock.time_ms(), self._clock.monotonic_s()
        self._cutoff = look(self._cutoff, now_ms, now_s, self._retention_days, events_ms, self._generations)
        self._unchecked_events += events
        if self._unchecked_events >= _SIZE_CHECK_EVENTS or self._cutoff.day > before:
            self.sweep()

    def sweep(self) -> None:
        """Drop whole days that are too old or too much."""
        self._unchecked_events = 0
        with store_errors(self._folder):
            sizes = self._sizes()
            for day, writer in self._writers.items():
                # A log that readers have kept from being moved does not count, and does not stay.
                if sum(sizes.values()) > self._max_bytes or self._log_bytes(day) > 3 * CHECKPOINT_BYTES:
                    writer.checkpoint()
            sizes = self._sizes()
            total = sum(sizes.values())
            expired = set(self._expired())
            newest_bytes = sizes[next(iter(sizes))] if sizes else 0
            for day in list(reversed(self._generations))[:-1]:
                if day not in expired and (total <= self._max_bytes or self._helps_nobody(total, newest_bytes)):
                    break
                self._forget_account_bytes(day)
                self._drop(day, sizes[day], "retention" if day in expired else "size")
                total -= sizes[day]
        self._judge(total)
        for day, writer in self._writers.items():
            writer.save_account_bytes()
            self._manifest.held(self.path(day).name, writer.pages())
        self._manifest.save(self._cutoff.day)

    def _find(self) -> list[int]:
        """The days that have a file. One whose name is no day is left alone: it is not ours."""
        found = []
        for path in sorted(self._folder.glob(day_file_name("*"))):
            day = _day(path.stem.removeprefix(DAY_PREFIX))
            if day is not None and self.path(day).name == path.name:
                found.append(day)
            else:
                _log.warning("file_is_no_day", file=path.name)
        return found

    def _helps_nobody(self, total: int, newest_bytes: int) -> bool:
        """Whether dropping older days would leave the index as full, and only those pay who did not fill it."""
        accounts = len(+self._account_bytes)
        return newest_bytes > self._max_bytes and accounts > 1 and total <= _HARD_LIMIT * self._max_bytes

    def _judge(self, total: int) -> None:
        """Whether any account is refused while this number of bytes is left."""
        self.full = self._even_share_bytes = None
        if total <= self._max_bytes:
            return
        accounts = len(+self._account_bytes)
        if accounts < 2 or total > _HARD_LIMIT * self._max_bytes:
            self.full = f"{self._folder} takes {total} bytes for one day, more than locations.index_max_bytes"
        else:
            self._even_share_bytes = self._account_bytes.total() // accounts

    def _expired(self) -> list[int]:
        """The days before the cut-off, but never the newest, the oldest first."""
        return [day for day in list(reversed(self._generations))[:-1] if day < self._cutoff.day]

    def _forget_account_bytes(self, day: int) -> None:
        with contextlib.suppress(StoreError):
            self._account_bytes.subtract(self.writer(day).account_bytes())
        self._account_bytes = +self._account_bytes

    def _drop(self, day: int, size_bytes: int, why: str) -> None:
        if (writer := self._writers.pop(day, None)) is not None:
            writer.close()
        self._generations = {other: number for other, number in self._generations.items() if other != day}
        self.readers.drop(day)
        self.damage.forget(self.path(day))
        remove_store(self.path(day))
        self._manifest.forget(self.path(day).name)
        self.dropped[why] += 1
        _log.warning("day_dropped", day=_name(day), bytes=size_bytes, why=why)

    def _close_writer(self, day: int) -> None:
        writer = self._writers.pop(day)
        try:
            writer.save_account_bytes()
            self._manifest.held(self.path(day).name, writer.pages())
        finally:
            writer.close()

    def _sizes(self) -> dict[int, int]:
        return {day: self._size(day) for day in self._generations}

    def _size(self, day: int) -> int:
        return _file_bytes(self.path(day)) + self._log_bytes(day)

    def _log_bytes(self, day: int) -> int:
        path = self.path(day)
        return _file_bytes(path.with_name(f"{path.name}-wal"))


def _file_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _name(day: int) -> str:
    return str(_EPOCH + timedelta(days=day))


def _day(name: str) -> int | None:
    """The reverse of `_name`; None: no day is called that."""
    try:
        return (date.fromisoformat(name) - _EPOCH).days
    except ValueError:
        return None
