"""What signals do before there is an event loop: those that ask for an end are remembered, the others ignored.

By default most signals end a process at once. Importing the gateway takes longer than a supervisor may wait, and
nothing that a service manager or a terminal sends may ever cut connections without a drain.
"""

from __future__ import annotations

import signal
from types import FrameType

ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
# A terminal and its shell both send SIGHUP when they close, and service managers add one to SIGTERM.
HURRYING = (signal.SIGTERM, signal.SIGINT)
DRAINING = signal.SIGUSR1
_MEANINGLESS = (signal.SIGUSR2, signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF, signal.SIGIO, signal.SIGPWR)
_received: list[int] = []


def prepare() -> None:
    """Call this first in a process that will serve."""
    for number in (DRAINING, *_MEANINGLESS):
        signal.signal(number, signal.SIG_IGN)
    for number in ENDING:
        if heeded(number):
            signal.signal(number, _remember)


def unblock() -> None:
    """Let in what a supervisor held back until there was a handler for it.

    The kernel drops a signal to process 1 of a container that has no handler for it, but never a blocked one
    (kernel/signal.c, sig_ignored): the image starts this program with the ending signals blocked.
    """
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


def heeded(number: int) -> bool:
    """Whether it is for us: `nohup` and shells start programs with SIGHUP, SIGINT or SIGQUIT ignored."""
    return signal.getsignal(number) is not signal.SIG_IGN


def received() -> list[int]:
    """The signals that asked for an end so far."""
    return _received


def _remember(number: int, _: FrameType | None) -> None:
    _received.append(number)
