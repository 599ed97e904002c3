"""The task that reads an issuer's key set again and again, keeps the last one on disk, and counts."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client.metrics_core import Metric

from gateway.clock import Clock
from gateway.errors import HeiwaError
from gateway.identity.jwk import KeySet, read_key_set
from gateway.identity.ports import KeySetSource, KeySetStore
from gateway.telemetry.log import Log
from gateway.telemetry.metrics import counter, gauge

if TYPE_CHECKING:
    from gateway.identity.key_ring import KeyRing

SAVE_S = 10.0


class KeyRefresh:
    """`load` first, then `run` until cancelled. Nothing that goes wrong here ends the process."""

    def __init__(
        self, ring: KeyRing, source: KeySetSource, store: KeySetStore, clock: Clock, chance: random.Random
    ) -> None:
        self._ring = ring
        self._source = source
        self._store = store
        self._clock = clock
        self._chance = chance
        self._log = Log("auth")
        self._wake = asyncio.Event()
        self._failing = ""
        self._saving: asyncio.Task[None] | None = None
        self.errors = 0
        ring.on_unknown = self._unknown_key

    def readiness(self) -> tuple[str, bool, str]:
        """Name, whether it is well, and why not."""
        well = self._ring.ready()
        return "keys", well, "" if well else "the key set of auth.jwks_url could not be read"

    def load(self) -> None:
        """Take the set that an earlier process left, if it is young enough."""
        try:
            stored = self._store.load()
            if stored is None:
                return
            found = read_key_set(stored.body)
            age_s = (self._clock.time_ms() - stored.fetched_ms) / 1000
            if self._ring.freshness.stored(self._clock.monotonic_s(), age_s):
                self._take(found)
        except (HeiwaError, OSError) as error:
            self._log.warning("key_set_not_loaded", error=str(error))

    async def run(self) -> None:
        """Read the set whenever it is due."""
        while True:
            left_s = self._ring.freshness.due_s - self._clock.monotonic_s()
            if left_s > 0:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left_s):
                        await self._wake.wait()
            else:
                await self.refresh()

    async def refresh(self) -> None:
        """Ask once."""
        freshness = self._ring.freshness
        freshness.asked(self._clock.monotonic_s())
        try:
            body = await self._source.fetch()
            self._take(read_key_set(body))
        except Exception as error:
            self._failed(error)
            freshness.failed(self._clock.monotonic_s(), self._chance.random())
            return
        self._failing = ""
        freshness.succeeded(self._clock.monotonic_s(), self._chance.random())
        await self._keep(body)

    async def _keep(self, body: bytes) -> None:
        """For the next start. A disk that hangs holds up one thread, and no refresh."""
        if self._saving is not None and not self._saving.done():
            return
        self._saving = asyncio.create_task(
            asyncio.to_thread(self._store.save, body, self._clock.time_ms()), name="key set save"
        )
        saved, _ = await asyncio.wait([self._saving], timeout=SAVE_S)
        error = self._saving.exception() if saved else TimeoutError(f"the disk has not answered for {SAVE_S:g} s")
        if error is not None:
            self._log.warning("key_set_not_kept", error=str(error))

    def _take(self, found: KeySet) -> None:
        before = self._ring.names
        bad = self._ring.replace(found.keys)
        after = self._ring.names
        if before != after:
            left_out = {**found.left_out, **({"no key": bad} if bad else {})}
            self._log.info(
                "key_set_changed",
                keys=len(self._ring),
                added=len(after - before),
                gone=len(before - after),
                left_out=left_out,
            )

    def _failed(self, error: Exception) -> None:
        """Said once for each way in which it fails."""
        self.errors += 1
        told = str(error) if isinstance(error, HeiwaError) else repr(error)
        if told != self._failing:
            unforeseen = None if isinstance(error, HeiwaError) else error
            self._log.error("key_set_failed", exc_info=unforeseen, error=told)
        self._failing = told

    def _unknown_key(self) -> None:
        self._ring.freshness.unknown_key(self._clock.monotonic_s())
        self._wake.set()

    def collect(self) -> Iterator[Metric]:
        """What Prometheus sees."""
        ring = self._ring
        yield gauge("heiwa_jwks_keys", "Keys of auth.jwks_url that tokens are checked with.", len(ring))
        if ring.freshness.fetched_s is not None:
            age_s = self._clock.monotonic_s() - ring.freshness.fetched_s
            yield gauge("heiwa_jwks_age_seconds", "Seconds since the key set was read.", age_s)
        yield counter("heiwa_jwks_errors", "Times that the key set could not be read.", self.errors)
        yield counter("heiwa_jwks_unknown_keys", "Tokens that name a key which is not in the set.", ring.unknown)
