"""The templates of ecs/ against their rules and against cfn-lint; no account is needed, and none was asked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.cfn_lint import problems
from tests.support.cloudformation import read
from tests.unit.ecs.examples import Example, examples
from tests.unit.ecs.stacks import ROOT

TEMPLATES = sorted((ROOT / "ecs").glob("*.yaml"))
CASES = [(example, name) for example in examples() for name in example.rules]


@pytest.mark.parametrize(("example", "name"), CASES, ids=[f"{one.name}: {name}" for one, name in CASES])
def test_a_template_keeps_a_rule(example: Example, name: str) -> None:
    example.rules[name](example.stack)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_cfn_lint_finds_nothing(path: Path) -> None:
    assert problems(path.read_text("utf-8")) == []


def test_what_a_template_imports_another_exports_in_any_case() -> None:
    """An export that comes, goes or changes with a parameter could not, once another stack has it."""
    makers = {"ServiceStack": "service.yaml", "DataStack": "data.yaml", "WorkflowStack": "workflows.yaml"}
    imports = [found for path in TEMPLATES for found in re.findall(r"\$\{(\w+Stack)\}-(\w+)", path.read_text("utf-8"))]
    assert {stack for stack, _ in imports} == set(makers)
    for stack, name in imports:
        outputs = read(ROOT / "ecs" / makers[stack])["Outputs"].values()
        export = {"Name": {"Fn::Sub": f"${{AWS::StackName}}-{name}"}}
        (output,) = (one for one in outputs if one.get("Export") == export)
        assert "Condition" not in output
        assert "Fn::If" not in output["Value"]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_nothing_of_anybodys_account_is_in_a_template(path: Path) -> None:
    text = path.read_text("utf-8")
    example = "123456789012"
    assert set(re.findall(r"\b\d{12}\b", text)) <= {example}
    # Names of regions only in examples.
    used = "\n".join(line for line in text.splitlines() if "ConstraintDescription" not in line)
    assert not re.search(r"\b(us|eu|ap|sa|ca|me|af|il)-[a-z]+-\d\b", used)
