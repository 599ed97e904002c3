"""Which layer each module of the package belongs to: the first pattern that fits. Folders are by part, not by layer.

Core decides and does nothing else; ports are what services need; services own loops and connections; adapters speak to
foreign systems; app puts all together.
"""

from __future__ import annotations

from enum import StrEnum
from fnmatch import fnmatchcase


class Layer(StrEnum):
    CORE = "core"
    PORTS = "ports"
    SERVICES = "services"
    ADAPTERS = "adapters"
    APP = "app"


def _words(text: str, prefix: str = "") -> frozenset[str]:
    return frozenset(f"{prefix}{word}" for word in text.split())


def _in(part: str, names: str, layer: Layer) -> list[tuple[str, Layer]]:
    return [(f"gateway.{part}{name}", layer) for name in names.split()]


TABLE: list[tuple[str, Layer]] = [
    *_in(
        "",
        "decoding errors json_schema rate rotation settings.device_classes settings.model settings.workflows waiting",
        Layer.CORE,
    ),
    *_in(
        "",
        "clock gate channels.ports drain.ports history.ports identity.ports locations.ports recording.ports",
        Layer.PORTS,
    ),
    *_in("channels.", "fanout_ports latest_ports log_ports", Layer.PORTS),
    *_in("telemetry.", "log", Layer.PORTS),
    *_in("telemetry.", "names", Layer.CORE),
    *_in("telemetry.", "*", Layer.SERVICES),
    *_in("", "settings.load adapters.* job", Layer.ADAPTERS),
    *_in("", "__main__ app.* cli.* identity.minting", Layer.APP),
    *_in("wire.", "listener socket_end", Layer.SERVICES),
    *_in("wire.", "*", Layer.CORE),
    *_in("identity.", "identity jwk key_freshness token", Layer.CORE),
    *_in("identity.", "*", Layer.SERVICES),
    *_in("connections.", "admission heartbeat info lifetime outbox table timing_wheel", Layer.CORE),
    *_in("connections.", "*", Layer.SERVICES),
    *_in("channels.", "channel commands device_state directory envelopes refusal slots subscribers", Layer.CORE),
    *_in("channels.", "*", Layer.SERVICES),
    *_in("protocol.", "session", Layer.SERVICES),
    *_in("protocol.", "*", Layer.CORE),
    *_in(
        "locations.",
        "batch buffer bulk_delivery bulk_outcome cells congestion cover document event fleet_time geo latest narrowing "
        "outcome packing polygons query recent redriving retention settlement stream_outcome",
        Layer.CORE,
    ),
    *_in("locations.", "*", Layer.SERVICES),
    *_in(
        "drain.",
        "curve deployment figures guard health leaving outlook pacer plan polling receipt signals standing states "
        "strategy_plan weights window",
        Layer.CORE,
    ),
    *_in("drain.", "*", Layer.SERVICES),
    *_in(
        "workflows.",
        "adopting advance allowed balance checks definition drawing expression fields figures fleet folding hearing "
        "job_access json_source live lock_watch loop_time names nodes records retry run schedule schema shown "
        "source spec states step tail turn values work",
        Layer.CORE,
    ),
    *_in("workflows.", "cloud_ports ports", Layer.PORTS),
    *_in("workflows.", "*", Layer.SERVICES),
    *_in("history.", "record why", Layer.CORE),
    *_in("history.", "*", Layer.SERVICES),
    *_in("recording.", "format", Layer.CORE),
    *_in("recording.", "*", Layer.SERVICES),
    *_in("api.", "asyncapi geojson http_rates openapi operation parameters records workflow_records", Layer.CORE),
    *_in("api.", "*", Layer.SERVICES),
    *_in("device.", "answering gpx gpx_encoding latency messages outbox plan reconnect track walk", Layer.CORE),
    *_in("device.", "*", Layer.SERVICES),
    *_in("watching.", "messages view", Layer.CORE),
    *_in("watching.", "watcher", Layer.SERVICES),
]

MAY_IMPORT: dict[Layer, set[Layer]] = {
    Layer.CORE: {Layer.CORE},
    Layer.PORTS: {Layer.CORE, Layer.PORTS},
    Layer.SERVICES: {Layer.CORE, Layer.PORTS, Layer.SERVICES},
    Layer.ADAPTERS: {Layer.CORE, Layer.PORTS, Layer.ADAPTERS},
    Layer.APP: set(Layer),
}

# What decides needs no loop, clock, environment, log or file: time and randomness come in as arguments.
NOT_IN_CORE = _words(
    "asyncio concurrent fcntl io logging multiprocessing os pathlib queue resource secrets select selectors shutil "
    "signal socket sqlite3 ssl subprocess sys tempfile threading time urllib"
)
FOREIGN_IN_CORE = frozenset({"msgspec"})
SANS_IO = _words(
    "datastructures exceptions extensions extensions.permessage_deflate frames headers http11 protocol server speedups "
    "typing",
    "websockets.",
)


def part_of(module: str) -> str:
    """The part that a module is in: its folder below the package (a foreign system's, of adapters), or the file itself.

    `gateway.wire.frames` → `gateway.wire`; `gateway.adapters.sqlite.day` → `gateway.adapters.sqlite`.
    """
    names = module.split(".")
    return ".".join(names[:-1]) if len(names) > 2 else module


def layer_of(module: str) -> Layer | None:
    """The layer of a module such as `gateway.identity.token`; None when the table does not know it."""
    return next((layer for pattern, layer in TABLE if fnmatchcase(module, pattern)), None)
