"""Definitions as text: what they mean, and the place of each mistake."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.yaml_source import read_yaml
from gateway.workflows.json_source import read_json
from gateway.workflows.source import DefinitionError, Located

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('abc\n"', max_size=5), inner, max_size=4),
    max_leaves=20,
)


def mistakes(read: Any, text: str) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        read(text)
    return [str(one) for one in caught.value.mistakes]


@given(JSON, st.sampled_from([None, 2, "\t"]))
def test_json_means_what_the_standard_library_says(value: Any, indent: Any) -> None:
    assert read_json(json.dumps(value, indent=indent, ensure_ascii=False)).plain() == value


@given(st.text(max_size=30) | st.text('{}[]",:0123456789-.eE \n\\utrflsan', max_size=30))
def test_json_is_refused_where_the_standard_library_refuses_it(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        mistakes(read_json, text)
        return
    try:
        assert repr(read_json(text).plain()) == repr(expected)
    except DefinitionError as error:
        told = str(error)
    else:
        return
    # What it reads and we do not: doubled names, NaN, half surrogates, U+0000, numbers without end.
    assert any(word in told for word in ("twice", "NaN", "Infinity", "surrogate", "U+0000", "number", "digits"))


@given(st.text("abc:-[]{}&*!|>'\"%@#\n \t0123456789.~=<,?", max_size=40))
def test_yaml_is_refused_or_means_what_a_loader_says(text: str) -> None:
    try:
        found = read_yaml(text).plain()
    except DefinitionError:
        return
    assert found == yaml.load(text, yaml.CSafeLoader)


def places(value: Located) -> dict[Any, tuple[int, int]]:
    return {key: tuple(inner.place) for key, inner in value.value.items()}


def test_values_know_their_places() -> None:
    found = read_yaml("a: 1\nbc:\n  - x\n  -   z\n")
    assert places(found) == {"a": (1, 4), "bc": (3, 3)}
    assert [tuple(item.place) for item in found.value["bc"].value] == [(3, 5), (4, 7)]
    assert places(read_json('{"a": 1,\n  "b":   [2]}')) == {"a": (1, 7), "b": (2, 10)}
    assert tuple(read_yaml("é: [ü, x]").value["é"].value[1].place) == (1, 8)


@pytest.mark.parametrize(
    "text",
    [
        "no",
        "on",
        "off",
        "yes",
        "NO",
        "y",
        "N",
        "0o17",
        "017",
        "0x1F",
        "0b1",
        "12:30",
        "1:2:3",
        "1_000",
        "1e3",
        ".5",
        "5.",
        "+.inf",
        ".nan",
        "2026-11-22",
        "=",
    ],
)
def test_what_two_versions_of_yaml_read_differently_is_refused(text: str) -> None:
    assert "read differently" in mistakes(read_yaml, f"a: {text}")[0]
    assert "read differently" in mistakes(read_yaml, f"{text}: 1")[0]
    assert read_yaml(f'a: "{text}"').plain() == {"a": text}


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("-7", -7), ("1.5", 1.5), ("true", True), ("~", None), ("", None)]
)
def test_what_all_read_alike_is_taken(text: str, value: Any) -> None:
    assert read_yaml(f"a: {text}").plain() == {"a": value}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: 2\na: 3", "line 3, column 1: the name 'a' is given twice, before at line 1, column 1"),
        ("a: *b", "line 1, column 4: *b stands before"),
        ("a: &x [*x]", "line 1, column 8: *x stands before"),
        ("a: !!python/name:os.system x", "line 1, column 4: the tag tag:yaml.org,2002:python/name:os.system"),
        ("a: &x {b: 1}\nc: {<<: *x}", "line 2, column 5: merge keys (<<) are not supported"),
        ("a: " + "9" * 500, "line 1, column 4: has too many digits; at most 30 are possible"),
        ("a: 0x" + "9" * 500, f"line 1, column 4: 0x{'9' * 78}… is read"),
        ("a: !!int 3", "line 1, column 4: the tag"),
        ("? [a]\n: b", "line 1, column 3: a name must be plain text"),
        ("1: b", "line 1, column 1: a name must be text"),
        ("", "line 1, column 1: there is nothing in it"),
        ("a: 1\n---\nb: 2", "line 2, column 1: a second document"),
        ("a: [1", "line 2, column 1: not YAML"),
        ('a: "\\0"', "line 1, column 4: a text holds the character U+0000"),
        ("a: " + "[" * 40 + "]" * 40, "line 1, column 35: is nested deeper than 32 levels"),
    ],
)
def test_a_mistake_in_yaml_has_its_place(text: str, told: str) -> None:
    assert mistakes(read_yaml, text)[0].startswith(told)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"a": 1,\n "a": 2}', "line 2, column 2: the name 'a' is given twice, before at line 1, column 2"),
        ('{"a" 1}', "line 1, column 6: not JSON: ':' is expected"),
        ('{"a": 1} x', "line 1, column 10: not JSON: there is more"),
        ('["\\ud83d"]', "line 1, column 2: a text holds half of a surrogate pair"),
        ("[" * 5000, "line 1, column 33: is nested deeper"),
        (" \n", "line 1, column 1: there is nothing in it"),
        ("[" + "9" * 500 + "]", "line 1, column 2: has too many digits; at most 30 are possible"),
        ("[1e999]", "line 1, column 2: is larger"),
    ],
)
def test_a_mistake_in_json_has_its_place(text: str, told: str) -> None:
    assert mistakes(read_json, text)[0].startswith(told)


def test_aliases_of_aliases_are_counted_before_they_are_followed() -> None:
    lines = ["a0: &a0 [1,1,1,1,1,1,1,1,1,1]"]
    lines += [f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    assert "more than 100,000 values" in mistakes(read_yaml, "\n".join(lines))[0]


def test_aliases_are_named_only_where_there_are_some() -> None:
    assert mistakes(read_json, f"[{'1,' * 100_000}1]") == ["line 1, column 1: holds more than 100,000 values"]
    levels = "".join(f"\n  {name}: &{name} [{', '.join(f'*{of}' for _ in range(100))}]" for name, of in ("ba", "cb"))
    told = mistakes(read_yaml, f"x:\n  a: &a [{', '.join('x' * 100)}]{levels}")
    assert told[0].endswith("holds more than 100,000 values, its aliases followed")
    assert len(told) == 1
