"""Jobs that speak for their attempts: of the real program, with the command and with the file that jobs copy."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import sys
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from gateway import job
from gateway.workflows.names import public_id
from gateway.workflows.run import Attempt
from loadtest.cloud.jobs_endpoint import JobsEndpoint
from loadtest.processes.ports import free_port
from tests.acceptance.test_workflows import Caller, ended, process, put
from tests.support.program import Program, eventually, http_problem

ON = (
    "workflows.runners=process,device",
    f"workflows.process_user={pwd.getpwuid(os.geteuid()).pw_name}",
    "listen.jobs=127.0.0.1:0",
)
FIRST = Attempt("a", 0, 1)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with Program(tmp_path_factory.mktemp("jobs") / "data", *ON) as running:
        yield running


def jobs_url(program: Program) -> str:
    ready = next(line for line in program.events() if line["event"] == "ready")
    return f"http://{ready['jobs'][0]}"


def post(url: str, body: Any = None, secret: str | None = None) -> Any:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    if secret is not None:
        request.add_header("Authorization", f"Bearer {secret}")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.loads(answer.read())


def refused(url: str, body: Any = None, secret: str | None = None) -> dict[str, Any]:
    with pytest.raises(urllib.error.HTTPError) as caught:
        post(url, body, secret)
    return http_problem(caught.value)


def heiwa(*arguments: str) -> str:
    return f"{sys.executable} -m gateway job {' '.join(arguments)}"


def test_a_job_says_how_far_it_is_and_how_it_ended(program: Program) -> None:
    script = f"{heiwa('start')} || exit 1; {heiwa('report', '--percent', '40', '--message', 'orders')}; sleep 1.5; "
    script += f"{heiwa('done')} '{{\"rows\": 12}}'; exit 7"
    found = ended(program, {"a": process("sh", "-c", script)}, "says")
    # What it said itself counts, not the code with which it ended later.
    assert [(node["status"], node["value"]) for node in found["nodes"]] == [("ok", {"rows": 12})]
    events = Caller(program).call("GET", f"/api/v1/workflows/{found['run']['id']}/events")["events"]
    told = [event["data"] for event in events if event["data"]["kind"] == "progress"]
    assert any(data.get("percent") == 40 and data.get("message") == "orders" for data in told)


def test_a_job_that_would_fail_again_is_not_tried_again(program: Program) -> None:
    script = f"{heiwa('fail', '--final')} 'no such table'"
    nodes = {"a": {**process("sh", "-c", script), "retry": {"max_attempts": 5, "wait_s": 0}}}
    found = ended(program, nodes, "final")
    assert [(node["status"], node["error"]) for node in found["nodes"]] == [("failed", "no such table")]


def test_a_result_that_cannot_be_kept_is_no_success(program: Program) -> None:
    script = heiwa("run", "--", "echo", "'{\"rows\": 1e400}'")
    nodes = {"a": {**process("sh", "-c", script), "retry": {"max_attempts": 5, "wait_s": 0}}}
    found = ended(program, nodes, "huge")
    assert [(node["status"], node["attempt"]) for node in found["nodes"]] == [("failed", 1)]
    assert "out of range" in found["nodes"][0]["error"]


def test_of_two_jobs_of_one_attempt_one_works_and_the_other_ends_well(program: Program, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    work = f"sh -c 'echo worked >> {ledger}; sleep 0.5'"
    # Both run under the attempt's name: each has a session of its own, as two submissions would.
    both = "; ".join(f"(setsid {heiwa('run', '--', work)}; echo $? >> {ledger}.codes) & " for _ in range(2))
    script = both.replace("& ;", "&") + " wait"
    found = ended(program, {"a": process("sh", "-c", script)}, "two")
    assert found["run"]["status"] == "ok"
    eventually(lambda: Path(f"{ledger}.codes").read_text().split() == ["0", "0"], what="one of them failed")
    assert ledger.read_text().split() == ["worked"]


def test_a_job_that_is_stopped_can_clean_up_and_says_how_it_ended(program: Program, tmp_path: Path) -> None:
    # As the first process of a container: only the one that has the name of the job is sent SIGTERM.
    swept = f'trap "echo swept > {tmp_path}/swept; exit 9" TERM'
    command = f"sh -c '{swept}; touch {tmp_path}/begun; while :; do sleep 0.1; done'"
    script = f"setsid {heiwa('run', '--', command)} & while [ ! -e {tmp_path}/begun ]; do sleep 0.05; done; "
    script += "kill -TERM $!; wait $!; sleep 60"
    found = ended(program, {"a": process("sh", "-c", script)}, "stopped")
    assert [(node["status"], node["error"]) for node in found["nodes"]] == [("failed", "exit code 9")]
    assert (tmp_path / "swept").read_text().split() == ["swept"]


def test_the_file_that_jobs_copy_needs_nothing_else(program: Program, tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(Path(job.__file__).read_text())
    script = "import job; a = job.Attempt.of_environment(); a.start() and a.done({'by': 'hand'})"
    work = process(sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {script}")
    found = ended(program, {"a": work}, "copied")
    assert [node["value"] for node in found["nodes"]] == [{"by": "hand"}]


def waiting(program: Program, name: str, account: str = "default") -> tuple[str, str]:
    """A run whose job waits, and the address of its attempt."""
    put(program, {"name": name, "nodes": {"a": process("sleep", "60")}}, account=account)
    caller = Caller(program, account=account)
    run = caller.run(name)
    eventually(
        lambda: "attempt_submitted" in str(caller.call("GET", f"/api/v1/workflows/{run}/events")), what="not begun"
    )
    return run, f"{jobs_url(program)}/api/v1/attempts/{public_id(run, FIRST)}"


def test_nobody_speaks_for_an_attempt_without_its_secret(program: Program) -> None:
    run, url = waiting(program, "guarded")
    token = program.token("t", "admin")
    for secret in (None, "", "0" * 64, "g" * 64, token, public_id(run, FIRST)):
        for verb, body in (("start", {"job": "evil"}), ("report", {"percent": 1}), ("finish", {"ok": True})):
            found = refused(f"{url}/{verb}", body, secret)
            assert found["status"] == 401
    # One that is not there answers the same.
    there = refused(f"{url}/start", {"job": "x"}, "0" * 64)
    missing = refused(f"{jobs_url(program)}/api/v1/attempts/{'0' * 32}/start", {"job": "x"}, "0" * 64)
    assert there == missing
    assert Caller(program).status(run) == "running"
    Caller(program).call("POST", f"/api/v1/workflows/{run}/cancel")


def test_a_secret_is_good_for_its_own_attempt_only(program: Program, tmp_path: Path) -> None:
    put(
        program,
        {"name": "leaks", "nodes": {"a": process("sh", "-c", f"env > {tmp_path}/env; sleep 60")}},
        account="evil",
    )
    evil = Caller(program, account="evil").run("leaks")
    eventually(lambda: (tmp_path / "env").exists() and "SECRET" in (tmp_path / "env").read_text(), what="not begun")
    environment = dict(line.partition("=")[::2] for line in (tmp_path / "env").read_text().splitlines())
    secret = environment["HEIWA_ATTEMPT_SECRET"]
    run, url = waiting(program, "other")
    assert refused(f"{url}/finish", {"ok": True}, secret)["status"] == 401
    assert Caller(program).status(run) == "running"
    # A secret opens nothing else.
    request = urllib.request.Request(f"{program.operations}/api/v1/workflows")
    request.add_header("Authorization", f"Bearer {secret}")
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=30)
    assert http_problem(caught.value)["status"] == 401
    own = f"{jobs_url(program)}/api/v1/attempts/{public_id(evil, FIRST)}"
    # Which job speaks has to be said each time.
    assert post(f"{own}/start", {"job": "one"}, secret)["start"] is True
    for named, why in (("two", "another job works on it"), (None, "job is missing: it has to be the one")):
        body = {"job": named} if named else {}
        for verb, more, key in (("report", {"percent": 1}, "wanted"), ("finish", {"ok": True}, "taken")):
            said = post(f"{own}/{verb}", {**body, **more}, secret)
            assert said[key] is False
            assert said["why"].startswith(why)
    assert post(f"{own}/report", {"job": "one", "percent": 1}, secret) == {"wanted": True, "why": ""}
    assert refused(f"{own}/finish", {"ok": True, "job": "x" * 257}, secret)["status"] == 422
    assert refused(f"{own}/finish", {"ok": True, "value": {"x": "y" * 300_000}}, secret)["status"] == 413
    assert refused(f"{own}/report", {"percent": 101}, secret)["status"] == 422
    # Cancelled, nothing begins, and a report says so.
    Caller(program, account="evil").call("POST", f"/api/v1/workflows/{evil}/cancel")
    assert post(f"{own}/start", {"job": "late"}, secret)["start"] is False
    report = {"job": "one", "percent": 1}
    eventually(lambda: not post(f"{own}/report", report, secret)["wanted"], what="still wanted")
    said = post(f"{own}/report", report, secret)
    assert said["why"] in ("it is not wanted any more", "its outcome is known already")
    for name, text in (("log", program.log.read_text()), ("folders", str(list(program.folder.rglob("*"))))):
        assert secret not in text, name
    Caller(program).call("POST", f"/api/v1/workflows/{run}/cancel")


def test_other_listeners_know_nothing_of_attempts_and_that_of_jobs_of_nothing_else(program: Program) -> None:
    run, url = waiting(program, "apart")
    path = url.removeprefix(jobs_url(program))
    for base in (program.operations, f"http://127.0.0.1:{program.public_port}"):
        assert refused(f"{base}{path}/start", {"job": "x"}, "0" * 64)["status"] == 404
    for other in ("/metrics", "/api/v1/workflows", "/livez", "/ws"):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{jobs_url(program)}{other}", timeout=30)
        assert http_problem(caught.value)["status"] == 404
    Caller(program).call("POST", f"/api/v1/workflows/{run}/cancel")


def test_progress_is_stored_once_a_second_however_often_it_is_told(program: Program) -> None:
    script = (
        "import job; a = job.Attempt.of_environment(); a.start(); [a.report(n / 10) for n in range(1000)]; a.done()"
    )
    work = process(
        sys.executable, "-c", f"import sys; sys.path.insert(0, {str(Path(job.__file__).parent)!r}); {script}"
    )
    found = ended(program, {"a": work}, "chatty")
    events = Caller(program).call("GET", f"/api/v1/workflows/{found['run']['id']}/events?limit=1000")["events"]
    kinds = Counter(event["data"]["kind"] for event in events)
    took_s = (events[-1]["time"] - events[0]["time"]) / 1000
    assert kinds["progress"] <= took_s + 3
    assert kinds["node_ok"] == 1


async def test_a_job_of_batch_survives_the_program_and_speaks_for_itself(tmp_path: Path, monkeypatch: Any) -> None:
    """Killed in the middle: the next start watches the same job, whose own word is the result."""
    ledger = tmp_path / "ledger"
    script = f"echo began >> {ledger}; sleep 3; echo ended >> {ledger}; echo '{{\"rows\": 7}}'"
    cloud = JobsEndpoint()
    cloud.batch.add_queue("etl")
    cloud.batch.add_definition("load", ["sh", "-c", f'{heiwa("run", "--")} sh -c "$SCRIPT"']).environment["SCRIPT"] = (
        script
    )
    cloud.ecs.add_cluster("main")
    cloud.ecs.add_definition("load", ["true"])
    await cloud.start()
    for name, value in cloud.environment.items():
        monkeypatch.setenv(name, value)
    on = ["workflows.runners=batch,ecs", f"listen.jobs=127.0.0.1:{free_port()}"]
    on += [f"workflow_accounts.default.{name}" for name in ("batch_queues=etl", "batch_job_definitions=load")]
    on += [f"workflow_accounts.default.{name}" for name in ("ecs_clusters=main", "ecs_task_definitions=load")]

    def play() -> dict[str, Any]:
        nodes = {
            "a": {"run": {"batch": {"queue": "etl", "job_definition": "load"}}},
            "b": {"needs": ["a"], "run": {"ecs": {"cluster": "main", "task_definition": "load"}}},
        }
        with Program(tmp_path / "data", *on) as first:
            put(first, {"name": "cloud", "nodes": nodes})
            evil = json.dumps({"name": "evil", "nodes": {"a": nodes["a"]}})
            said = Caller(first, account="evil").refused("PUT", "/api/v1/definitions", evil)
            assert "is not listed for the account 'evil'" in said["detail"]
            run = Caller(first).run("cloud")
            eventually(ledger.exists, what="the job did not begin")
            first.kill()
        with Program(tmp_path / "data", *on) as second:
            eventually(lambda: Caller(second).status(run) in ("ok", "failed"), 30, what="the run did not end")
            found: dict[str, Any] = Caller(second).call("GET", f"/api/v1/workflows/{run}")
        return found

    try:
        found = await asyncio.to_thread(play)
    finally:
        await cloud.close()
    assert [(node["status"], node.get("value")) for node in found["nodes"]] == [("ok", {"rows": 7}), ("ok", {})]
    assert ledger.read_text().split() == ["began", "ended"]
    assert len(cloud.batch.jobs) == 1
