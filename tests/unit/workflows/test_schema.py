"""The published schema against the decoder: what one takes the other takes, but for what only a check can see."""

from __future__ import annotations

import copy
import json
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.workflows.checks import check
from gateway.workflows.json_source import read_json
from gateway.workflows.schema import schema
from gateway.workflows.source import DefinitionError
from tests.support.workflows import ALLOWED
from tests.unit.workflows.test_checks import GOOD

VALIDATOR = jsonschema_rs.validator_for(schema())
TREE = yaml.safe_load(GOOD)


def decoded(value: Any) -> bool:
    try:
        check(read_json(json.dumps(value)), ALLOWED)
    except DefinitionError:
        return False
    return True


def spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict):
        found += [spot for name, inner in value.items() for spot in spots(inner, (*path, name))]
    elif isinstance(value, list):
        found += [spot for index, inner in enumerate(value) for spot in spots(inner, (*path, index))]
    return found


def test_both_take_the_example() -> None:
    assert VALIDATOR.is_valid(TREE)
    assert decoded(TREE)


@example(("nodes", "child", "workflow", "name"), "x\n", False)
@given(
    st.sampled_from(spots(TREE)[1:]),
    st.sampled_from([None, True, 0, -1, 1, 1.5, 1e9, "", "x", "1x", "x\n", "a" * 5000, [], ["x"], [1], {}, {"x": 1}]),
    st.booleans(),
)
def test_what_the_schema_refuses_is_refused(spot: tuple[Any, ...], value: Any, remove: bool) -> None:
    changed = copy.deepcopy(TREE)
    holder = changed
    for step in spot[:-1]:
        holder = holder[step]
    if remove:
        del holder[spot[-1]]
    else:
        holder[spot[-1]] = value
    if not VALIDATOR.is_valid(changed):
        assert not decoded(changed), next(VALIDATOR.iter_errors(changed)).message
    elif not decoded(changed):
        with pytest.raises(DefinitionError) as caught:
            check(read_json(json.dumps(changed)), ALLOWED)
        # Only what needs more than a form: names, references, expressions.
        problem = str(caught.value.mistakes[0])
        known = ("no node", "named twice", "not known", "cannot be", "no condition", "neither", "is no list", "${")
        assert any(word in problem for word in known), problem
