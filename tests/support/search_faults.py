"""How OpenSearch fails, and how that is mended: one table for all tests that break it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from tests.support.faulty_search import FaultyProxy
from tests.support.opensearch import ask, settings


class Broken(Protocol):
    """Where it is broken: on the node, or on the way to it."""

    node_url: str
    prefix: str
    proxy: FaultyProxy

    @property
    def index_name(self) -> str:
        """The index of today."""


Change = Callable[[Broken], object]
BREAKER = "network.breaker.inflight_requests.limit"


def index_setting(name: str, value: object) -> Change:
    return lambda broken: ask(f"{broken.node_url}/{broken.index_name}/_settings", "PUT", {name: value})


def cluster_setting(name: str, value: object) -> Change:
    return lambda broken: settings(broken.node_url, **{name: value})


def index_call(call: str) -> Change:
    return lambda broken: ask(f"{broken.node_url}/{broken.index_name}/{call}", "POST")


def mode(name: str) -> Change:
    return lambda broken: setattr(broken.proxy, "mode", name)


def drop(broken: Broken) -> None:
    """A final pipeline runs whatever a request says, and answers 200 for what it throws away."""
    processors: dict[str, object] = {"processors": [{"drop": {}}]}
    ask(f"{broken.node_url}/_ingest/pipeline/{broken.prefix}-drop", "PUT", processors)
    index_setting("index.final_pipeline", f"{broken.prefix}-drop")(broken)


class Fault(NamedTuple):
    """A line of the matrix: how it breaks and is mended, and what devices may be told besides `indexed`.
    `slow`: the fault is that the answer does not come in time."""

    name: str
    breaks: Change
    mends: Change
    told: frozenset[str]
    warm: bool = True
    slow: bool = False


def row(name: str, breaks: Change, mends: Change, told: str, *, warm: bool = True, slow: bool = False) -> Fault:
    return Fault(name, breaks, mends, frozenset(told.split()), warm, slow)


PASS = mode("")
ROWS = [
    row(
        "flood stage",
        index_setting("index.blocks.read_only_allow_delete", True),
        index_setting("index.blocks.read_only_allow_delete", None),
        "firehose",
    ),
    row("write block", index_setting("index.blocks.write", True), index_setting("index.blocks.write", None), "spooled"),
    row(
        "cluster block",
        cluster_setting("cluster.blocks.read_only_allow_delete", True),
        cluster_setting("cluster.blocks.read_only_allow_delete", None),
        "spooled",
    ),
    row("dropped by a pipeline", drop, index_setting("index.final_pipeline", "_none"), "spooled"),
    row("closed index", index_call("_close"), index_call("_open"), "spooled"),
    row("breaker, by size", cluster_setting(BREAKER, "20kb"), cluster_setting(BREAKER, None), ""),
    row(
        "maximum shards",
        cluster_setting("cluster.max_shards_per_node", 1),
        cluster_setting("cluster.max_shards_per_node", None),
        "spooled",
        warm=False,
    ),
    row("401", mode("401"), PASS, "spooled"),
    row("403", mode("403"), PASS, "spooled"),
    row("404", mode("404"), PASS, "spooled"),
    row("403 throttled", mode("403 throttled"), PASS, "firehose"),
    row("429", mode("429"), PASS, "firehose"),
    row("500", mode("500"), PASS, "firehose"),
    row("503", mode("503"), PASS, "firehose"),
    row("reset after sending", mode("reset"), PASS, "firehose"),
    row("half an answer", mode("cut"), PASS, "firehose"),
    row("fewer items", mode("fewer"), PASS, "firehose"),
    row("a page with 200", mode("html"), PASS, "firehose"),
    row("slow, 5 s", mode("slow"), PASS, "firehose", slow=True),
    row("no answer", mode("late"), PASS, "firehose", slow=True),
]
