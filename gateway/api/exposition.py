"""Metrics as text: which format a scraper asks for, and making it without holding up the event loop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from typing import cast

from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import CollectorRegistry

OPEN_METRICS = "application/openmetrics-text"
PLAIN_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_NO_WEIGHT = re.compile(r"0(\.0{0,3})?")


class _Collected:
    """What was collected already, in the shape that encoders want."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


async def exposition(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """The metrics and their media type, by the `Accept` header of a scraper; "" is any.

    Collecting takes the figures of one moment and happens on the loop, which owns them; the text is made in a thread.
    """
    wanted = wants_open_metrics(accept)
    encode = openmetrics.generate_latest if wanted else _plain_text
    media_type = openmetrics.CONTENT_TYPE_LATEST if wanted else PLAIN_TEXT
    collected = cast(CollectorRegistry, _Collected(registry.collect()))
    return await asyncio.to_thread(encode, collected), media_type


def _plain_text(collected: CollectorRegistry) -> bytes:
    # It loads HTTP servers of its own, and scrapers of today ask for the other format.
    from prometheus_client.exposition import generate_latest

    return generate_latest(collected)


def wants_open_metrics(accept: str) -> bool:
    """Whether OpenMetrics 1.0.0 is asked for. Whatever else is asked for, or cannot be read, gets the plain text."""
    for part in accept.split(","):
        kind, *parameters = (item.strip().lower() for item in part.split(";"))
        values = dict(item.partition("=")[::2] for item in parameters)
        weightless = _NO_WEIGHT.fullmatch(values.get("q", "1")) is not None
        if kind == OPEN_METRICS and values.get("version", "1.0.0") == "1.0.0" and not weightless:
            return True
    return False
