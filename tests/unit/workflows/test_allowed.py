"""What the nodes of an account may use: what is listed for it, and nothing that only looks like it."""

from __future__ import annotations

import pytest

from gateway.workflows.allowed import BATCH, names, problem

LISTS = {"batch_queues": ("fast",), "batch_job_definitions": ("load", "arn:aws:batch:x:1:job-definition/copy:3")}


def told(definition: str, queue: str = "fast", *, final: bool = True) -> str:
    return problem("acme", {"queue": queue, "job_definition": definition}, BATCH, LISTS, final=final)


@pytest.mark.parametrize("definition", ["load", "load:7", "load:0123456789", "arn:aws:batch:x:1:job-definition/copy:3"])
def test_what_is_listed_and_its_revisions(definition: str) -> None:
    assert told(definition) == ""


@pytest.mark.parametrize(
    "definition",
    [
        "",
        "loa",
        "loads",
        "load:",
        "load:12abc",
        "load:1:2",
        "load:12345678901",
        "load:-1",
        "load: 1",
        "load:\u0661",
        ":7",
        "arn:aws:batch:x:1:job-definition/copy",
        "arn:aws:batch:x:1:job-definition/copy:4",
        "${ run.input.job }",
    ],
)
def test_everything_else_is_refused_by_name(definition: str) -> None:
    assert told(definition) == (
        f"job_definition: {definition!r} is not listed for the account 'acme'"
        " (workflow_accounts.acme.batch_job_definitions)"
    )


def test_an_expression_is_judged_when_it_has_its_value() -> None:
    assert told("${ run.input.job }", final=False) == ""
    assert told("load", "${ run.input.queue }", final=False) == ""
    assert told("drop", "${ run.input.queue }", final=False) != ""


def test_an_account_without_lists_may_use_nothing() -> None:
    assert problem("b", {"queue": "fast", "job_definition": "load"}, BATCH, {}, final=True) != ""


def test_a_setting_lists_names_with_commas() -> None:
    assert names(" fast, slow ,,") == ("fast", "slow")
    assert names("") == ()
