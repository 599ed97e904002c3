"""Workflows of the real program: killed in the middle, stopped calmly, and what a tenant may not do."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import Postgres
from tests.support.program import Program, eventually, http_problem, receive, send

# As ourselves, so that jobs can reach what these tests are made of; what others may do has a test of its own.
ON = ("workflows.runners=process,device", f"workflows.process_user={pwd.getpwuid(os.geteuid()).pw_name}")


def ledger_definition(ledger: Path, items: int) -> str:
    """Each job writes its node, item and attempt into a file outside, once when it begins and once at its end."""
    line = 'echo "$HEIWA_NODE $HEIWA_ITERATION {} $HEIWA_ATTEMPT" >> "$LEDGER"'
    script = f"{line.format('begin')}; sleep 0.5; {line.format('end')}; echo '{{\"n\": 1}}'"
    work = {"process": {"command": ["sh", "-c", script], "environment": {"LEDGER": str(ledger)}}}
    nodes = {
        "first": {"run": work},
        "each": {"needs": ["first"], "run": work, "for_each": {"items": list(range(items)), "max_parallel": 3}},
        "last": {"needs": ["each"], "run": work},
    }
    return json.dumps({"name": "ledger", "nodes": nodes, "output": {"ok": "${each.ok}"}})


class Caller:
    """The operations listener, as a client of one account."""

    def __init__(self, program: Program, scope: str = "admin", account: str = "default") -> None:
        self.program = program
        self.scope = scope
        self.account = account

    def call(self, method: str, path: str, body: str | None = None, **headers: str) -> Any:
        request = urllib.request.Request(self.program.operations + path, method=method)
        request.data = None if body is None else body.encode()
        request.add_header("Authorization", f"Bearer {self.program.token('t', self.scope, self.account)}")
        request.add_header("Content-Type", headers.pop("kind", "application/json"))
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.loads(answer.read())

    def refused(self, method: str, path: str, body: str | None = None) -> dict[str, Any]:
        with pytest.raises(urllib.error.HTTPError) as caught:
            self.call(method, path, body)
        return http_problem(caught.value)

    def run(self, name: str, **given: Any) -> str:
        body = json.dumps({"definition": name, "input": given})
        return str(self.call("POST", "/api/v1/workflows", body)["run"]["id"])

    def status(self, run: str) -> str:
        return str(self.call("GET", f"/api/v1/workflows/{run}")["run"]["status"])


def heiwa(program: Program, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """A command of the command line, as the operator of this gateway."""
    given = ["--url", program.operations, "--set", f"data.folder={program.folder}"]
    command = [sys.executable, "-m", "gateway", "workflow", *arguments, *given]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def test_a_killed_server_goes_on_where_it_was(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    with Program(tmp_path / "data", *ON) as first:
        caller = Caller(first)
        caller.call("PUT", "/api/v1/definitions", ledger_definition(ledger, 7))
        run = caller.run("ledger")
        watching = heiwa(first, "watch", run, "--json")
        eventually(lambda: ledger.read_text().count("each") >= 3, what="no item has begun")
        port = first.operations.rpartition(":")[2]
        first.kill()
    with Program(tmp_path / "data", *ON, f"listen.operations=127.0.0.1:{port}") as second:
        out, err = watching.communicate(timeout=60)
        assert watching.returncode == 0, err
        assert Caller(second).status(run) == "ok"
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["offset"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["data"]["kind"] == "run_ok"
    assert "going on behind" in err
    done = Counter(tuple(line.split()[:3]) for line in ledger.read_text().splitlines())
    names = [("first", "0"), *(("each", str(number)) for number in range(7)), ("last", "0")]
    assert done == {(*name, what): 1 for name in names for what in ("begin", "end")}


def test_a_calm_stop_leaves_jobs_at_work_to_the_next_start(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    with Program(tmp_path / "data", *ON) as first:
        Caller(first).call("PUT", "/api/v1/definitions", ledger_definition(ledger, 3))
        run = Caller(first).run("ledger")
        eventually(lambda: ledger.read_text().count("each") >= 1, what="no item has begun")
        assert first.terminate() == 0
    with Program(tmp_path / "data", *ON) as second:
        eventually(lambda: Caller(second).status(run) == "ok", what="it did not go on")
    assert Counter(line.split()[2] for line in ledger.read_text().splitlines()) == {"begin": 5, "end": 5}


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Program(tmp_path_factory.mktemp("workflows") / "data", *ON) as running:
        yield running


def put(program: Program, definition: dict[str, Any], scope: str = "admin", account: str = "default") -> Any:
    return Caller(program, scope, account).call("PUT", "/api/v1/definitions", json.dumps(definition))


def process(*command: str, **more: Any) -> dict[str, Any]:
    return {"run": {"process": {"command": list(command), **more}}}


def ended(program: Program, nodes: dict[str, Any], name: str, **given: Any) -> dict[str, Any]:
    """The run of a definition, once it is over."""
    put(program, {"name": name, "nodes": nodes})
    caller = Caller(program)
    run = caller.run(name, **given)
    eventually(lambda: caller.status(run) in ("ok", "failed"), what="the run did not end")
    found: dict[str, Any] = caller.call("GET", f"/api/v1/workflows/{run}")
    return found


def test_a_tenant_cannot_put_a_process(program: Program) -> None:
    definition = json.dumps({"name": "evil", "nodes": {"a": process("cat", str(program.folder / "key"))}})
    problem = Caller(program, "workflow:write").refused("PUT", "/api/v1/definitions", definition)
    assert problem["status"] == 422
    assert "scope admin" in problem["errors"][0]["problem"]
    assert (problem["errors"][0]["line"], problem["errors"][0]["field"]) == (1, "nodes.a.run.process")


def test_a_runner_that_is_off_is_refused_with_its_place(program: Program) -> None:
    work = {"run": {"http": {"url": "http://169.254.170.2/v2/credentials"}}}
    problem = Caller(program).refused("PUT", "/api/v1/definitions", json.dumps({"name": "x", "nodes": {"a": work}}))
    assert "the runner http is off here; on are device, process" in problem["detail"]


def test_a_path_in_the_script_of_a_shell_is_refused(program: Program) -> None:
    definition = {"name": "evil", "nodes": {"a": process("sh", "-c", "echo ${input.name}")}}
    problem = Caller(program).refused("PUT", "/api/v1/definitions", json.dumps(definition))
    assert "run as code" in problem["detail"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run jobs as another user")
def test_a_process_reads_neither_the_key_nor_the_store(tmp_path: Path) -> None:
    with Program(tmp_path / "data", "workflows.runners=process") as program:
        for name in ("key", "workflows.db", "lock"):
            found = ended(program, {"a": process("cat", str(program.folder / name))}, f"cat-{name.partition('.')[0]}")
            assert found["run"]["status"] == "failed"
            assert "Permission denied" in found["run"]["error"]
        found = ended(program, {"a": process("sh", "-c", 'echo "{\\"uid\\": $(id -u)}"')}, "who")
        assert found["nodes"][0]["value"]["uid"] == pwd.getpwnam("nobody").pw_uid


def test_a_process_sees_nothing_of_our_environment(program: Program) -> None:
    script = "import json, os; print(json.dumps(dict(os.environ)))"
    found = ended(
        program, {"a": process(sys.executable, "-I", "-c", script, environment={"X": "${input.x}"})}, "env", x="$(id)"
    )
    value = found["nodes"][0]["value"]
    assert value.pop("X") == "$(id)"
    of_shells = {"PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE"}
    assert {name for name in value if not name.startswith("HEIWA_")} - of_shells == {"PATH", "LANG"}


def test_a_process_that_takes_too_much_memory_fails_alone(program: Program) -> None:
    found = ended(program, {"a": process(sys.executable, "-I", "-c", "x = bytearray(3 << 30)")}, "hungry")
    assert "MemoryError" in found["run"]["error"]


def test_the_end_of_endless_output_is_kept(program: Program) -> None:
    script = "import sys\nfor n in range(300000): print('x' * 50)\nprint('{\"last\": true}')"
    found = ended(program, {"a": process(sys.executable, "-I", "-c", script)}, "talker")
    assert found["nodes"][0]["value"] == {"last": True}


def test_a_cancelled_run_kills_the_whole_group(program: Program, tmp_path: Path) -> None:
    script = f"trap '' TERM; (sleep 600 & echo $! > {tmp_path}/child; wait) & sleep 600"
    put(
        program,
        {"name": "stubborn", "nodes": {"a": process("sh", "-c", script), "b": {**process("true"), "needs": ["a"]}}},
    )
    caller = Caller(program)
    run = caller.run("stubborn")
    eventually(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip() != "")
    child = Path(f"/proc/{(tmp_path / 'child').read_text().strip()}")
    assert child.exists()
    caller.call("POST", f"/api/v1/workflows/{run}/cancel", '{"why": "enough"}')
    eventually(lambda: caller.status(run) == "cancelled", 40, "the run was not cancelled")
    eventually(lambda: not child.exists(), what="a process of its group lives on")
    assert [node["node"] for node in caller.call("GET", f"/api/v1/workflows/{run}")["nodes"]] == ["a"]


def test_another_account_sees_nothing(program: Program) -> None:
    put(program, {"name": "mine", "nodes": {"a": process("true")}})
    run = Caller(program).run("mine")
    other = Caller(program, "admin", "umbrella")
    for method, path in (
        ("GET", f"/api/v1/workflows/{run}"),
        ("GET", f"/api/v1/workflows/{run}/events"),
        ("POST", f"/api/v1/workflows/{run}/cancel"),
        ("POST", f"/api/v1/workflows/{run}/resume"),
        ("GET", "/api/v1/definitions/mine"),
    ):
        assert other.refused(method, path)["status"] == 404
    assert other.refused("POST", "/api/v1/workflows", '{"definition": "mine"}')["status"] == 404
    assert other.call("GET", "/api/v1/workflows")["runs"] == []


def test_the_same_key_is_the_same_run(program: Program) -> None:
    put(program, {"name": "once", "nodes": {"a": process("true")}})
    caller = Caller(program)
    body = json.dumps({"definition": "once", "input": {"n": 1}})
    runs = {caller.call("POST", "/api/v1/workflows", body, Idempotency_Key="k1")["run"]["id"] for _ in range(3)}
    assert len(runs) == 1
    with pytest.raises(urllib.error.HTTPError) as caught:
        caller.call("POST", "/api/v1/workflows", body.replace("1", "2"), Idempotency_Key="k1")
    assert http_problem(caught.value)["status"] == 422


def test_a_workflow_that_begins_itself_is_bounded_and_leaves_others_alone(tmp_path: Path) -> None:
    wait = {"run": {"device": {"id": "none", "command": "x"}}, "retry": {"max_attempts": 2, "wait_s": 600}}
    again = {"workflow": {"name": "bomb"}, "for_each": {"items": list(range(50)), "max_parallel": 50}}
    live = "SELECT count(*) FROM run WHERE account = 'default' AND ended_ms IS NULL"
    counts: list[int] = []

    def counted() -> int:
        with contextlib.closing(sqlite3.connect(tmp_path / "data" / "workflows.db")) as store:
            counts.append(store.execute(live).fetchone()[0])
        return counts[-1]

    with Program(tmp_path / "data", *ON, "workflows.live_runs=300") as program:
        for nodes in ({"wait": wait}, {"wait": wait, "again": {**again, "on_error": "skip"}}):
            put(program, {"name": "bomb", "nodes": nodes})
        put(program, {"name": "calm", "nodes": {"a": process("true")}}, account="umbrella")
        other = Caller(program, account="umbrella")
        first = Caller(program).run("bomb")
        eventually(lambda: counted() == 300, what="as many begin as may")
        problem = Caller(program).refused("POST", "/api/v1/workflows", '{"definition": "bomb"}')
        assert (problem["status"], "workflows.live_runs" in problem["detail"]) == (429, True)
        calm = other.run("calm")
        eventually(lambda: other.status(calm) == "ok", what="the other account's run waits")
        Caller(program).call("POST", f"/api/v1/workflows/{first}/cancel", "{}")
        eventually(lambda: counted() == 0, what="a cancel does not end all of them")
    assert max(counts) == 300


def test_a_failed_run_is_resumed_from_the_command_line(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "definition.yaml"
    flag = tmp_path / "flag"
    file.write_text(f"name: again\nnodes:\n  a: {{run: {{process: {{command: [test, -e, {flag}]}}}}}}\n")
    done = heiwa(program, "put", str(file)).communicate(timeout=30)
    assert done[0] == "again version 1: 1 nodes\n", done[1]
    watching = heiwa(program, "run", "again", "--watch")
    out, _ = watching.communicate(timeout=30)
    assert watching.returncode == 1
    assert "exit code 1" in out
    run = json.loads(heiwa(program, "list", "--json", "--limit", "1").communicate(timeout=30)[0])["runs"][0]["id"]
    flag.touch()
    resuming = heiwa(program, "resume", run, "--watch")
    out, err = resuming.communicate(timeout=30)
    assert resuming.returncode == 0, err
    assert "the run is resumed" in out
    assert "ok" in heiwa(program, "show", run).communicate(timeout=30)[0]


def test_mistakes_are_told_as_editors_read_them(program: Program, tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text("name: bad\nnodes:\n  a: {run: {device: {id: d, command: c}}, needs: [b]}\n")
    putting = heiwa(program, "put", str(file))
    _, err = putting.communicate(timeout=30)
    assert putting.returncode == 1
    assert f"{file}:3:51: nodes.a.needs[0]: there is no node 'b'" in err


def test_a_subscriber_goes_on_from_its_offset_over_a_restart(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    told: list[dict[str, Any]] = []
    with Program(tmp_path / "data", *ON) as first:
        Caller(first).call("PUT", "/api/v1/definitions", ledger_definition(ledger, 3))
        run = Caller(first).run("ledger")
        with first.connect("watcher", scope="progress:read location:read") as connection:
            send(connection, {"type": "subscribe", "channel": f"workflow:{run}"})
            begun = receive(connection, "subscribed")
            assert begun["snapshot"]["run"]["id"] == run
            offset = begun["offset"]
            while not any(event["data"].get("node") == "each" for event in told):
                told.append(receive(connection, "event"))
            first.kill()
    with Program(tmp_path / "data", *ON) as second:
        with second.connect("watcher", scope="progress:read location:read") as connection:
            send(connection, {"type": "subscribe", "channel": f"workflow:{run}", "after": told[-1]["offset"]})
            assert receive(connection, "subscribed")["offset"] == told[-1]["offset"]
            while told[-1]["data"]["kind"] != "run_ok":
                told.append(receive(connection, "event", 30))
        with second.connect("other", scope="progress:read location:read", account="umbrella") as connection:
            send(connection, {"type": "subscribe", "channel": f"workflow:{run}"})
            assert receive(connection, "error")["code"] == "not_found"
    assert [event["offset"] for event in told] == list(range(offset + 1, offset + 1 + len(told)))


def test_a_manager_that_was_killed_is_taken_over_for(tmp_path: Path, postgres: Postgres) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    shared = (*ON, f"workflows.store_url={postgres.url()}", "workflows.lease_s=3")
    with Program(tmp_path / "a", *shared) as first, Program(tmp_path / "b", *shared) as second:
        Caller(first).call("PUT", "/api/v1/definitions", ledger_definition(ledger, 8))
        run = Caller(first).run("ledger")
        eventually(lambda: ledger.read_text().count("each") >= 3, what="no item has begun")
        first.kill()
        killed_s = time.monotonic()
        lines = ledger.read_text().count("end")
        eventually(lambda: ledger.read_text().count("end") > lines + 3, what="nobody has taken over")
        assert time.monotonic() - killed_s < 10
        eventually(lambda: Caller(second).status(run) == "ok", what="it did not end")
        events = Caller(second).call("GET", f"/api/v1/workflows/{run}/events?limit=1000")["events"]
    assert [event["offset"] for event in events] == list(range(1, len(events) + 1))
    done = Counter(tuple(line.split()[:3]) for line in ledger.read_text().splitlines())
    assert set(done.values()) == {1}
    assert len(done) == 20


def test_a_manager_that_wakes_up_finds_its_runs_with_another(tmp_path: Path, postgres: Postgres) -> None:
    ledger = tmp_path / "ledger"
    ledger.touch()
    shared = (*ON, f"workflows.store_url={postgres.url()}", "workflows.lease_s=2")
    with Program(tmp_path / "a", *shared) as first, Program(tmp_path / "b", *shared) as second:
        Caller(first).call("PUT", "/api/v1/definitions", ledger_definition(ledger, 6))
        run = Caller(first).run("ledger")
        eventually(lambda: ledger.read_text().count("each") >= 2, what="no item has begun")
        first.process.send_signal(signal.SIGSTOP)
        eventually(lambda: Caller(second).status(run) == "ok", what="nobody has taken over")
        first.process.send_signal(signal.SIGCONT)
        again = Caller(first).run("ledger")
        eventually(lambda: Caller(second).status(again) == "ok", what="it manages nothing any more")
        assert first.terminate() == 0
    assert any(event["event"] == "workflow_lease_lost" for event in first.events())
    done = Counter(line for line in ledger.read_text().splitlines())
    assert set(done.values()) == {1}
    assert len(done) == 32
