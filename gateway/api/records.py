"""Bodies of the HTTP API that are no records of other parts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from gateway.connections.info import ConnectionInfo, DisconnectInfo
from gateway.history.record import PastConnection
from gateway.locations.event import LocationEvent
from gateway.protocol.messages import MAX_EVENTS

# RFC 6455, 5.5: a close frame holds 125 bytes, two of them the code; goaway and logs want a short one anyway.
MAX_REASON_LENGTH = 100


class ProblemBody(Struct, frozen=True, rename={"kind": "type"}):
    """RFC 9457. `errors` names each bad field, and where a text was sent its place; `scope` the one that the token
    lacks."""

    kind: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str | int]] | None = None
    scope: str | None = None
    checks: list[dict[str, Any]] | None = None


class Stored(Struct, frozen=True):
    """These events are durable: `indexed`, `firehose`, `spooled` or `dead_letter`."""

    ids: list[str]
    durability: str


class Refused(Struct, frozen=True, omit_defaults=True):
    """These events were not stored. Without `retry_after_ms` sending them again is useless."""

    ids: list[str]
    code: str
    message: str
    retry_after_ms: int | None = None


class LocationsBody(Struct, frozen=True):
    """What a device without a websocket sends; `type` may be left out."""

    events: Annotated[list[LocationEvent], Meta(min_length=1, max_length=MAX_EVENTS)]
    type: Literal["locations"] = "locations"


class LocationsAnswer(Struct, frozen=True):
    """Every id that was sent stands in exactly one of the two."""

    acks: list[Stored]
    nacks: list[Refused]


class DevicesPage(Struct, frozen=True):
    """Connected devices by id. `next` continues after them; null: there are no more.

    `incomplete` says why devices of other gateways are missing; null: none are.
    """

    devices: list[ConnectionInfo]
    next: str | None
    incomplete: str | None = None


class DeviceDetail(Struct, frozen=True):
    """`connection` null: not connected. `latest` is its newest position, with at least `time`, `lat` and `lon`;
    null: none known."""

    device: str
    connection: ConnectionInfo | None
    last_disconnect: DisconnectInfo | None
    latest: dict[str, Any] | None


class ConnectionsAnswer(Struct, frozen=True):
    """`why` is one paragraph for people: where the device is, and how its last connection ended.

    `connections` are its newest, the newest first; `incomplete` says why some of other gateways are missing; null: none
    are.
    """

    device: str
    why: str
    connections: list[PastConnection]
    incomplete: str | None = None


class DisconnectBody(Struct, frozen=True, forbid_unknown_fields=True):
    """How to end a connection: the close code of RFC 6455, 7.4, and a word for the logs."""

    code: Literal[1000, 1001, 1008, 1012, 1013] = 1001
    reason: Annotated[str, Meta(min_length=1, max_length=MAX_REASON_LENGTH, pattern="^[ -~]*$")] = "operator"


class DisconnectAnswer(Struct, frozen=True):
    """The close has begun; the device was told by `goaway`."""

    device: str
    code: int
    reason: str


class CommandBody(Struct, frozen=True, forbid_unknown_fields=True):
    """A command; what `name` and `args` mean is between the sender and the device.

    No result within `deadline_ms`: 504, and the device may have carried it out. `idempotent`: twice does no harm, so
    it is sent again when the connection ends before the result.
    """

    name: Annotated[str, Meta(min_length=1, max_length=128)]
    args: Any = None
    deadline_ms: Annotated[int, Meta(ge=1, le=60_000)] = 10_000
    idempotent: bool = False


class CommandAnswer(Struct, frozen=True):
    """The device carried it out; `value` is what it answered, null when it said nothing."""

    device: str
    name: str
    value: Any


class Health(Struct, frozen=True):
    """`checks` only with `?verbose`."""

    status: str
    checks: list[dict[str, Any]] | None = None


class DrainBody(Struct, frozen=True, forbid_unknown_fields=True):
    """`window_s`: over how long the closes are spread; null: as the settings say."""

    window_s: Annotated[float, Meta(ge=1, le=86_400)] | None = None
