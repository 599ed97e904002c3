"""The options of one fleet process: what they may be, and what is wrong with those that were given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NamedTuple
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta, Struct

from gateway.device import track_file
from gateway.device.gpx import Fix
from gateway.errors import SettingsError
from gateway.identity.token import MIN_SECRET_BYTES
from loadtest.fleet.spread import fraction
from loadtest.scenario.arrivals import Arrival
from loadtest.scenario.client_models import Fraction, fractions_problem
from loadtest.scenario.deploy import RoutingAlgorithm

MAX_S = 1e9
RECORDED = Path(__file__).parents[1] / "tracks"
# What is wrong with a device.
SLOW, HALF_OPEN = 1, 2
_CLIENT_MODEL_SALT, _TRAIT_SALT, _FAULT_SALT, _CHURN_SALT, _MUTE_SALT = range(11, 16)


class WebsocketTarget(NamedTuple):
    """Where to connect. `tls`: `wss`."""

    url: str
    host: str
    port: int
    path: str
    tls: bool

    @property
    def loopback(self) -> bool:
        return self.host.startswith("127.") or self.host == "localhost"


class FleetOptions(Struct, frozen=True, forbid_unknown_fields=True):
    """`devices` devices, named `prefix` and a number from `first` on; device i connects to `urls[i % n]`.

    That is `routing` fixed. As a load balancer does it: `round_robin`, one connect after the other to each in turn, or
    `least_outstanding`, to the one of which this process holds fewest connections; with no target a connect is refused
    with 503. With `speed` the devices' own waits are so many times shorter: simulated seconds in less real time.

    Tokens (HS256) are made from `secret`, or read from `token_command`: it gets the names of all devices on standard
    input, a line each, and writes a token a line. `sources` are local addresses to connect from (a number: so many
    from 127.0.0.2 on), used only for targets on loopback. `client_models`: fractions of the devices. `tracks`:
    "recorded", a folder or file, or a list of files; empty: synthetic walks. `run` begins every event id; empty: made
    from the time.

    With `replay` the devices are those of a recording from number `first` on: they come, send and go when they did,
    `speed` times as fast. `connect` is then for those that were connected when it began; `events` must be none.

    `slow_readers` stop reading once connected, `half_open` fall silent for `half_open_s`, once, at a moment drawn from
    `half_open_within_s` after their welcome. `connects_at_once` bounds the handshakes under way. With `churn_period_s`
    each device leaves and comes back that often. `max_in_flight` bounds the unanswered events of one device, `store`
    what it keeps beyond that. `start_at_ms`: not before this moment. `finish_s`: how long `stop` waits for acks.
    """

    urls: Annotated[list[str], Meta(min_length=1)]
    devices: Annotated[int, Meta(ge=1, le=1_000_000)]
    process: str = "fleet"
    first: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    prefix: Annotated[str, Meta(min_length=1, max_length=100)] = "device-"
    account: Annotated[str, Meta(min_length=1, max_length=128)] = "loadtest"
    scope: str = "location:write"
    secret: str = ""
    token_command: list[str] = []
    token_ttl_s: Annotated[float, Meta(gt=0, le=MAX_S)] = 7 * 86_400
    subprotocol: str = "heiwa.v1.json"
    tls_ca_file: str = ""
    sources: list[str] | Annotated[int, Meta(ge=0, le=10_000)] = 0
    client_models: dict[str, Fraction] = msgspec.field(default_factory=lambda: {"patient": 1.0})
    connect: Arrival = msgspec.field(default_factory=lambda: Arrival(rate_per_s=1000))
    events: Arrival = msgspec.field(default_factory=Arrival)
    tracks: str | list[str] = ""
    seed: int = 1
    run: Annotated[str, Meta(max_length=40, pattern=r"^[!-~]*$")] = ""
    start_at_ms: Annotated[int, Meta(ge=0, le=2**53)] = 0
    max_in_flight: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    store: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    slow_readers: Fraction = 0.0
    half_open: Fraction = 0.0
    half_open_s: Annotated[float, Meta(gt=0, le=MAX_S)] = 120.0
    half_open_within_s: tuple[Annotated[float, Meta(ge=0, le=MAX_S)], Annotated[float, Meta(ge=0, le=MAX_S)]] = (
        5.0,
        60.0,
    )
    churn_period_s: Annotated[float, Meta(ge=0, le=MAX_S)] = 0.0
    connects_at_once: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    connect_timeout_s: Annotated[float, Meta(gt=0, le=MAX_S)] = 30.0
    finish_s: Annotated[float, Meta(ge=0, le=MAX_S)] = 15.0
    acked_file: str = ""
    probe: bool = True
    routing: RoutingAlgorithm = "fixed"
    speed: Annotated[float, Meta(gt=0, le=1000)] = 1.0
    replay: str = ""

    @property
    def targets(self) -> list[WebsocketTarget]:
        return [target(url) for url in self.urls]

    @property
    def source_addresses(self) -> list[str]:
        if isinstance(self.sources, int):
            return [loopback(number) for number in range(self.sources)]
        return self.sources

    def name(self, slot: int) -> str:
        return f"{self.prefix}{self.first + slot}"

    def client_model(self, slot: int) -> int:
        """Which of `client_models` this device reconnects like: its index, drawn by the fractions."""
        left = fraction(self.seed, self.first + slot, _CLIENT_MODEL_SALT)
        for index, part in enumerate(self.client_models.values()):
            left -= part
            if left < 0:
                return index
        return len(self.client_models) - 1

    def trait(self, slot: int) -> float:
        """What this device's client draws once at its start (client_models.py)."""
        return fraction(self.seed, self.first + slot, _TRAIT_SALT)

    def faults(self, slot: int) -> int:
        """SLOW, HALF_OPEN or 0, drawn by the fractions."""
        drawn = fraction(self.seed, self.first + slot, _FAULT_SALT)
        if drawn < self.slow_readers:
            return SLOW
        return HALF_OPEN if drawn < self.slow_readers + self.half_open else 0

    def half_open_after_s(self, slot: int) -> float:
        """From its welcome to the silence of a half-open device."""
        least_s, most_s = self.half_open_within_s
        return least_s + (most_s - least_s) * fraction(self.seed, self.first + slot, _MUTE_SALT)

    def churn_after_s(self, slot: int) -> float:
        """Half to one and a half periods after the welcome, so that the devices do not leave together."""
        return self.churn_period_s * (0.5 + fraction(self.seed, self.first + slot, _CHURN_SALT))


def load(text: str | bytes) -> FleetOptions:
    """Read and check them. Raises SettingsError with the path of the field, what is wrong and what is allowed."""
    try:
        options = msgspec.json.decode(text, type=FleetOptions)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise SettingsError("options", str(error)) from error
    for arrival, events in ((options.connect, False), (options.events, True)):
        problem = arrival.problem(events)
        if problem:
            raise SettingsError("events" if events else "connect", problem)
    if problem := fractions_problem(options.client_models):
        raise SettingsError("client_models", problem)
    if bool(options.secret) == bool(options.token_command):
        raise SettingsError("secret", "give either secret (HS256) or token_command")
    if options.secret and len(options.secret.encode()) < MIN_SECRET_BYTES:
        raise SettingsError("secret", f"must have at least {MIN_SECRET_BYTES} bytes (RFC 7518, 3.2)")
    if options.slow_readers + options.half_open > 1:
        raise SettingsError("slow_readers", "slow_readers and half_open together are more than all devices")
    _ = options.targets
    return options


def target(url: str) -> WebsocketTarget:
    """Raises SettingsError for what is not `ws://host[:port]/path` or `wss://…`."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise SettingsError("urls", f"{url!r}: {error}") from error
    if parts.scheme not in ("ws", "wss") or not parts.hostname:
        raise SettingsError("urls", f"{url!r} is not ws://host:port/ws or wss://host/ws")
    tls = parts.scheme == "wss"
    path = (parts.path or "/ws") + (f"?{parts.query}" if parts.query else "")
    return WebsocketTarget(url, parts.hostname, port or (443 if tls else 80), path, tls)


def loopback(number: int) -> str:
    """An address of this machine to connect from: 127.0.0.2, … 127.0.1.2, …; 127.0.0.1 is for those who listen."""
    block, last = divmod(number, 250)
    return f"127.0.{block}.{2 + last}"


def track_paths(given: str | list[str]) -> list[Path]:
    """The GPX files that `tracks` means; none: synthetic walks. Raises SettingsError for a folder without any."""
    if isinstance(given, list):
        return [Path(name) for name in given]
    if not given:
        return []
    path = RECORDED if given == "recorded" else Path(given)
    paths = sorted(path.glob("*.gpx")) if path.is_dir() else [path]
    if not paths:
        raise SettingsError("tracks", f"there is no .gpx file in {path}")
    return paths


def tracks(given: str | list[str]) -> list[list[Fix]]:
    """The points of each GPX file; none: synthetic walks. Raises SettingsError naming the file."""
    return [track_file.read(path, "tracks").fixes for path in track_paths(given)]
