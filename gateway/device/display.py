"""What a person sees of a running device, and the summary at its end."""

from __future__ import annotations

import asyncio
import shutil
import sys
from typing import TextIO

from msgspec import Struct

from gateway.device.plan import Record

REDRAW_S = 0.2
PLAIN_EVERY_S = 10.0
_CLEAR_LINE = "\r\x1b[K"


class Summary(Struct, frozen=True, omit_defaults=True):
    """How a run ended; `p50_ms` and `p99_ms` from first sent to acknowledged, None without any acknowledgement.

    `measured` = `acked` + `rejected` (refused for good) + `dropped` (memory full) + `unacked`. `resent` counts
    repetitions. `answered`: the server was reached. `stopped_by` "": the plan was fulfilled or a person stopped it.
    """

    device: str
    account: str
    measured: int
    acked: int
    unacked: int
    rejected: int
    dropped: int
    resent: int
    connects: int
    answered: bool
    elapsed_s: float
    p50_ms: float | None
    p99_ms: float | None
    durability: dict[str, int]
    refusals: dict[str, int]
    stopped_by: str = ""


class Display:
    """Notes and a live line on a terminal; plain lines elsewhere. With `quiet` only the notes, on standard error."""

    def __init__(self, *, quiet: bool, stream: TextIO | None = None) -> None:
        self._stream = stream or (sys.stderr if quiet else sys.stdout)
        self._live = self._stream.isatty()
        self._quiet = quiet
        self._state = "starting"

    def note(self, text: str) -> None:
        """One line that stays."""
        self._stream.write(f"{_CLEAR_LINE if self._live else ''}{text}\n")
        self._stream.flush()

    def state(self, text: str) -> None:
        """What the device is doing; shown with the next redraw."""
        self._state = text

    async def run(self, record: Record) -> None:
        """Redraw until cancelled; a run shorter than the first interval shows nothing but notes and the summary."""
        while True:
            await asyncio.sleep(REDRAW_S if self._live else PLAIN_EVERY_S)
            if self._live:
                # A line that wraps could not be drawn over.
                columns = shutil.get_terminal_size().columns
                self._stream.write(f"{_CLEAR_LINE}{line(record, self._state)[: columns - 1]}")
                self._stream.flush()
            elif not self._quiet:
                self.note(line(record, self._state))

    def end(self) -> None:
        """Leave the cursor at the start of an empty line."""
        if self._live:
            self._stream.write(_CLEAR_LINE)
            self._stream.flush()


def line(record: Record, state: str) -> str:
    """The state in one line of less than 100 columns."""
    outbox = record.outbox
    p50, p99 = (_ms(record.latency.percentile_ms(percent)) for percent in (50, 99))
    extra = "".join(
        f"  {count} {word}" for count, word in ((outbox.rejected, "rejected"), (outbox.dropped, "dropped")) if count
    )
    return f"{state:<10}  sent {outbox.sent}  acked {outbox.acked}  pending {len(outbox)}{extra}  p50 {p50}  p99 {p99}"


def summary(record: Record, device: str, account: str, elapsed_s: float) -> Summary:
    """The record's counters as they are now."""
    outbox, latency = record.outbox, record.latency
    return Summary(
        device=device,
        account=account,
        measured=record.measured,
        acked=outbox.acked,
        unacked=len(outbox),
        rejected=outbox.rejected,
        dropped=outbox.dropped,
        resent=outbox.resent,
        connects=record.connects,
        answered=record.answered,
        elapsed_s=round(elapsed_s, 3),
        p50_ms=_rounded(latency.percentile_ms(50)),
        p99_ms=_rounded(latency.percentile_ms(99)),
        durability=dict(record.durabilities),
        refusals=dict(record.refusals),
        stopped_by=record.stopped_by or "",
    )


def text(result: Summary) -> str:
    """The summary in a few lines."""
    kinds = ", ".join(f"{count} {name}" for name, count in sorted(result.durability.items())) or "none"
    lines = [
        f"{result.device}: {result.measured} measured, {result.acked} acknowledged ({kinds})"
        f" in {result.elapsed_s:.1f} s over {result.connects} connection{'' if result.connects == 1 else 's'}"
    ]
    if result.p50_ms is not None:
        lines.append(f"acknowledged after p50 {_ms(result.p50_ms)}, p99 {_ms(result.p99_ms)}; {result.resent} resent")
    for name, count in sorted(result.refusals.items()):
        lines.append(f"{count} refused for good: {name}")
    if result.dropped:
        lines.append(f"{result.dropped} dropped because the memory was full")
    if result.unacked:
        fate = "those that were sent may or may not be stored" if result.connects else "they were never sent"
        lines.append(f"{result.unacked} not acknowledged: {fate}")
    return "\n".join(lines)


def _ms(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f} ms"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
