"""A definition as it is written: its fields, their bounds and defaults. The published JSON Schema is made from this."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from msgspec import UNSET, Meta, Struct, UnsetType

from gateway.workflows.expression import MAX_TEXT_CHARS, NAME

MAX_NODES = 1_000
MAX_NEEDS = 100
MAX_ITEMS = 10_000
MAX_PARALLEL = 1_000
MAX_DURATION_S = 31 * 86_400.0

# To Python "$" also stands in front of a last newline; to JSON Schema it does not.
_END = r"$(?!\n)"
_NAME = f"^{NAME}{_END}"
_VARIABLE = f"^[A-Za-z_][A-Za-z0-9_]*{_END}"
_HEADER = f"^[A-Za-z0-9-]+{_END}"
# What the patterns allow, for people.
IN_WORDS = {
    _NAME: "letters, digits, _ and -, not beginning with a digit or -",
    _VARIABLE: "letters, digits and _, not beginning with a digit",
    _HEADER: "letters, digits and -",
}
Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
OnError = Literal["fail", "skip", "continue"]
Missed = Literal["skip", "latest", "all"]
CHOICES = {"method": get_args(Method), "on_error": get_args(OnError), "missed": get_args(Missed)}
Name = Annotated[str, Meta(pattern=_NAME, max_length=64)]
Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_CHARS)]
Expression = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_CHARS)]
Seconds = Annotated[float, Meta(gt=0, le=MAX_DURATION_S)]
Wait = Annotated[float, Meta(ge=0, le=MAX_DURATION_S)]


class Process(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A program on the manager's machine. The last line that it writes, if it is a JSON object, is its result."""

    command: Annotated[list[Text], Meta(min_length=1, max_length=1_000)]
    environment: dict[Annotated[str, Meta(pattern=_VARIABLE)], Text] = {}


class Http(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A request; the answer's JSON object is its result.

    `callback`: the service is told where it may say later how it ended, and answers 202 if it will. Bound the wait by
    the node's `timeout_s`.
    """

    url: Text
    method: Method = "POST"
    headers: dict[Annotated[str, Meta(pattern=_HEADER)], Text] = {}
    body: Any = None
    callback: bool = False


class Device(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A command to a device of the run's account; what the device answers is its result.

    `idempotent`: it may be sent again when nobody knows whether it was carried out.
    """

    id: Text
    command: Annotated[str, Meta(min_length=1, max_length=128)]
    args: Any = None
    idempotent: bool = False


class Batch(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A job of AWS Batch."""

    queue: Text
    job_definition: Text
    parameters: dict[str, Text] = {}


class Ecs(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A task of Amazon ECS. `container` is the one that does the work; empty: that with the definition's name."""

    task_definition: Text
    cluster: Text = "default"
    container: Annotated[str, Meta(max_length=255)] = ""
    command: list[Text] = []


class Run(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """Exactly one of these."""

    process: Process | UnsetType = UNSET
    http: Http | UnsetType = UNSET
    device: Device | UnsetType = UNSET
    batch: Batch | UnsetType = UNSET
    ecs: Ecs | UnsetType = UNSET


class Retry(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Attempt n+1 begins `wait_s` × `backoff`^(n-1) after attempt n failed, `max_wait_s` at most."""

    max_attempts: Annotated[int, Meta(ge=1, le=1_000)] = 3
    wait_s: Wait = 10.0
    backoff: Annotated[float, Meta(ge=1, le=100)] = 2.0
    max_wait_s: Wait = 900.0


class ForEach(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"name": "as"}):
    """The node once for each item of a list; `as` is what an item is called in its expressions."""

    items: Expression | Annotated[list[Any], Meta(max_length=MAX_ITEMS)]
    name: Name = "item"
    max_parallel: Annotated[int, Meta(ge=1, le=MAX_PARALLEL)] = 10


class Repeat(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The node again and again, until a condition on its own result holds."""

    until: Expression
    max_iterations: Annotated[int, Meta(ge=1, le=MAX_ITEMS)] = 100
    wait_s: Wait = 0.0


class Nested(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A run of another definition, the newest of that name when it begins; its output is the result."""

    name: Name
    input: dict[str, Any] = {}


class Node(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Exactly one of `run` and `workflow`; at most one of `for_each` and `repeat`.

    `timeout_s` bounds each attempt, `deadline_s` the node with all its attempts. `on_error`: `fail` ends the run,
    `continue` lets the rest go on and the run fail at its end, `skip` forgives.
    """

    run: Run | UnsetType = UNSET
    workflow: Nested | UnsetType = UNSET
    needs: Annotated[list[Name], Meta(max_length=MAX_NEEDS)] = []
    when: Expression | None = None
    for_each: ForEach | None = None
    repeat: Repeat | None = None
    retry: Retry = Retry(max_attempts=1)
    timeout_s: Seconds | None = None
    deadline_s: Seconds | None = None
    on_error: OnError = "fail"


class Schedule(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When runs begin by themselves: five fields of cron in a time zone.

    `missed` says what becomes of times at which no manager was up: `skip` them, run the `latest` one, or `all` of them.
    """

    cron: Text
    time_zone: Text = "UTC"
    missed: Missed = "latest"
    input: dict[str, Any] = {}


class Spec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole definition. `output` is what the run leaves behind; `deadline_s` bounds it."""

    name: Name
    nodes: Annotated[dict[Name, Node], Meta(min_length=1, max_length=MAX_NODES)]
    description: Annotated[str, Meta(max_length=1_000)] = ""
    deadline_s: Seconds | None = None
    schedule: Schedule | None = None
    output: dict[str, Any] = {}
