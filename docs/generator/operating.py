"""Pages for those who run it: settings, metrics, command line, exit codes, log events."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import typer
from prometheus_client.metrics_core import Metric

from gateway import errors
from gateway.adapters.clock import SystemClock
from gateway.adapters.sqlite.index import SQLiteLocationIndex
from gateway.api.http_protocol import HttpMetrics
from gateway.api.http_rates import HttpRates
from gateway.channels.announcing import Announcer
from gateway.channels.courier import Courier
from gateway.channels.fanout import Fanout
from gateway.channels.local import LocalCourier
from gateway.channels.peer_metrics import PeerMetrics
from gateway.channels.peers import Peers
from gateway.cli.main import app
from gateway.connections.admission import admission
from gateway.connections.door import Door
from gateway.connections.housekeeping import Housekeeping
from gateway.connections.hub import Hub
from gateway.connections.metrics import ConnectionMetrics
from gateway.drain.drainer import Drainer
from gateway.drain.metrics import DrainMetrics
from gateway.drain.target_health import TargetHealthWatch
from gateway.history.recorder import Recorder
from gateway.identity.auth import Authenticator
from gateway.identity.key_freshness import Freshness
from gateway.identity.key_refresh import KeyRefresh
from gateway.identity.key_ring import KeyRing
from gateway.locations.pipeline import LocationPipeline
from gateway.protocol.channel_messages import ChannelMessages
from gateway.protocol.session import command_message
from gateway.settings.model import Settings
from gateway.telemetry import emf
from gateway.telemetry.lines import MAX_LINE_CHARS
from gateway.telemetry.output import Background
from gateway.workflows.figures import BalanceFigures, ManagerFigures
from gateway.workflows.metrics import WorkflowMetrics
from generator.markdown import Row, allowed, as_json, join, prose, table
from generator.source import log_events

ROOT = Path(__file__).resolve().parents[2]
HELP_COLUMNS = 88


def settings() -> str:
    _, kinds = msgspec.json.schema_components([Settings], ref_template="{name}")
    parts = [
        "# Settings",
        "Defaults, then `heiwa.toml`, then environment variables, then `--set`: later ones win. "
        "`heiwa serve --show-settings` prints each value with its origin. Unknown names, and values out of "
        "bounds, stop the start with exit code 2.",
        "A file has one table a section; paths are relative to the folder in which the program is started.",
    ]
    for section, reference in kinds["Settings"]["properties"].items():
        if section == "device_classes":
            parts.append(_device_classes(kinds["DeviceClass"]))
        elif section == "workflow_accounts":
            parts.append(_workflow_accounts(kinds["WorkflowAccount"]))
        else:
            rows = _settings_rows(section, kinds[reference["$ref"]])
            parts += [f"## {section}", table(("key", "default", "allowed", "what it is for", "environment"), rows)]
    return join(*parts)


def _settings_rows(section: str, kind: dict[str, Any]) -> Iterator[Row]:
    for key, field in kind["properties"].items():
        variable = f"`HEIWA_{section}__{key}`".upper()
        yield f"`{section}.{key}`", as_json(field["default"]), allowed(field), field.get("description", ""), variable


def _fields(kind: dict[str, Any]) -> list[Row]:
    return [
        (f"`{key}`", as_json(field["default"]), allowed(field), field["description"])
        for key, field in kind["properties"].items()
    ]


def _workflow_accounts(kind: dict[str, Any]) -> str:
    return join(
        "## workflow_accounts",
        "One table an account, `[workflow_accounts.NAME]`: what its nodes may use of AWS. An account without one may "
        "use nothing.",
        table(("key", "default", "allowed", "what it is for"), _fields(kind)),
        "Set one with `--set workflow_accounts.NAME.KEY=VALUE` or `HEIWA_WORKFLOW_ACCOUNTS__NAME__KEY` (names in small "
        "letters only).",
    )


def _device_classes(kind: dict[str, Any]) -> str:
    names = list(kind["properties"])
    presets = [
        (f"`{name}`", *(_differing(getattr(one, key), kind["properties"][key]["default"]) for key in names))
        for name, one in presets_of(Settings())
    ]
    return join(
        "## device_classes",
        "One table a class, `[device_classes.NAME]`, for the devices whose token has the claim `class` with that name, "
        "or whose token has no `class` and whose User-Agent begins as `user_agents` says. All others get the defaults.",
        table(("key", "default", "allowed", "what it is for"), _fields(kind)),
        "These classes exist already; what is set for them is changed, the rest stays. An empty place is the default.",
        table(("class", *names), presets),
        "Set one with `--set device_classes.NAME.KEY=VALUE` or `HEIWA_DEVICE_CLASSES__NAME__KEY`.",
    )


def _differing(value: object, default: object) -> str:
    return "" if value == default else f"`{value}`"


def presets_of(model: Settings) -> Iterator[tuple[str, Any]]:
    yield from model.device_classes.items()


def metrics() -> str:
    found = asyncio.run(families())
    rows = [(f"`{exposed(one)}`", one.type, _labels(one), one.documentation) for one in found]
    return join(
        "# Metrics",
        "`GET /metrics` on the operations listener, in the Prometheus text format or OpenMetrics 1.0.0. From this "
        "machine it needs no token (with `localhost` or a loopback address as `Host`), from elsewhere one with the "
        "scope `metrics:read`. No label ever holds a device or an account.",
        table(("metric", "type", "labels", "meaning"), rows),
        "## In CloudWatch",
        "With `telemetry.emf = true` a line a minute goes to the log, in the embedded metric format, from which "
        f"CloudWatch makes metrics in the namespace `{emf.NAMESPACE}`. They have the dimensions `service` and `role`; "
        "some also `revision`, of which a deploy has two. The role is `gateway`, or `manager` for a process that "
        "manages workflows and holds no devices. What is a counter above is here what was added in the minute; a last "
        "line at the stop has the rest. [ecs/alarms.yaml](../../ecs/alarms.yaml) has alarms and a dashboard made of "
        "them, [ecs/grafana.json](../../ecs/grafana.json) a dashboard for Prometheus.",
        table(("metric in CloudWatch", "unit", "by revision", "of"), map(_chosen, emf.CHOSEN)),
    )


def _chosen(choice: emf.Choice) -> Row:
    labels = ", ".join(f'{key}="{value}"' for key, value in choice.labels.items())
    of = f"`{choice.metric}{{{labels}}}`" if labels else f"`{choice.metric}`"
    return f"`{choice.name}`", choice.unit, "yes" if choice.by_revision else "", of


def known() -> list[str]:
    """All metrics of the program, as Prometheus names them."""
    return [exposed(one) for one in asyncio.run(families())]


async def families() -> list[Metric]:
    """What the collectors of a gateway yield; nothing is opened or started."""
    clock, model = SystemClock(), Settings()
    empty = cast(Any, SimpleNamespace(events=0, size_bytes=0))
    hub = Hub(model, clock, admission(model.connections, 1, 1, clock.monotonic_s()), Random(0))  # noqa: S311
    door = Door(hub, model, cast(Authenticator, None), {})
    pipeline = LocationPipeline(empty, empty, empty, clock, Random(0))  # noqa: S311
    drainer = Drainer(model.drain, door, clock, Random(0), empty)  # noqa: S311
    watch = TargetHealthWatch(empty, drainer, hub, Random(0), 1)  # noqa: S311
    watch.polled_s = 0.0
    return [
        *ConnectionMetrics(door, Housekeeping(hub, lambda: 0.0)).collect(),
        *HttpMetrics(HttpRates(0, 0, 0, 0)).collect(),
        *pipeline.collect(),
        *_courier(hub, clock).collect(),
        *Fanout((), ChannelMessages(), clock).collect(),
        *SQLiteLocationIndex(Path(), clock).collect(),
        *Recorder(hub.table, empty).collect(),
        *DrainMetrics(drainer, watch).collect(),
        *WorkflowMetrics(ManagerFigures(), BalanceFigures()).collect(),
        *_peers(hub).collect(),
        *KeyRefresh(_ring(clock), empty, empty, clock, Random(0)).collect(),  # noqa: S311
    ]


def _courier(hub: Hub, clock: SystemClock) -> Courier:
    local = LocalCourier(hub.registry, clock, hub.chance, 0, command_message)
    return Courier(local, None, hub.registry, hub.chance, cast(Any, None))


def _peers(hub: Hub) -> PeerMetrics:
    peers = Peers(cast(Any, SimpleNamespace(problem="")))
    return PeerMetrics(peers, Announcer(hub, peers, cast(Any, None)))


def _ring(clock: SystemClock) -> KeyRing:
    """A key ring that has read a set."""
    freshness = Freshness(1, clock.monotonic_s())
    freshness.stored(clock.monotonic_s(), 0)
    return KeyRing(freshness, clock)


def exposed(metric: Metric) -> str:
    return f"{metric.name}_total" if metric.type == "counter" else metric.name


def _labels(metric: Metric) -> str:
    names: Iterable[str] = getattr(metric, "_labelnames", ())
    return ", ".join(f"`{name}`" for name in names)


def command_line() -> str:
    group = cast(Any, typer.main.get_command(app))
    parent = _context(group, "heiwa", None)
    parts = ["# Command line", "`heiwa` and `python -m gateway` are the same.", _help(group, parent)]
    for name, command in group.commands.items():
        parts += _command(command, name, parent, "heiwa")
    return join(*parts)


def _command(command: Any, name: str, parent: Any, path: str) -> list[str]:
    context = _context(command, name, parent)
    parts = [f"## {path} {name}", _help(command, context)]
    for inner_name, inner in getattr(command, "commands", {}).items():
        parts += _command(inner, inner_name, context, f"{path} {name}")
    return parts


def _context(command: Any, name: str, parent: Any) -> Any:
    return command.context_class(
        command, parent, info_name=name, terminal_width=HELP_COLUMNS, **command.context_settings
    )


def _help(command: Any, context: Any) -> str:
    return f"```text\n{command.get_help(context).strip()}\n```"


def exit_codes() -> str:
    kinds = [one for one in vars(errors).values() if inspect.isclass(one) and issubclass(one, errors.HeiwaError)]
    rows = [(one.exit_code, f"`{one.__name__}`", prose(one.__doc__)) for one in kinds if one is not errors.HeiwaError]
    return join(
        "# Exit codes",
        table(
            ("code", "meaning"),
            [
                (0, "done"),
                (1, "failed"),
                (2, "a command, an option or a setting is wrong"),
                (3, "a server could not be reached"),
                (4, "a store was written by a newer version"),
            ],
        ),
        "A message on standard error says what was wrong, where it was set, and how to mend it.",
        "`heiwa check` ends with 1 when something is `wrong`; a `warning` does not count. `heiwa device` ends with 0 "
        "when every event was acknowledged, with 3 when no server answered, else with 1.",
        "Which error leads to which code:",
        table(("code", "error", "meaning"), sorted(rows, key=lambda row: (row[0], row[1]))),
    )


def log_page() -> str:
    named, plain = log_events(ROOT / "gateway")
    return join(
        "# Log events",
        "Logs go to standard error, one line an event: JSON, or text on a terminal (`log.format`). A JSON line has "
        "`time` (RFC 3339, UTC), `level`, `part`, `event`, and the fields named here. `exception` holds a traceback. "
        f"A line has at most {MAX_LINE_CHARS:,} characters, and what looks like a token is replaced with `[redacted]`.",
        f"Lines are dropped when {Background.MAX_LINES:,} wait to be written, and those of libraries above "
        f"{Background.FOREIGN_PER_S} a second. How many were is said in a line of its own: "
        '`{"event":"log_lines_dropped","lines":3}`.',
        table(
            ("event", "level", "part", "fields"),
            [
                (f"`{event}`", level, part, ", ".join(f"`{name}`" for name in fields))
                for event, level, part, fields in named
            ],
        ),
        "These are sentences; their `part` is the module:" if plain else "",
        table(("event", "level", "module"), plain) if plain else "",
    )
