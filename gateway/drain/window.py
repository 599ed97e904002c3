"""How long a drain may take, by who asked for it. Pure; all times in seconds."""

from __future__ import annotations

from gateway.drain.states import Signal

# The target is gone already, or SIGTERM came in a drain: the balancer cuts what is left in about 8 s.
EMERGENCY_S = 5.0
# At SIGTERM there is time for one quick poll.
QUICK_S = 1.0
# SIGKILL follows the stop time-out; the stores need the rest.
BEFORE_KILL_S = 10.0
# Of the delay, a poll may be late by its period and its jitter.
_POLL_SHARE = 1.2
# No device is kept away for longer, whatever receivers there are.
_MAX_SPREAD_S = 120.0
_MIN_BOUND_PER_S = 1e-3
# Two hundred a second are no burden, and the one device of a laptop is gone in a second.
_CLOSES_PER_S = 200
_MIN_S = 1.0


def margin_s(setting_s: float, close_timeout_s: float) -> float:
    """M: from the last close to the end of the delay, so that closing handshakes finish before the balancer cuts."""
    return max(setting_s, 2 * close_timeout_s)


def longest_s(delay_s: float, margin_s: float, period_s: float) -> float:
    """D − M − 1.2 P: what is left of the deregistration delay when the poll that noticed it was as late as can be."""
    return max(EMERGENCY_S, delay_s - margin_s - _POLL_SHARE * period_s)


def window_s(setting_s: float, longest_s: float) -> float:
    """W: the setting, shortened to what fits; 0: all of it."""
    return min(setting_s, longest_s) if setting_s else longest_s


def deadline_s(
    signal: Signal, detected_s: float, registered_s: float, window_s: float, delay_s: float, margin_s: float
) -> float:
    """E for a drain by target health; moments on one monotonic clock.

    The delay began somewhere between the last poll that found the target registered (`registered_s`) and this one.
    Where the polls were late (or the delay is short) there is nothing left to spread over but the emergency's few
    seconds.
    """
    if signal is Signal.LOST:
        return detected_s + EMERGENCY_S
    return max(detected_s + EMERGENCY_S, min(registered_s + delay_s - margin_s, detected_s + window_s))


def spread_s(connections: int, window_s: float, bound_per_s: float) -> float:
    """How much later than they leave those come back who cannot be taken within the window (`bound_per_s`), at most.

    0 in a paced drain: the closes are even already, and so are the returns.
    """
    return min(max(0.0, connections / max(bound_per_s, _MIN_BOUND_PER_S) - window_s), _MAX_SPREAD_S)


def stop_window_s(connections: int, stop_timeout_s: float, registered: bool | None) -> float:
    """At SIGTERM. `registered`: whether the balancer still lists the target as good; None: there is no target group.

    Not registered, or not known: the remainder goes before the balancer cuts it. Registered (StopTask, Spot): the stop
    time-out less what the stores need. No balancer: fast, but paced.
    """
    longest_s = max(_MIN_S, stop_timeout_s - BEFORE_KILL_S)
    if registered is None:
        return min(longest_s, max(_MIN_S, connections / _CLOSES_PER_S))
    return longest_s if registered else min(longest_s, EMERGENCY_S)
