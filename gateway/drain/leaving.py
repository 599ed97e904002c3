"""One drain that is under way: who began it, and what has to be known of it at its end."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

from gateway.drain.pacer import Pacer
from gateway.drain.receipt import Tally


class Origin(StrEnum):
    """Who began a drain."""

    TARGET_HEALTH = "target_health"
    API = "api"
    SIGUSR1 = "sigusr1"
    SIGTERM = "sigterm"


@dataclass(slots=True)
class Leaving:
    """One drain from its beginning."""

    origin: Origin
    began_s: float
    began_ms: int
    window_s: float
    pacer: Pacer
    connections: int
    before: Counter[str]
    tally: Tally = field(default_factory=Tally)
    leftover: int = 0

    def passed_share(self, now_s: float) -> float:
        """How much of the window is over, 1 at its end."""
        whole_s = self.pacer.deadline_s - self.began_s
        return (now_s - self.began_s) / whole_s if whole_s > 0 else 1.0

    def shorten(self, deadline_s: float) -> None:
        """End no later than that."""
        if deadline_s < self.pacer.deadline_s:
            self.pacer.deadline_s = deadline_s
            self.window_s = deadline_s - self.began_s
