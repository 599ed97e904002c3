"""A storm: runs come in steadily while processes of the fleet, its database and its broker are killed, stopped and
started again every few seconds. A ledger that the jobs write says what was really done.

`make test` has a short one, `make soak` 500 runs in five minutes.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.acceptance.test_workflows import ON
from tests.support.postgres import Postgres
from tests.support.program import Program, eventually
from tests.support.redis_server import RedisServer, redis_binary
from tests.support.workflow_fleet import Caller, Fleet, Ledger, history, persistent

ITEMS = 2
MANAGERS, REBALANCERS = 3, 2
PAUSE_S = (2.0, 4.0)
SEED = int(os.environ.get("HEIWA_STORM_SEED") or random.SystemRandom().randrange(10**6))


class Storm:
    """`runs` in `seconds`. What happens to whom is drawn from a seed; when exactly is up to the machine."""

    def __init__(self, path: Path, stack: ExitStack, runs: int, seconds: float) -> None:
        self.chance = random.Random(SEED)
        self.stack = stack
        self.wanted, self.seconds = runs, seconds
        self.server = Postgres()
        self.server.start()
        stack.callback(self.server.forget)
        self.redis = RedisServer(redis_binary(), path)
        self.redis.start()
        stack.callback(self.redis.kill)
        settings = (f"broker.url={self.redis.url}", "workflows.lease_s=6")
        self.fleet = Fleet(path, self.server.url(), stack, *settings)
        key = path / "key"
        key.write_text(os.urandom(32).hex())
        key.chmod(0o600)
        self.key = f"auth.secret_file={key}"
        self.gateway = self._start("gateway")
        self.managers = [self._start("manager") for _ in range(MANAGERS)]
        self.rebalancers = [self._start("rebalancer") for _ in range(REBALANCERS)]
        self.stopped: list[tuple[float, Program]] = []
        self.ledger = Ledger(path / "ledger")
        self.caller = Caller(self.gateway)
        self.caller.call("PUT", "/api/v1/definitions", self.ledger.definition("storm", ITEMS))
        self.runs: list[str] = []
        self.done: Counter[str] = Counter()

    def _start(self, roles: str) -> Program:
        made = self.fleet.start(roles, self.key)
        made.key_folder = made.folder.parent
        return made

    # What happens

    def kill_manager(self) -> None:
        self._replace(self.managers, "manager")

    def kill_rebalancer(self) -> None:
        self._replace(self.rebalancers, "rebalancer")

    def _replace(self, group: list[Program], roles: str) -> None:
        at = self.chance.randrange(len(group))
        if any(one is group[at] for _, one in self.stopped):
            return
        group[at].kill()
        group[at] = self._start(roles)

    def stop_one(self) -> None:
        one = self.chance.choice([*self.managers, *self.rebalancers])
        if not any(other is one for _, other in self.stopped):
            one.process.send_signal(signal.SIGSTOP)
            self.stopped.append((time.monotonic() + self.chance.choice([1, 5, 12]), one))

    def kill_gateway(self) -> None:
        self.gateway.kill()
        self.gateway = self._start("gateway")
        self.caller = Caller(self.gateway)

    def restart_manager(self) -> None:
        """Calmly, as a deploy does."""
        at = self.chance.randrange(len(self.managers))
        if not any(one is self.managers[at] for _, one in self.stopped):
            assert self.managers[at].terminate() == 0
            self.managers[at] = self._start("manager")

    def kill_database(self) -> None:
        self.server.stop("immediate")
        self.server.start()

    def kill_broker(self) -> None:
        self.redis.kill()
        self.redis.start()

    def _wake(self, everyone: bool = False) -> None:
        for until_s, one in list(self.stopped):
            if everyone or time.monotonic() > until_s:
                one.process.send_signal(signal.SIGCONT)
                self.stopped.remove((until_s, one))

    def blow(self) -> None:
        happenings: list[tuple[Callable[[], None], int]] = [
            (self.kill_manager, 6),
            (self.kill_rebalancer, 3),
            (self.stop_one, 4),
            (self.kill_gateway, 2),
            (self.restart_manager, 2),
            (self.kill_database, 1),
            (self.kill_broker, 1),
        ]
        began_s = time.monotonic()
        next_s = began_s
        while (now_s := time.monotonic()) < began_s + self.seconds:
            self._begin_until(round(self.wanted * (now_s - began_s) / self.seconds))
            self._wake()
            if now_s >= next_s:
                what = self.chance.choices([one for one, _ in happenings], [weight for _, weight in happenings])[0]
                self.done[what.__name__] += 1
                what()
                next_s = time.monotonic() + self.chance.uniform(*PAUSE_S)
            signal.sigtimedwait([], 0.05)
        self._wake(everyone=True)
        self._begin_until(self.wanted)

    def _begin_until(self, count: int) -> None:
        while len(self.runs) < count:
            number = len(self.runs)
            flaky = "true" if self.chance.random() < 0.3 else "false"
            body = json.dumps({"definition": "storm", "input": {"flaky": flaky}})
            # The same key, for nobody knows whether the answer was lost or the request.
            asked = partial(self.caller.call, "POST", "/api/v1/workflows", body, Idempotency_Key=f"storm-{number}")
            self.runs.append(str(persistent(asked)["run"]["id"]))


@pytest.mark.parametrize(
    ("runs", "seconds"),
    [
        pytest.param(25, 15.0, marks=pytest.mark.timeout(300)),
        pytest.param(500, 300.0, marks=[pytest.mark.soak, pytest.mark.timeout(1200)]),
    ],
)
def test_every_job_is_done_once_in_a_storm(tmp_path: Path, runs: int, seconds: float) -> None:
    with ExitStack() as stack:
        storm = Storm(tmp_path, stack, runs, seconds)
        storm.blow()
        calm_s = time.monotonic()
        left = set(storm.runs)

        def over() -> bool:
            left.difference_update([run for run in left if persistent(partial(storm.caller.status, run)) == "ok"])
            return not left

        eventually(over, 180, f"not all runs ended (seed {SEED}): {left}")
        took_s = time.monotonic() - calm_s
        assert len(set(storm.runs)) == runs
        lines = storm.ledger.judge(storm.runs, ITEMS)
        for run in storm.runs:
            assert history(storm.caller, run)[-1]["data"]["kind"] == "run_ok"
        listed = {run for (run,) in _pages(storm.caller)}
        assert listed == set(storm.runs), "a key began two runs"
        lost = lines["begin"] - lines["end"] - lines["fail"]
        print(
            f"seed {SEED}: {runs} runs, {dict(storm.done)}, ledger {dict(lines)}, without an end {lost}, "
            f"over {took_s:.0f} s behind the last kill"
        )
        assert lost == 0


def _is_ok(caller: Caller, run: str) -> bool:
    return caller.status(run) == "ok"


def _pages(caller: Caller) -> list[tuple[str]]:
    found: list[tuple[str]] = []
    cursor = ""
    while True:
        page = caller.call("GET", f"/api/v1/workflows?limit=100{cursor}")
        found += [(str(one["id"]),) for one in page["runs"]]
        if page["next"] is None:
            return found
        cursor = f"&cursor={page['next']}"


@pytest.mark.parametrize("kills", [4, pytest.param(40, marks=[pytest.mark.soak, pytest.mark.timeout(900)])])
def test_every_job_is_done_once_although_the_only_server_is_killed_again_and_again(tmp_path: Path, kills: int) -> None:
    """On SQLite: one process holds the file."""
    chance, ledger = random.Random(SEED), Ledger(tmp_path / "ledger")
    runs: list[str] = []
    for life in range(kills + 1):
        with Program(tmp_path / "data", *ON) as program:
            caller = Caller(program)
            if not life:
                caller.call("PUT", "/api/v1/definitions", ledger.definition("storm", ITEMS))
            for _ in range(3):
                runs.append(caller.run("storm", flaky=chance.choice(["true", "false"])))
            if life < kills:
                signal.sigtimedwait([], chance.uniform(0.01, 1.5))
                program.kill()
                continue
            for run in runs:
                eventually(partial(_is_ok, caller, run), 60, f"{run} did not end (seed {SEED})")
            for run in runs:
                assert history(caller, run)[-1]["data"]["kind"] == "run_ok"
    lines = ledger.judge(runs, ITEMS)
    print(f"seed {SEED}: {len(runs)} runs, {kills} kills, ledger {dict(lines)}")
    assert lines["begin"] == lines["end"] + lines["fail"]
