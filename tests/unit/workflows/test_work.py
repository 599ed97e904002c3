"""What runners are asked for: texts where texts are wanted, whatever the values are; what is kept of their words."""

from __future__ import annotations

import re
from typing import Any

import pytest

from gateway.workflows.expression import ExpressionError, Path, follow
from gateway.workflows.hearing import happening_of, readable
from gateway.workflows.records import Signal, SignalKind
from gateway.workflows.run import Attempt
from gateway.workflows.step import Cancel, Failed, Finished, Happening, Progress, Submitted
from gateway.workflows.work import asked_of
from tests.support.workflows import definition

A = Attempt("a", -1, 1)


def asked(run: dict[str, Any], value: Any) -> Any:
    made = definition({"a": {"run": run}})
    return asked_of(made, "a", lambda: lambda path: follow(value, Path("", path.steps)))


@pytest.mark.parametrize(
    ("value", "text"),
    [(7, "7"), (1.5, "1.5"), (True, "true"), ("x", "x"), ("", ""), (10**20, "100000000000000000000")],
)
def test_numbers_become_texts_where_texts_are_wanted(value: Any, text: str) -> None:
    assert asked({"device": {"id": "${input}", "command": "x", "args": {"n": "${input}"}}}, value) == {
        "id": text,
        "command": "x",
        "args": {"n": value},
        "idempotent": False,
    }
    work = asked({"process": {"command": ["echo", "${input}", "b"], "environment": {"N": "${input}"}}}, value)
    assert work == {"command": ["echo", text, "b"], "environment": {"N": text}}
    http = asked({"http": {"url": "${input}", "headers": {"X-A": "${input}"}, "body": ["${input}"]}}, value)
    assert (http["url"], http["headers"], http["body"]) == (text, {"X-A": text}, [value])
    assert asked({"batch": {"queue": "q", "job_definition": "j", "parameters": {"p": "${input}"}}}, value)[
        "parameters"
    ] == {"p": text}
    assert asked({"ecs": {"task_definition": "t", "command": ["${input}"]}}, value)["command"] == [text]


@pytest.mark.parametrize(
    ("value", "said"), [(None, "is null"), ([1], "is a list"), ({}, "is an object"), ("a\0b", "holds U+0000")]
)
def test_what_is_no_text_is_refused_by_its_place(value: Any, said: str) -> None:
    with pytest.raises(ExpressionError, match=rf"run\.device\.id .*{re.escape(said)}"):
        asked({"device": {"id": "${input}", "command": "x"}}, value)
    with pytest.raises(ExpressionError, match=r"run\.process\.command\[1\]"):
        asked({"process": {"command": ["echo", "${input}"]}}, value)
    with pytest.raises(ExpressionError, match=r"run\.http\.headers\.X-A"):
        asked({"http": {"url": "http://x", "headers": {"X-A": "${input}"}}}, value)


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        (Finished(A, {"x": [1, "ü"]}), Finished(A, {"x": [1, "ü"]})),
        (Finished(A, {"x": "\ud800"}), Failed(A, "half of a surrogate pair", again=False)),
        (Finished(A, {"\udfff": 1}), Failed(A, "half of a surrogate pair", again=False)),
        (Failed(A, "b\ud800d", lost=True), Failed(A, "b?d", lost=True)),
        (Progress(A, 5, "\udc00"), Progress(A, 5, "?")),
        (Progress(A, 5), Progress(A, 5)),
        (Submitted(A, "\ud800"), Submitted(A, "?")),
        (Finished(A, {"x": "\0"}), Finished(A, {"x": "\0"})),
        (Failed(A, "b\0d"), Failed(A, "b\ufffdd")),
        (Progress(A, 5, "\0"), Progress(A, 5, "\ufffd")),
        (Submitted(A, "\0"), Submitted(A, "\ufffd")),
        (Cancel("\0\ud800"), Cancel("\ufffd?")),
    ],
)
def test_what_a_database_keeps_in_no_text_is_not_kept(told: Happening, kept: Happening) -> None:
    found = readable(told)
    if isinstance(told, Finished) and isinstance(found, Failed):
        assert "half of a surrogate pair" in found.error
        assert not found.again
    else:
        assert found == kept


def test_what_was_stored_for_a_run_is_looked_at_in_the_same_way() -> None:
    assert happening_of(Signal(1, "r", SignalKind.CANCEL, "no\0")) == Cancel("no\ufffd")
    told = {"attempt": ["a", -1, 1], "ok": False, "error": "no\0"}
    assert happening_of(Signal(1, "r", SignalKind.REPORT, told)) == Failed(A, "no\ufffd")
