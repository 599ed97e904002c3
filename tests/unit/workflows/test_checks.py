"""What a definition may say, and the place of everything that it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.workflows.checks import Rules
from gateway.workflows.definition import compile_spec, load, stored
from gateway.workflows.expression import ExpressionError, holds, parse_condition, parse_path, render
from gateway.workflows.expression import Path as Steps
from gateway.workflows.fields import MAX_MISTAKES
from gateway.workflows.source import DefinitionError
from tests.support.workflows import ALLOWED, definition, from_yaml, node

GOOD = """\
name: nightly-sync
nodes:
  extract:
    run: {process: {command: [python, extract.py]}}
    retry: {max_attempts: 5, wait_s: 60, backoff: 2, max_wait_s: 900}
    timeout_s: 3600
  load:
    needs: [extract]
    for_each: {items: "${extract.tables}", as: table, max_parallel: 4}
    run: {batch: {queue: etl, job_definition: load, parameters: {table: "${table}"}}}
    on_error: skip
  notify:
    needs: [load]
    when: "${load.failed} == 0"
    run: {device: {id: "${input.device}", command: show, args: {text: done}}}
  child:
    needs: [load]
    workflow: {name: cleanup, input: {run: "${run.id}"}}
  poll:
    needs: [extract]
    repeat: {until: "${poll.ready}", max_iterations: 100, wait_s: 30}
    run: {http: {method: GET, url: "https://example.com/"}}
"""


def told(text: str, rules: Rules = ALLOWED) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        from_yaml(text, rules)
    return [str(one) for one in caught.value.mistakes]


def test_an_integer_may_be_written_with_a_fraction() -> None:
    written = GOOD.replace("max_parallel: 4", "max_parallel: 4.0").replace("max_attempts: 5", "max_attempts: 5.0e+0")
    assert stored(from_yaml(written).spec) == stored(from_yaml(GOOD).spec)
    assert "max_parallel" in told(GOOD.replace("max_parallel: 4", "max_parallel: 4.5"))[0]


def test_the_example_is_good_and_is_stored_as_it_was() -> None:
    made = from_yaml(GOOD)
    assert made.order == ("extract", "load", "poll", "notify", "child")
    assert made.successors["load"] == ("notify", "child")
    assert load(stored(made.spec)) == made


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "needs: [extract]\n    for",
            "needs: [extrakt]\n    for",
            "line 8, column 13: nodes.load.needs[0]: there is no node 'extrakt'",
        ),
        (
            "needs: [load]\n    when",
            "needs: [load, load]\n    when",
            "line 13, column 19: nodes.notify.needs[1]: load is named twice",
        ),
        (
            "    timeout_s: 3600",
            "    needs: [notify]",
            "line 6, column 13: nodes.extract.needs[0]: a circle: extract needs notify needs load needs extract",
        ),
        ("{process:", "{lambda:", "line 4, column 11: nodes.extract.run: there is no runner 'lambda'"),
        ("timeout_s: 3600", "timeout: 3600", "line 6, column 5: nodes.extract: there is no field 'timeout' here"),
        ("timeout_s: 3600", "timeout_s: -1", "line 6, column 16: nodes.extract.timeout_s: expected `float` > 0.0"),
        (
            "command: [python, extract.py]",
            "command: []",
            "line 4, column 30: nodes.extract.run.process.command: expected `array`",
        ),
        ("${extract.tables}", "${extract.tables", "line 9, column 23: nodes.load.for_each.items: a ${ has no }"),
        (
            "${extract.tables}",
            "all ${extract.tables}",
            "line 9, column 23: nodes.load.for_each.items: 'all ${extract.tables}' is no list",
        ),
        ("${table}", "${poll.x}", "line 10, column 73: nodes.load.run.batch.parameters.table: ${poll.x}: poll is not"),
        ("${table}", "${a b}", "line 10, column 73: nodes.load.run.batch.parameters.table: ${a b} is no"),
        ("as: table", "as: input", "line 9, column 48: nodes.load.for_each.as: 'input' cannot be the name of an item"),
        (
            "${load.failed} == 0",
            "${load.failed} = 0",
            "line 14, column 11: nodes.notify.when: '${load.failed} = 0' is no",
        ),
        ("${load.failed} == 0", "${load.failed} == zero", "line 14, column 11: nodes.notify.when: zero is neither"),
        ("${poll.ready}", "${notify.ready}", "line 21, column 21: nodes.poll.repeat.until: ${notify.ready}: notify"),
        (
            "${run.id}",
            "${run.secret}",
            "line 18, column 44: nodes.child.workflow.input.run: ${run.secret}: of run there are id",
        ),
        (
            "on_error: skip",
            "on_error: no-way",
            "line 11, column 15: nodes.load.on_error: must be one of fail, skip, cont",
        ),
        (
            "method: GET",
            "method: HEAD",
            "line 22, column 26: nodes.poll.run.http.method: must be one of GET, POST, PUT",
        ),
        ("name: nightly", "schedule: {cron: x, missed: never}\nname: x", "line 1, column 29: schedule.missed: must be"),
        (
            "command: [python, extract.py]",
            "command: [x], environment: {a: b, A-B: c}",
            "line 4, column 55: nodes.extract.run.process.environment.A-B: must be made of letters, digits and _",
        ),
        (
            "name: nightly-sync",
            "name: 2x",
            "line 1, column 7: name: must be made of letters, digits, _ and -, not begi",
        ),
        ("  poll:", "  2poll:", "line 19, column 3: nodes.2poll: must be made of letters, digits, _ and -, not beginn"),
        ("  poll:", f"  {'p' * 65}:", f"line 19, column 3: nodes.{'p' * 65}: expected `str` of length <= 64"),
        ("name: nightly-sync", "name: 7", "line 1, column 7: name: expected `str`, got `int`"),
        (
            "on_error: skip",
            "on_error: skip\n    workflow: {name: x}",
            "line 8, column 5: nodes.load: exactly one of run and workflow",
        ),
        (
            "on_error: skip",
            "on_error: skip\n    repeat: {until: 'true'}",
            "line 12, column 13: nodes.load.repeat: a node has for_each or repeat",
        ),
        ("  poll:", "  input:", "line 20, column 5: nodes.input: a node cannot be called 'input'"),
    ],
)
def test_every_mistake_has_its_place(old: str, new: str, problem: str) -> None:
    assert old in GOOD
    found = told(GOOD.replace(old, new, 1))
    assert any(line.startswith(problem) for line in found), found


def test_all_mistakes_are_told_at_once() -> None:
    text = GOOD.replace("timeout_s: 3600", "timeout_s: x").replace("on_error: skip", "on_error: skp")
    assert [line.partition(":")[0] for line in told(text)] == ["line 6, column 16", "line 11, column 15"]


MANY = """\
nodes:
  a:
    run: {process: {comand: [x]}, lambda: {}}
    retry: {max_attempts: 0, wait_s: x, backof: 2}
    on_error: maybe
    timeout_s: -1
  b: 7
  c:
    needs: [a, b, d]
    when: "${a.ready} = 1"
    run: {http: {url: "${x y}", headers: {"A B": "1"}, body: ["${d.x}", "${run.secret}"]}}
  e:
    needs: [c, c]
    workflow: {name: missing}
    run: {device: {id: "${unknown}", command: go}}
  2f: {}
more: 1
"""


def test_every_mistake_of_every_node_is_told_at_once() -> None:
    assert told(MANY) == [
        "line 1, column 1: object missing required field `name`",
        "line 3, column 20: nodes.a.run.process: object missing required field `command`",
        "line 3, column 21: nodes.a.run.process: there is no field 'comand' here",
        "line 3, column 35: nodes.a.run: there is no runner 'lambda'; known are process, http, device, batch, ecs",
        "line 4, column 27: nodes.a.retry.max_attempts: expected `int` >= 1",
        "line 4, column 38: nodes.a.retry.wait_s: expected `float`, got `str`",
        "line 4, column 41: nodes.a.retry: there is no field 'backof' here",
        "line 5, column 15: nodes.a.on_error: must be one of fail, skip, continue",
        "line 6, column 16: nodes.a.timeout_s: expected `float` > 0.0",
        "line 7, column 6: nodes.b: expected `object`, got `int`",
        "line 9, column 19: nodes.c.needs[2]: there is no node 'd'",
        "line 10, column 11: nodes.c.when: '${a.ready} = 1' is no condition; one is ${path}, or two of ${path} and "
        "JSON values with one of == != < <= > >= between them",
        "line 11, column 23: nodes.c.run.http.url: ${x y} is no path; a path is a name with .field and [number] "
        "behind it",
        "line 11, column 43: nodes.c.run.http.headers.A B: must be made of letters, digits and -",
        "line 11, column 73: nodes.c.run.http.body[1]: ${run.secret}: of run there are id, name, version, started_ms",
        "line 13, column 5: nodes.e: exactly one of run and workflow is needed",
        "line 13, column 16: nodes.e.needs[1]: c is named twice",
        "line 16, column 3: nodes.2f: must be made of letters, digits, _ and -, not beginning with a digit or -",
        "line 17, column 1: there is no field 'more' here",
    ]


def test_a_flood_of_mistakes_is_cut() -> None:
    fields = ", ".join(f"x{number}: 1" for number in range(20_000))
    text = f"name: x\nnodes:\n  a: {{run: {{device: {{id: d, command: c, {fields}}}}}}}\n  b: {{on_error: no-way}}\n"
    found = told(text)
    assert len(found) == MAX_MISTAKES + 1
    assert "on_error" in found[-1]


def test_both_ends_of_an_alias_are_told() -> None:
    text = "name: x\nnodes:\n  a: &work\n    run: {process: {command: [x]}}\n    timeout_s: x\n  b: *work\n"
    assert told(text) == [
        "line 5, column 16: nodes.a.timeout_s: expected `float | null`, got `str`",
        "line 5, column 16 (an alias of line 3, column 6): nodes.b.timeout_s: expected `float | null`, got `str`",
    ]


def test_what_the_place_does_not_allow_is_told_with_its_place() -> None:
    rules = Rules(
        work=lambda runner, work: f"the runner {runner} is off" if runner == "batch" else "",
        nested=lambda name: f"there is no definition {name!r}",
        schedule=lambda cron, zone: f"{cron} never happens",
    )
    assert told(f"{GOOD}schedule: {{cron: 0 0 30 2 *}}\n", rules) == [
        "line 10, column 18: nodes.load.run.batch: the runner batch is off",
        "line 18, column 22: nodes.child.workflow.name: there is no definition 'cleanup'",
        "line 23, column 11: schedule: 0 0 30 2 * never happens",
    ]


def test_the_largest_definition_is_checked_in_a_moment() -> None:
    nodes = {f"n{n}": node(needs=[f"n{m}" for m in range(max(0, n - 90), n)]) for n in range(1000)}
    made = definition(nodes)
    text = msgspec.json.encode({"name": "large", "nodes": nodes}).decode()
    assert len(text) < 1_048_576
    assert from_yaml(text).order == made.order


@pytest.mark.parametrize(("needs", "why"), [("b", "unknown"), ("a", "circle")])
def test_a_stored_definition_that_cannot_be_ordered_is_refused(needs: str, why: str) -> None:
    nodes = {"a": node(needs=[needs])}
    with pytest.raises(ValueError, match=why):
        definition(nodes)
    assert compile_spec(definition({"a": node()}).spec).order == ("a",)


VALUES = {"a": {"n": 3, "s": "x", "t": True, "l": [1, {"z": None}], "f": 3.0}}


def scope(path: Steps) -> Any:
    from gateway.workflows.expression import follow

    return follow(VALUES[path.root], path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${a.n} == 3", True),
        ("${a.n} == 3.0", True),
        ("${a.n} != 3", False),
        ("${a.n}>2", True),
        ("${a.f} <= 2", False),
        ('${a.s} == "x"', True),
        ('"a" < ${a.s}', True),
        ("${a.t}", True),
        ("${a.t} == 1", False),
        ("${a.l[1].z} == null", True),
        ("1 == 1", True),
        ('"a == b" == "a == b"', True),
    ],
)
def test_conditions(text: str, value: bool) -> None:
    assert holds(parse_condition(text), scope) is value


@pytest.mark.parametrize(
    "text", ["${a.n}", "${a.x}", "${a.l[2]}", "${a.l.x}", "${a.n[0]}", '${a.n} < "3"', "${a.t} < 1"]
)
def test_conditions_without_a_value(text: str) -> None:
    with pytest.raises(ExpressionError):
        holds(parse_condition(text), scope)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "${a",
        "a}",
        "${a} == ",
        "${a} === 1",
        "${a.}",
        "${a..b}",
        "${a[x]}",
        "${a} and ${b}",
        "NaN == 1",
        "[1] == 1",
        "'a' == 'a'",
        "${a} == 1 == 2",
        "${}",
        "${a[-1]}",
    ],
)
def test_what_is_no_condition(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_condition(text)


def test_templates_keep_the_type_of_a_single_path() -> None:
    assert render({"x": ["${a.l}", "n=${a.n} ${a.t} ${a.s}", 7, "$5"]}, scope) == {
        "x": [[1, {"z": None}], "n=3 true x", 7, "$5"]
    }
    with pytest.raises(ExpressionError, match="inside a text"):
        render("all: ${a.l}", scope)
    assert str(parse_path("a.b-c[3].d")) == "a.b-c[3].d"


def test_the_example_file_is_good() -> None:
    text = (Path(__file__).parents[3] / "examples/nightly-sync.yaml").read_text("utf-8")
    assert from_yaml(text).spec.name == "nightly-sync"
