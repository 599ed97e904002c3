"""The lines of `samples.jsonl`: all that is known of a run, written while it happens. The results are made from them.

To merge the files of several machines, read all of them.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

import msgspec
from msgspec import Struct

from gateway.decoding import Payload, decoder
from loadtest.fleet.sample import Sample

Role = Literal["gateway", "fleet", "conductor"]


class Begin(Struct, frozen=True, tag="begin", tag_field="line"):
    """The options of a run and its machine. `share` is `i/n`; `devices` are those of this share."""

    time_ms: int
    scenario: str
    share: str
    devices: int
    seed: int
    options: dict[str, Any]
    machine: dict[str, Any]
    versions: dict[str, str]


class Told(Struct, frozen=True, tag="fleet", tag_field="line"):
    """The sample of a fleet process."""

    sample: Sample

    @property
    def time_ms(self) -> int:
        return self.sample.time_ms


class ProcessReading(Struct, frozen=True, tag="process", tag_field="line", omit_defaults=True):
    """A process as Linux sees it. `pss_bytes` and `private_bytes` are from smaps_rollup; 0: not read this time."""

    time_ms: int
    name: str
    role: Role
    pid: int
    cpu_s: float
    rss_bytes: int
    files: int = 0
    pss_bytes: int = 0
    private_bytes: int = 0


class KernelReading(Struct, frozen=True, tag="kernel", tag_field="line"):
    """What the kernel of the machine holds: its slab, its TCP buffers, its sockets in use.

    `stolen_s` is the processor time since its start that the hypervisor gave to other machines (proc_stat(5), steal).
    """

    time_ms: int
    slab_bytes: int
    tcp_bytes: int
    sockets: int
    stolen_s: float = 0.0


class Happened(Struct, frozen=True, tag="event", tag_field="line", omit_defaults=True):
    """A phase began (`connect`, `measure`, `settle`, `end`), an action, a step of a deploy, or a process died."""

    time_ms: int
    what: Literal["phase", "action", "wave", "died", "note"]
    text: str
    name: str = ""
    fields: dict[str, Any] = {}


class Judged(Struct, frozen=True, tag="judged", tag_field="line", omit_defaults=True):
    """Loss and doubling over all stores. `lost_ids` and `doubled_ids` are the first ones, as `device id`.

    `through` are the addresses whose search was asked; empty: the data folders of the share's own gateways were read.
    Shares that asked the same addresses looked at the same events.
    """

    time_ms: int
    acked: int
    stored: int
    lost: int
    doubled: int
    copies: int
    lost_ids: list[str] = []
    doubled_ids: list[str] = []
    through: list[str] = []


class Commanded(Struct, frozen=True, tag="command", tag_field="line"):
    """A command to a lamp, recorded with its answer. `way`: `local` to the gateway that holds it, or `remote`.

    `outcome` is `done`, or why there is none. `took_ms` counts from when it was due. `doubled`: how many commands were
    carried out more than once so far.
    """

    time_ms: int
    way: str
    outcome: str
    took_ms: float
    doubled: int

    @property
    def began_ms(self) -> float:
        """When it was due."""
        return self.time_ms - self.took_ms


class GatewayDrain(Struct, frozen=True):
    """What one gateway of a deploy did: its last known `state` ("": it gave no answer), and one of its drain receipts,
    if it wrote any. The fields have the receipt's names."""

    name: str
    state: str = ""
    origin: str = ""
    outcome: str = ""
    connections: int = 0
    sent_away: int = 0
    leftover: int = 0
    overrun: int = 0
    window_s: float = 0.0
    took_s: float = 0.0
    highest_per_s: float = 0.0


StepKind = Literal["step", "noticing", "rollback", "clean_up", "failed"]


class StepRecord(Struct, frozen=True):
    """What a wave is in a deploy by weights, and who held how many connections: at the end of a step, or at the
    beginning of a removal.

    `what`: `step`, `noticing` (the weights are back, and some gateways do not know it yet), `rollback` (all know it,
    and nobody is removed yet), `clean_up` (the old tasks are removed) or `failed` (the new ones are). `weight` is the
    new revision's. `deployment_calls_per_s`: questions to ECS by all. `gateways`: the old ones, if they
    follow the weights.
    """

    what: StepKind
    weight: float
    on_old: int
    on_new: int
    deployment_calls_per_s: float = 0.0
    gateways: int = 0


class Waved(Struct, frozen=True, tag="wave", tag_field="line", omit_defaults=True):
    """A wave of a deploy, recorded when it is over. `began_ms`: its old tasks were told to go.

    `connections` is how many they held then, `window_s` (simulated) is how long their drains were to take,
    `plan_peak_per_s` the highest second that they predicted; None: they could not be asked. `calls_per_s` counts the
    polls of the load balancer by all gateways in a simulated second, `drains` are those of the old and new gateways.
    """

    time_ms: int
    number: int
    began_ms: int
    speed: float
    window_s: float
    connections: int | None = None
    plan_peak_per_s: float | None = None
    calls_per_s: float = 0.0
    drains: list[GatewayDrain] = []
    step: StepRecord | None = None


RunRecord = Begin | Told | ProcessReading | KernelReading | Happened | Judged | Commanded | Waved

encode = msgspec.json.Encoder().encode
_decode: Callable[[Payload], RunRecord] = decoder(RunRecord)  # type: ignore[arg-type]


def read(lines: Iterable[bytes]) -> Iterator[RunRecord]:
    """The records of a file. A broken last line, which a crash leaves, is left out; any other raises ValueError."""
    broken: msgspec.DecodeError | None = None
    for number, text in enumerate(lines, 1):
        if broken is not None:
            raise ValueError(f"line {number - 1}: {broken}") from broken
        if not text.strip():
            continue
        try:
            yield _decode(text)
        except msgspec.DecodeError as error:
            broken = error


def merge(files: Iterable[Iterable[RunRecord]]) -> Iterator[RunRecord]:
    """The records of several files in the order of time, provided that each file is nearly in order."""
    return heapq.merge(*files, key=lambda line: line.time_ms)
