"""Signals before there is an event loop: remembered, and let in where a supervisor held them back."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import os, signal
from gateway.app import early_signals
os.kill(os.getpid(), signal.SIGTERM)
early_signals.prepare()
before = list(early_signals.received())
early_signals.unblock()
print(before, early_signals.received())
"""


def test_a_signal_that_was_held_back_is_seen_when_there_is_a_handler() -> None:
    command = ["env", "--block-signal=TERM", sys.executable, "-c", SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "[] [15]\n", done.stderr
