"""What all tests have in common."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from loadtest.opensearch.node import Node
from tests.support.opensearch import started
from tests.support.postgres import Postgres

# A loaded machine is no defect: what hangs is ended by the timeout of the test. A failure prints how to repeat it.
settings.register_profile("heiwa", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("heiwa")

# A program inherits what is ignored, and respects it: with `nohup`, or in the background of a script, none would stop.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)


@pytest.fixture(scope="session")
def opensearch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """A node that all tests of a process share; each uses names of its own and changes nothing of the cluster."""
    node = Node(tmp_path_factory.mktemp("opensearch"))
    node.set("cluster.max_shards_per_node", "5000")
    yield started(node)
    node.forget()


def _running() -> Iterator[Postgres]:
    server = Postgres()
    server.start()
    yield server
    server.forget()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server that all tests of a process share; each uses a database of its own."""
    yield from _running()


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[Postgres]:
    """A server that the tests of one file may stop, freeze and kill."""
    yield from _running()
