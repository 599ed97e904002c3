"""Managers, a rebalancer and a gateway as processes of their own, on one PostgreSQL."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from gateway.telemetry.emf import CHOSEN
from tests.acceptance.test_workflows import Caller, ledger_definition
from tests.support.cloudformation import Stack, read
from tests.support.postgres import Postgres
from tests.support.program import Program, eventually
from tests.support.redis_server import RedisServer, redis_binary
from tests.support.workflow_fleet import Fleet, runs_of
from tests.unit.ecs.stacks import ROOT


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "ledger"
    path.touch()
    return path


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def test_a_killed_manager_is_taken_over_for_within_three_seconds(
    tmp_path: Path, postgres: Postgres, ledger: Path, stack: ExitStack
) -> None:
    fleet = Fleet(tmp_path, postgres.url(), stack)
    gateway = fleet.start("gateway")
    rebalancer = fleet.start("rebalancer")
    managers = [fleet.start("manager") for _ in range(3)]
    assert gateway.public_port
    assert not managers[0].public_port
    with pytest.raises(urllib.error.HTTPError, match="404"):
        managers[0].get("/api/v1/workflows")
    eventually(lambda: rebalancer.metrics()["heiwa_rebalancer_managers"] == 3, what="not all are seen")
    caller = Caller(gateway)
    caller.call("PUT", "/api/v1/definitions", ledger_definition(ledger, 10))
    runs = [caller.run("ledger") for _ in range(6)]
    eventually(lambda: sum(runs_of(managers)) == 6, what="they were not begun")
    eventually(lambda: ledger.read_text().count("each") > 6, what="no item has begun")
    number = max(range(3), key=lambda at: runs_of(managers)[at])
    managers.pop(number).kill()
    killed_s = time.monotonic()
    eventually(lambda: sum(runs_of(managers)) == 6, what="nobody has taken over", within_s=10)
    took_s = time.monotonic() - killed_s
    eventually(lambda: all(caller.status(run) == "ok" for run in runs), 60, "they did not end")
    assert rebalancer.metrics()['heiwa_rebalancer_takeovers_total{cause="hint"}'] == 1
    print(f"took over in {took_s:.1f} s")
    assert took_s <= 3.5
    assert set(Counter(ledger.read_text().splitlines()).values()) == {1}
    assert managers[0].terminate() == 0
    assert rebalancer.terminate() == 0


def watched_of_managers() -> set[str]:
    """Metrics that the alarms of managers that are apart look at, as Prometheus calls them."""
    metrics = {choice.name: choice.metric for choice in CHOSEN}
    alarms = Stack(read(ROOT / "ecs/alarms.yaml"), ServiceStack="dogs", WorkflowStack="runs")
    role = {"Name": "role", "Value": "manager"}
    found = [one for one in alarms.of_type("AWS::CloudWatch::Alarm").values() if role in one["Dimensions"]]
    assert len(found) >= 6
    return {metrics[one["MetricName"]] for one in found}


def test_a_manager_tells_whether_it_reaches_the_gateways(tmp_path: Path, postgres: Postgres, stack: ExitStack) -> None:
    broker = RedisServer(redis_binary(), tmp_path)
    broker.start()
    stack.callback(broker.kill)
    settings = f"workflows.store_url={postgres.url()}", f"broker.url={broker.url}", "serve.roles=manager"
    manager = stack.enter_context(Program(tmp_path / "manager", *settings))
    eventually(lambda: manager.metrics()["heiwa_broker_up"] == 1)
    assert watched_of_managers() <= {name.partition("{")[0] for name in manager.metrics()}
    broker.kill()
    eventually(lambda: manager.metrics()["heiwa_broker_up"] == 0)


def test_managers_alone_need_a_store_that_others_reach(tmp_path: Path) -> None:
    for roles in ("manager", "rebalancer,manager"):
        command = [sys.executable, "-m", "gateway", "serve", "--roles", roles, "--set", f"data.folder={tmp_path}/d"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 2
        assert "set workflows.store_url to a PostgreSQL" in done.stderr
    command[-4:-2] = ["--roles", "manger"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert "'manger' is no role; known are gateway, manager, rebalancer" in done.stderr


# Two locks that vanish together are no hint.
BOTH = "kill -9 of a manager and the rebalancer"
WAITING = json.dumps(
    {
        "name": "waiting",
        "nodes": {
            "a": {
                "run": {"process": {"command": ["false"]}},
                "retry": {"max_attempts": 9, "wait_s": 3600, "max_wait_s": 3600},
            }
        },
    }
)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_take_over_times(tmp_path: Path, postgres: Postgres, stack: ExitStack) -> None:
    """With a lease of 30 s: at most 3 s after a `kill -9`, at most 35 s after a SIGSTOP; they are printed."""
    fleet = Fleet(tmp_path, postgres.url(), stack)
    gateway = fleet.start("gateway")
    rebalancers = [fleet.start("rebalancer") for _ in range(2)]
    managers = [fleet.start("manager") for _ in range(2)]
    caller = Caller(gateway)
    caller.call("PUT", "/api/v1/definitions", WAITING)
    count = 30
    runs = [caller.run("waiting") for _ in range(count)]
    eventually(lambda: sum(runs_of(managers)) == count, what="they were not begun")
    took: dict[str, list[float]] = {"kill -9": [], BOTH: [], "SIGSTOP": []}
    for how in [*["kill -9"] * 8, BOTH, "SIGSTOP"]:
        managers.append(fleet.start("manager"))
        eventually(lambda: sum(runs_of(managers)) == count, 60, "runs are missing")
        # A few looks, so that it is known.
        signal.sigtimedwait([], 7)
        eventually(lambda: runs_of(managers)[0] > 0 or runs_of(managers)[-1] > 0, 60, "they have nothing")
        victim = managers.pop(0)
        victim.process.send_signal(signal.SIGSTOP if how == "SIGSTOP" else signal.SIGKILL)
        if how == BOTH:
            leading = max(rebalancers, key=lambda one: one.metrics()["heiwa_rebalancer_leads"])
            leading.kill()
            rebalancers.remove(leading)
        began_s = time.monotonic()
        eventually(lambda: sum(runs_of(managers)) == count, 60, "nobody has taken over")
        took[how].append(round(time.monotonic() - began_s, 1))
        rebalancers += [fleet.start("rebalancer") for _ in range(2 - len(rebalancers))]
    print(took)
    assert len(runs) == count
    assert max(took["kill -9"]) <= 3.5
    assert max(took["SIGSTOP"] + took[BOTH]) <= 35
