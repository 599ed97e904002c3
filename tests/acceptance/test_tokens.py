"""Tokens that are odd, on every door of the program: an answer that names the claim, and nothing in the log."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from base64 import urlsafe_b64encode
from collections.abc import Iterator

import pytest

from gateway.identity.key_files import local_key
from gateway.identity.token import mint
from tests.support.program import Program, http_problem, location, receive, refusal, send


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with Program(tmp_path_factory.mktemp("tokens") / "data", "log.format=json") as running:
        yield running


def minted(program: Program, **claims: object) -> str:
    whole = {"sub": "lamp", "scope": "location:write admin", "exp": time.time() + 60, **claims}
    return mint(whole, local_key(program.folder))


def over_http(url: str, token: str, body: bytes | None = None) -> tuple[int, str]:
    request = urllib.request.Request(
        url, body, {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, str(http_problem(error)["detail"])


def answers(program: Program, token: str) -> list[tuple[int, str]]:
    """Status and detail of the websocket, of HTTP on the public listener, and on that of the operators."""
    status, _, problem = refusal(program.connect("lamp", token=token))
    public = f"http://127.0.0.1:{program.public_port}/api/v1/locations"
    return [
        (status, problem["detail"]),
        over_http(public, token, b'{"events":[{"id":"a","time":1,"lat":0,"lon":0}]}'),
        over_http(f"{program.operations}/api/v1/devices", token),
    ]


@pytest.mark.parametrize("claim", ["sub", "account", "class"])
@pytest.mark.parametrize("letter", ["\0", "\n", "\x1b", "\x7f", "\x85", "\x9b"])
def test_a_control_character_in_a_name(program: Program, claim: str, letter: str) -> None:
    for status, detail in answers(program, minted(program, **{claim: f"la{letter}mp"})):
        assert status == 401
        assert detail == f"{claim} holds a control character"


def test_a_deeply_nested_header(program: Program) -> None:
    for depth in (900, 1500, 2900):
        header = b'{"alg":"HS256","x":' + b"[" * depth + b"]" * depth + b"}"
        token = f"{urlsafe_b64encode(header).rstrip(b'=').decode()}.e30.AAAA"
        assert {status for status, _ in answers(program, token)} == {401}


def test_milliseconds(program: Program) -> None:
    for status, detail in answers(program, minted(program, exp=time.time() * 1000)):
        assert status == 401
        assert "seconds, not milliseconds" in detail


def test_a_token_within_the_leeway_holds_for_the_rest_of_it(program: Program) -> None:
    with program.connect("late", token=minted(program, sub="late", exp=time.time() - 5)) as connection:
        for number in range(8):
            send(connection, location(f"late-{number}"))
            receive(connection, "ack")
            with pytest.raises(TimeoutError):
                connection.recv(0.5)


def test_nothing_of_it_is_an_error_in_the_log(program: Program) -> None:
    assert not [line for line in program.events() if line["level"] in ("error", "critical")]
    assert b"Traceback" not in program.log.read_bytes()
    assert program.process.poll() is None
