"""What a process that holds many connections has to look after once a second: memory and the garbage collector."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable

from gateway.connections.hub import Hub

PERIOD_S = 1.0
# New objects between two young collections. Connections live for a day: looking at them often finds nothing.
_THRESHOLDS = (10_000, 20, 100)
_FREEZE_EVERY = 1000


def settle_collector() -> None:
    """After start: what is loaded now stays; a full collection must not walk it again."""
    gc.set_threshold(*_THRESHOLDS)
    gc.collect()
    gc.freeze()


class Housekeeping:
    """`used_share` tells the share of the memory limit in use; it may block and is called in a thread."""

    def __init__(self, hub: Hub, used_share: Callable[[], float]) -> None:
        self._hub = hub
        self._used_share = used_share
        self._blind = False
        self._frozen_at = 0
        self._pause_began_s = 0.0
        self.memory_share = 0.0
        self.gc_pauses_s = 0.0
        self.longest_gc_pause_s = 0.0

    def settle(self) -> None:
        """After start."""
        gc.callbacks.append(self._on_collection)
        settle_collector()

    async def run(self) -> None:
        """Look once a second until cancelled."""
        try:
            while True:
                await asyncio.sleep(PERIOD_S)
                await self.look()
        finally:
            if self._on_collection in gc.callbacks:
                gc.callbacks.remove(self._on_collection)

    async def look(self) -> None:
        """Look once. What cannot be seen keeps its last value: looking must never end what is looked at."""
        try:
            self.memory_share = await asyncio.to_thread(self._used_share)
        except Exception as error:
            if not self._blind:
                self._hub.log.warning("memory_unknown", error=str(error), share=round(self.memory_share, 3))
            self._blind = True
        else:
            if self._blind:
                self._hub.log.info("memory_known_again", share=round(self.memory_share, 3))
            self._blind = False
        self._watch_memory()
        self._freeze_growth()

    def _on_collection(self, phase: str, _: dict[str, int]) -> None:
        """The interpreter stands still between the two calls; how long is what a metric shows."""
        now_s = time.perf_counter()
        if phase == "start":
            self._pause_began_s = now_s
        else:
            pause_s = now_s - self._pause_began_s
            self.gc_pauses_s += pause_s
            self.longest_gc_pause_s = max(self.longest_gc_pause_s, pause_s)

    def _watch_memory(self) -> None:
        admission = self._hub.admission
        low = self.memory_share >= self._hub.settings.memory_watermark
        if low != admission.memory_low:
            self._hub.log.warning("memory_watermark", above=low, share=round(self.memory_share, 3))
        admission.memory_low = low

    def _freeze_growth(self) -> None:
        """A full collection at 15,000 connections takes 54 ms; of frozen ones, nothing."""
        grown = self._hub.opened - self._frozen_at
        if grown >= max(_FREEZE_EVERY, self._hub.admission.open // 8):
            self._frozen_at = self._hub.opened
            gc.collect()
            gc.freeze()
