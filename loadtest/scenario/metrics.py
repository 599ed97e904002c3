"""The figures a run ends with: their names, units and meaning. Thresholds are written with these names."""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    unit: str
    meaning: str


FIGURES: dict[str, Figure] = {
    "devices": Figure("", "Devices that the fleet was to have."),
    "connected": Figure("", "Connected when the measured time ended."),
    "connected_min": Figure("", "Fewest connected in a second of the measured time."),
    "connected_max": Figure("", "Most connected in a second."),
    "connects": Figure("", "Handshakes that succeeded."),
    "connect_peak_per_s": Figure(
        "/s", "Most connects in a second, of the whole run; of a deploy in a simulated second, of its waves."
    ),
    "connect_even_per_s": Figure(
        "/s", "Deploy: connections of a wave divided by its window, simulated; the highest wave."
    ),
    "connect_peak_ratio": Figure("", "Deploy: highest simulated second divided by the even rate; the worst wave."),
    "connect_peak_limit_ratio": Figure(
        "",
        "Deploy: highest simulated second divided by its limit: 1.3 times the even rate (below 40/s: by chance more).",
    ),
    "plan_peak_ratio": Figure(
        "", "Deploy: highest simulated second divided by the planned one; the wave farthest from 1."
    ),
    "plan_peak_limit_ratio": Figure(
        "", "Deploy: its distance from the planned one divided by a fifth of that (below 40/s: by chance more)."
    ),
    "balancer_calls_per_s": Figure("/s", "Deploy: polls by all gateways a simulated second; the busiest wave."),
    "reconnect_peak_per_s": Figure("/s", "Most connects in a second of the measured time."),
    "recovered_s": Figure("s", "From what the scenario did to as many connections as before; the longest."),
    "refused": Figure("", "Handshakes refused, or never answered."),
    "given_up": Figure("", "Devices that stopped for good, as their client model does."),
    "closed": Figure("", "Connections that ended, for any reason."),
    "unexpected_close": Figure("", "Connections that ended although neither the device nor a goaway asked for it."),
    "abnormal_close": Figure("", "1006 that devices saw without their doing, of classes that take close frames."),
    "goaways": Figure("", "Requests to reconnect elsewhere."),
    "sent": Figure("", "Events that devices wanted to send."),
    "acked": Figure("", "Events acknowledged."),
    "nacked": Figure("", "Events refused for good."),
    "in_flight": Figure("", "Events sent and not answered when the run ended."),
    "waiting": Figure("", "Events on devices, not yet sent, when the run ended."),
    "resent": Figure("", "Repetitions of events whose answer did not come."),
    "dropped": Figure("", "Events that devices lost because their memory was full."),
    "unaccounted": Figure("", "sent less acked, nacked, in flight, waiting and dropped: must be 0."),
    "lost": Figure("", "Acknowledged and in no gateway's index, or dropped by a device."),
    "doubled": Figure("", "Stored more than once in the index of one gateway."),
    "copies": Figure("", "Stored in more than one gateway's index; in a shared index they are one."),
    "ack_p50_ms": Figure("ms", "Half of all events were acknowledged after so long, from the intended time."),
    "ack_p99_ms": Figure("ms", "The same, 99 %."),
    "ack_p999_ms": Figure("ms", "The same, 99.9 %."),
    "ack_max_ms": Figure("ms", "The slowest acknowledgement."),
    "healthy_ack_p50_ms": Figure("ms", "The same without slow readers and half-open devices, half of all."),
    "healthy_ack_p99_ms": Figure("ms", "The same, 99 %."),
    "healthy_ack_max_ms": Figure("ms", "The slowest of these."),
    "connect_p50_ms": Figure("ms", "From when a connect was meant to be to `welcome`, half of all."),
    "connect_p99_ms": Figure("ms", "The same, 99 %."),
    "connect_max_ms": Figure("ms", "The slowest connect."),
    "gap_p50_ms": Figure("ms", "From a lost connection to the next one, half of all."),
    "gap_p99_ms": Figure("ms", "The same, 99 %."),
    "gap_max_ms": Figure("ms", "The longest gap."),
    "gap_p50_s": Figure("s", "Deploy: half of all gaps, simulated."),
    "gap_p99_s": Figure("s", "Deploy: 99 % of all gaps, simulated."),
    "gateway_base_bytes": Figure("B", "RSS of a gateway before the first connection, mean."),
    "gateway_bytes_per_connection": Figure("B", "Growth of the gateways' RSS, a connection."),
    "gateway_cpu_us_per_connection_s": Figure("µs/s", "CPU of the gateways in the measured time, a connection."),
    "fleet_base_bytes": Figure("B", "RSS of a fleet process before the first connection, mean."),
    "fleet_bytes_per_connection": Figure("B", "Growth of the fleet's RSS, a connection."),
    "fleet_cpu_us_per_connection_s": Figure("µs/s", "CPU of the fleet in the measured time, a connection."),
    "kernel_bytes_per_connection": Figure(
        "B", "Growth of the kernel's slab and TCP buffers, a connection; both ends when both are on this machine."
    ),
    "late_max_ms": Figure("ms", "Longest that a fleet process's own clock tick came late: what it saw then did, too."),
    "stolen_max_s": Figure(
        "s", "Most processor time within a second that the machine's hypervisor gave to others; of N processors, N s."
    ),
    "processes_died": Figure("", "Fleet and gateway processes that ended by themselves, or had to be killed."),
}
# Known only when the stored events can be looked into.
FROM_STORES = ("lost", "doubled", "copies")

Values = dict[str, float | None]
