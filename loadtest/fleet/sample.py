"""What one fleet process tells of one second, or of a part of it: the record that fleets write and recorders merge.

One JSON object a line. Counts are since the process started; histograms are of this second only. All moments are wall
clock, so that samples of several machines merge; the machines' clocks must be synchronised.
"""

from __future__ import annotations

import msgspec

# A simulated second counted since the Unix epoch, the connects in it, the lost connections in it.
Bin = tuple[int, int, int]


class ClientModelCounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """The devices of one client model. `abnormal` counts, since the start, the 1006 that no device made itself."""

    devices: int = 0
    connected: int = 0
    given_up: int = 0
    abnormal: int = 0


class FleetCounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """Devices and events at the end of a second. `closed` counts websockets that ended, by close code (1006: no close
    frame was seen); `unexpected` those of them that neither the device nor a goaway began. `refused` counts refused
    handshakes by HTTP status (0: no answer was seen).

    Events: sent = acked + nacked + in_flight + waiting (on the device: offline, or for a retry) + lost. Commands:
    command_sent = command_results + _refused + _timed_out + _cut + _unanswered + those under way.
    """

    connected: int = 0
    connecting: int = 0
    connects: int = 0
    closed: dict[str, int] = {}
    unexpected: int = 0
    refused: dict[str, int] = {}
    goaways: int = 0
    given_up: int = 0
    sent: int = 0
    acked: int = 0
    nacked: int = 0
    in_flight: int = 0
    waiting: int = 0
    lost: int = 0
    command_sent: int = 0
    command_results: int = 0
    command_refused: int = 0
    command_timed_out: int = 0
    command_cut: int = 0
    command_unanswered: int = 0
    command_far: int = 0
    carried_twice: int = 0
    watch_snapshots: int = 0
    watch_events: int = 0
    watch_stale: int = 0


class Sample(FleetCounts, frozen=True, omit_defaults=True, kw_only=True):
    """The counts of the fleet process `process`; `time_ms` is the end of the second, ms since the Unix epoch.

    Histograms are HdrHistogram's compressed base64 form, in µs: `ack` from the *intended* time of an event to its ack
    (of slow readers and half-open devices: `faulty_ack`), `connect` from the *intended* time of a connect to the end of
    its handshake (of a device that was refused: of the attempt that succeeded), `gap` from a lost connection to the
    next one, `command` from the intended moment of a command to its result, `watch` from that of a location to its
    watcher. `bins` are those of this second, which may reach into the ones before and after it. `late_ms` is the
    longest delay of the process's own tick: whatever it saw then, it saw that much too late.
    """

    process: str
    time_ms: int
    devices: int = 0
    resent: int = 0
    ack: str = ""
    faulty_ack: str = ""
    connect: str = ""
    gap: str = ""
    command: str = ""
    watch: str = ""
    bins: list[Bin] = []
    client_models: dict[str, ClientModelCounts] = {}
    cpu_s: float = 0.0
    rss_bytes: int = 0
    late_ms: int = 0


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Sample).decode
