"""Lines of the log: one record a line, no secrets, bounded, whatever the record holds."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.lines import MAX_LINE_CHARS, JsonFormatter, TextFormatter, cut, redact
from tests.support.jwts import token

FORMATTERS = [JsonFormatter(), TextFormatter()]
TOKEN = token()
# Where a request's bytes end up in messages of libraries.
AROUND = [
    "{}", "Bearer {}", "bearer  {}", "BEARER {}\0", "b'Authorization: Bearer {}\\x00'", '"Bearer {}"',
    "heiwa.bearer.{}",
    "?access_token={}&x=1", "Bearer%20{}", "x, {}, y", "({})", "https://h/{}", "{}{}", "Bearer {} HTTP/9.9",
]  # fmt: skip


def record(message: str = "", error: Any = None, **fields: Any) -> logging.LogRecord:
    trace = None
    if error is not None:
        trace = (type(error), error, error.__traceback__)
    made = logging.LogRecord("heiwa.app", logging.INFO, "", 0, message, None, trace)
    made.fields = fields
    return made


def raised(text: str) -> ValueError:
    with pytest.raises(ValueError) as caught:
        raise ValueError(text)
    return caught.value


def test_text_is_for_people() -> None:
    assert TextFormatter().format(record("ready", port=1)).endswith("info    app: ready  port=1")


@pytest.mark.parametrize("formatter", FORMATTERS)
@pytest.mark.parametrize("around", AROUND)
def test_no_token_is_ever_written(formatter: logging.Formatter, around: str) -> None:
    text = around.replace("{}", TOKEN)
    parts = [part for part in TOKEN.split(".") if part]
    for made in (
        record(text),
        record("x", device=text),
        record("x", listed=[text], nested={"a": {"b": text}}),
        record("x", error=raised(text)),
        record("x", padded="y" * 3000 + " " + text + " " + "z" * 9000),
        record("y" * (MAX_LINE_CHARS // 2 - 60) + " " + text + "z" * 90_000),
    ):
        line = formatter.format(made)
        assert not [part for part in parts if part[:12] in line], line[:500]
        assert len(line) <= MAX_LINE_CHARS


@pytest.mark.parametrize("broken", ["\0", "\\x00", "\\\\u0000", "\x7f"])
def test_a_token_with_an_escape_in_it(broken: str) -> None:
    head, _, rest = TOKEN.partition(".")
    for formatter in FORMATTERS:
        line = formatter.format(record(f"Bearer {head[:9]}{broken}{head[9:]}.{rest}"))
        assert rest.partition(".")[0][:12] not in line


@pytest.mark.parametrize(
    "text",
    [
        "the token lacks the scope location:write",
        "elasticloadbalancing.ap-northeast-1.amazonaws.com",
        "gateway.connections.accepting.Accepting.data_received",
        "a token is needed: Authorization: Bearer, or heiwa",
        "019ab4e2-7b1c-7000-8000-0123456789ab",
    ],
)
def test_what_is_no_token_stays(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("letter", ["\n", "\r", "\x1b[31m", "\x9b", "\0", "\x7f", "\u2028", "\u202e", "\x85"])
def test_text_lines_hold_nothing_that_draws(letter: str) -> None:
    forged = f"x{letter}07:00:00 critical app: wiped"
    for made in (record("seen", device=forged), record(forged)):
        line = TextFormatter().format(made)
        assert line.isprintable()
        assert "critical app: wiped" in line


def test_a_traceback_cannot_forge_a_line() -> None:
    first, *rest = TextFormatter().format(record("x", error=raised("a\n07:00:00 critical app: wiped"))).split("\n")
    assert "app: x" in first
    assert len(rest) > 2
    assert all(line.startswith("  ") for line in rest)


def test_a_long_traceback_keeps_its_end() -> None:
    error = raised("first " + "x" * 50_000 + " last")
    for formatter in FORMATTERS:
        line = formatter.format(record("failed", error=error))
        assert "ValueError" in line or "Traceback" in line
        assert "last" in line
        assert len(line) <= MAX_LINE_CHARS


def test_many_fields_leave_the_event() -> None:
    line = json.loads(JsonFormatter().format(record("busy", **{f"field_{n}": "x" * 190 for n in range(100)})))
    assert (line["event"], line["fields_left_out"]) == ("busy", 100)


def test_long_fields_are_shortened_before_any_is_left_out() -> None:
    line = json.loads(JsonFormatter().format(record("busy", **{f"field_{n}": "x" * 1000 for n in range(10)})))
    assert "fields_left_out" not in line
    shown = [line[f"field_{n}"] for n in range(10)]
    assert all(len(text) <= 200 and text.startswith("xxx") and text.endswith("xxx") for text in shown)


@given(st.text(max_size=200), st.dictionaries(st.text(max_size=5), st.text() | st.integers() | st.none(), max_size=4))
def test_any_record_is_one_line_of_its_format(message: str, fields: dict[str, Any]) -> None:
    json_line = JsonFormatter().format(record(message, x=fields))
    assert isinstance(json.loads(json_line), dict)
    assert "\n" not in json_line
    assert TextFormatter().format(record(message, x=fields)).isprintable()


@given(st.text(alphabet='eyJab.\\"xu0 Bearer:,', max_size=300))
def test_redacted_json_stays_json(text: str) -> None:
    assert isinstance(json.loads(redact(json.dumps({"a": text}))), dict)


@pytest.mark.parametrize("text", ["x" * 100_000, "eyJ" * 40_000, "a.b." * 25_000, "Bearer " * 15_000, "\\" * 100_000])
def test_hostile_lines_take_no_time(text: str) -> None:
    for formatter in FORMATTERS:
        assert len(formatter.format(record(text, text=text))) <= MAX_LINE_CHARS


def test_cut() -> None:
    assert cut("abc", 3) == "abc"
    short = cut("a" * 500 + "z" * 500, 100)
    assert len(short) <= 100
    assert short.startswith("aaa")
    assert short.endswith("zzz")
    assert "1000 characters" in short
