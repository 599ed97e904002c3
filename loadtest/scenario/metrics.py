"""The figures of a run: their names, units and meaning. Thresholds use these names."""

from __future__ import annotations

from typing import NamedTuple


class Figure(NamedTuple):
    unit: str
    meaning: str


FIGURES: dict[str, Figure] = {
    "devices": Figure("", "Devices of the fleet."),
    "connected": Figure("", "Maximum number of connections in the last 5 s of the measured time."),
    "connected_min": Figure("", "Minimum number of connections in a second of the measured time."),
    "connected_max": Figure("", "Maximum number of connections in a second."),
    "connects": Figure("", "Successful handshakes."),
    "connect_peak_per_s": Figure(
        "/s", "Maximum number of connects in a second; in a deploy in a simulated second of its waves."
    ),
    "connect_even_per_s": Figure(
        "/s", "Deploy: connections of a wave divided by its window, simulated; the highest wave."
    ),
    "connect_peak_ratio": Figure("", "Deploy: highest simulated second divided by the even rate; the worst wave."),
    "connect_peak_limit_ratio": Figure(
        "",
        "Deploy: highest simulated second divided by its limit: 1.3 times the even rate (below 40/s: more).",
    ),
    "plan_peak_ratio": Figure(
        "", "Deploy: highest simulated second divided by the planned one; the wave farthest from 1."
    ),
    "plan_peak_limit_ratio": Figure(
        "", "Deploy: its distance from the planned one divided by a fifth of that (below 40/s: by chance more)."
    ),
    "balancer_calls_per_s": Figure("/s", "Deploy: polls by all gateways a simulated second; the busiest wave."),
    "canary_devices": Figure("", "Deploy by weights: connections of the new revision at the end of the first step."),
    "canary_hops": Figure("", "Deploy by weights: connections lost in the steps below half, divided by the devices."),
    "hops": Figure("", "Deploy by weights: connections lost in all of it, divided by the devices."),
    "clean_up_ratio": Figure("", "Deploy by weights: what the clean-up of the old tasks found of all connections."),
    "rollback_late_ratio": Figure(
        "", "Deploy by weights: connections lost after the weights went back, until all gateways knew it, of all."
    ),
    "rollback_moved_ratio": Figure("", "Deploy by weights: connections lost in the minute after that, of all."),
    "deployment_calls_per_s": Figure(
        "/s", "Deploy by weights: questions about it by all gateways a simulated second; the busiest step."
    ),
    "reconnect_peak_per_s": Figure("/s", "Maximum number of connects in a second of the measured time."),
    "recovered_s": Figure("s", "From an action of the scenario to as many connections as before it; the longest."),
    "refused": Figure("", "Handshakes that were refused or never answered."),
    "given_up": Figure("", "Devices that stopped for good, as their client model does."),
    "closed": Figure("", "Connections that ended, for any reason."),
    "unexpected_close": Figure("", "Connections that ended although neither the device nor a goaway asked for that."),
    "abnormal_close": Figure("", "Closes 1006 that devices did not cause, of device classes that take close frames."),
    "goaways": Figure("", "Goaways: requests to reconnect elsewhere."),
    "sent": Figure("", "Events that were due on devices."),
    "acked": Figure("", "Events acknowledged."),
    "nacked": Figure("", "Events refused for good."),
    "in_flight": Figure("", "Events that were sent but not answered when the run ended."),
    "waiting": Figure("", "Events that still waited on devices when the run ended."),
    "resent": Figure("", "Repetitions of events that got no answer."),
    "dropped": Figure("", "Events that devices lost because their store was full."),
    "unaccounted": Figure("", "sent minus acked, nacked, in flight, waiting and dropped: must be 0."),
    "lost": Figure("", "Acknowledged events in no gateway's store, and events that a device dropped."),
    "doubled": Figure("", "Events stored more than once in the index of one gateway."),
    "copies": Figure("", "Events in the index of more than one gateway; in a shared index they are one document."),
    "ack_p50_ms": Figure("ms", "Median latency from the intended time of an event to its ack."),
    "ack_p99_ms": Figure("ms", "99th percentile of the latency from the intended time of an event to its ack."),
    "ack_p999_ms": Figure("ms", "99.9th percentile of the latency from the intended time of an event to its ack."),
    "ack_max_ms": Figure("ms", "Maximum latency from the intended time of an event to its ack."),
    "healthy_ack_p50_ms": Figure("ms", "Median ack latency without slow readers and half-open devices."),
    "healthy_ack_p99_ms": Figure("ms", "99th percentile of it without slow readers and half-open devices."),
    "healthy_ack_max_ms": Figure("ms", "Maximum of it without slow readers and half-open devices."),
    "command_sent": Figure("", "Commands that were due from device to device."),
    "command_results": Figure("", "Commands that their senders got a result of."),
    "command_refused": Figure("", "Commands that were refused: the device was away, or busy."),
    "command_timed_out": Figure("", "Commands without a result by the deadline, or whose device left before it."),
    "command_cut": Figure("", "Commands whose sender lost its connection before the answer."),
    "command_unanswered": Figure("", "Commands whose sender was told nothing: must be 0."),
    "command_failed_ratio": Figure("", "Refused and timed-out commands divided by all."),
    "command_far": Figure("", "Refused and timed-out commands whose device did not move within 2 s of them."),
    "carried_twice": Figure("", "Commands that a device carried out more than once."),
    "command_p50_ms": Figure("ms", "Median time from the intended moment of a command to its result."),
    "command_p99_ms": Figure("ms", "99th percentile of the time from a command to its result."),
    "command_max_ms": Figure("ms", "Maximum time from the intended moment of a command to its result."),
    "watch_snapshots": Figure("", "Subscriptions that began."),
    "watch_events": Figure("", "States that watchers were told."),
    "watch_stale": Figure("", "Watchers that had not seen the newest location when the run ended: must be 0."),
    "watch_p50_ms": Figure("ms", "Median time from the intended moment of a location to its watcher; no slow readers."),
    "watch_p99_ms": Figure("ms", "99th percentile of it."),
    "watch_max_ms": Figure("ms", "Maximum of it."),
    "connect_p50_ms": Figure("ms", "Median time from the intended moment of a connect to the end of its handshake."),
    "connect_p99_ms": Figure(
        "ms", "99th percentile of the time from the intended connect to the end of its handshake."
    ),
    "connect_max_ms": Figure("ms", "Maximum time from the intended connect to the end of its handshake."),
    "gap_p50_ms": Figure("ms", "Median gap from a lost connection to the next one."),
    "gap_p99_ms": Figure("ms", "99th percentile of the gap from a lost connection to the next one."),
    "gap_max_ms": Figure("ms", "Maximum gap from a lost connection to the next one."),
    "gap_p50_s": Figure("s", "Deploy: median gap, simulated."),
    "gap_p99_s": Figure("s", "Deploy: 99th percentile of the gaps, simulated."),
    "gateway_base_bytes": Figure("B", "Mean RSS of a gateway before the first connection."),
    "gateway_bytes_per_connection": Figure("B", "Growth of the gateways' RSS per connection."),
    "gateway_cpu_us_per_connection_s": Figure(
        "µs/s", "CPU of the gateways per connection and second of the measured time."
    ),
    "fleet_base_bytes": Figure("B", "Mean RSS of a fleet process before the first connection."),
    "fleet_bytes_per_connection": Figure("B", "Growth of the fleet's RSS per connection."),
    "fleet_cpu_us_per_connection_s": Figure("µs/s", "CPU of the fleet per connection and second of the measured time."),
    "kernel_bytes_per_connection": Figure(
        "B", "Growth of Linux's slab and TCP buffers per connection; of both ends when both are on this machine."
    ),
    "commands": Figure("", "Commands to lamps, each with its answer."),
    "commands_doubled": Figure("", "Commands that a lamp was sent more than once."),
    "commands_local_failed": Figure("", "Commands without a result, sent to the gateway that holds the lamp."),
    "commands_remote_failed": Figure(
        "", "Commands without a result, sent to another gateway while the broker was there, or 3 s after its return."
    ),
    "commands_refused_p99_ms": Figure(
        "ms", "99th percentile of the time to a refusal when the broker has been away for 3 s."
    ),
    "command_local_p50_ms": Figure("ms", "Median time from a command to its result, at the gateway of the lamp."),
    "command_local_p99_ms": Figure("ms", "99th percentile of it."),
    "command_remote_p50_ms": Figure("ms", "Median time from a command to its result, through another gateway."),
    "command_remote_p99_ms": Figure("ms", "99th percentile of it."),
    "broker_back_s": Figure("s", "From the return of the broker to the last command that failed; the longest."),
    "late_max_ms": Figure(
        "ms", "Longest delay of a fleet process's own tick: what it saw then, it saw that much too late."
    ),
    "stolen_max_s": Figure(
        "s", "Maximum processor time in a second that the hypervisor gave to other machines; N processors have N s."
    ),
    "processes_died": Figure("", "Fleet and gateway processes that ended by themselves or had to be killed."),
}
# Known only if stored events can be looked for.
FROM_STORES = ("lost", "doubled", "copies")

Values = dict[str, float | None]
