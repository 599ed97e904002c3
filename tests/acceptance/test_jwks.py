"""A gateway whose keys are an issuer's: rotation, an issuer that is down, answers that are none, over real HTTPS."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.acceptance.test_start import FREE, serve
from tests.support.issuer import Issuer, Key, key_set
from tests.support.program import Program, eventually, location, receive, refusal, send


@pytest.fixture
def issuer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Issuer]:
    folder = tmp_path / "issuer"
    folder.mkdir()
    with Issuer(folder) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.certificate))
        yield running


def started(tmp_path: Path, issuer: Issuer, *settings: str) -> Program:
    return Program(tmp_path / "data", f"auth.jwks_url={issuer.url}", "log.format=json", *settings)


def fresh(key: Key) -> str:
    return key.token(exp=time.time() + 60)


def ready(program: Program) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"{program.operations}/readyz?verbose", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def has_failed(program: Program) -> bool:
    return any(event["event"] == "key_set_failed" for event in program.events())


def test_devices_of_the_issuer_and_nobody_else(tmp_path: Path, issuer: Issuer) -> None:
    key = Key("a")
    issuer.body = key_set(key.jwk())
    with started(tmp_path, issuer) as program:
        eventually(lambda: ready(program)[0] == 200)
        with program.connect("dev", token=fresh(key)) as connection:
            send(connection, location("a"))
            assert receive(connection, "ack")["ids"] == ["a"]
        for text in (fresh(Key("a")), fresh(Key("b")), program.token("dev")):
            assert refusal(program.connect("dev", token=text))[0] == 401
        metrics = program.metrics()
        assert metrics["heiwa_jwks_keys"] == 1
        assert metrics["heiwa_jwks_age_seconds"] < 60
        assert json.loads((tmp_path / "data/jwks.json").read_text())["url"] == issuer.url
        assert (tmp_path / "data/jwks.json").stat().st_mode & 0o777 == 0o600


def test_started_without_the_issuer(tmp_path: Path, issuer: Issuer) -> None:
    key = Key("a")
    issuer.answer = lambda request: issuer.give(request, 503)
    with started(tmp_path, issuer) as program:
        eventually(lambda: has_failed(program))
        status, said = ready(program)
        assert status == 503
        assert "key set" in said
        status, headers, problem = refusal(program.connect("dev", token=fresh(key)))
        assert status == 503, "it says nothing about the token"
        assert int(headers["Retry-After"]) > 0
        assert "not known" in problem["detail"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            program.get("/api/v1/devices")
        with refused.value:
            assert refused.value.code == 503
        issuer.body, issuer.answer = key_set(key.jwk()), issuer.give_set
        eventually(lambda: ready(program)[0] == 200, within_s=30)
        with program.connect("dev", token=fresh(key)):
            pass
        assert program.terminate() == 0
    issuer.answer = lambda request: issuer.give(request, 503)
    with started(tmp_path, issuer) as program:
        assert ready(program)[0] == 200, "the last set on disk"
        with program.connect("dev", token=fresh(key)):
            pass


def test_the_last_set_of_another_issuer_never_counts(tmp_path: Path, issuer: Issuer) -> None:
    key = Key("a")
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    left = {
        "url": "https://other.example/keys",
        "fetched_ms": int(time.time() * 1000),
        "body": key_set(key.jwk()).decode(),
    }
    (folder / "jwks.json").write_text(json.dumps(left))
    issuer.answer = lambda request: issuer.give(request, 503)
    with started(tmp_path, issuer) as program:
        eventually(lambda: has_failed(program))
        assert ready(program)[0] == 503
        assert refusal(program.connect("dev", token=fresh(key)))[0] == 503


def redirect(issuer: Issuer, request: BaseHTTPRequestHandler) -> None:
    if request.path == "/keys":
        issuer.give(request, 302, Location="/other")
    else:
        issuer.give_set(request)


def endless(issuer: Issuer, request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    try:
        for _ in range(1000):
            request.wfile.write(b" " * 65_536)
    except OSError:
        pass


def broken_off(issuer: Issuer, request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.send_header("Content-Length", "100000")
    request.end_headers()
    request.wfile.write(issuer.body)


@pytest.mark.parametrize("answer", [redirect, endless, broken_off])
def test_answers_that_are_none(tmp_path: Path, issuer: Issuer, answer: object) -> None:
    key = Key("a")
    issuer.body = key_set(key.jwk())
    issuer.answer = lambda request: answer(issuer, request)  # type: ignore[operator]
    with started(tmp_path, issuer) as program:
        eventually(lambda: has_failed(program))
        assert ready(program)[0] == 503
        assert refusal(program.connect("dev", token=fresh(key)))[0] == 503
        assert program.resident_bytes() < 150 << 20
        assert not (tmp_path / "data/jwks.json").exists()


def test_a_certificate_of_somebody_else(tmp_path: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    key = Key("a")
    issuer.body = key_set(key.jwk())
    with started(tmp_path, issuer) as program:
        eventually(lambda: has_failed(program))
        assert refusal(program.connect("dev", token=fresh(key)))[0] == 503


def test_a_stop_does_not_wait_for_an_issuer_that_hangs(tmp_path: Path, issuer: Issuer) -> None:
    hang = threading.Event()

    def wait(_: BaseHTTPRequestHandler) -> None:
        hang.wait(30)

    issuer.answer = wait
    with started(tmp_path, issuer) as program:
        eventually(lambda: issuer.asked > 0)
        began = time.monotonic()
        assert program.terminate() == 0
        assert time.monotonic() - began < 8
    hang.set()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("http://id.example.com/keys", "must be https"),
        ("http://10.0.0.1/keys", "must be https"),
        ("http://127.0.0.1.evil.example/keys", "must be https"),
        ("ftp://id.example.com/keys", "address of a key set"),
        ("id.example.com/keys", "address of a key set"),
        ("https://", "address of a key set"),
        ("https://user:password@id.example.com/keys", "user"),
        ("https://id.example.com:99999/keys", "not an address"),
        ("file:///etc/passwd", "address of a key set"),
    ],
)
def test_addresses_that_are_refused(tmp_path: Path, url: str, told: str) -> None:
    code, said = serve(*FREE, "--set", f"data.folder={tmp_path / 'd'}", "--set", f"auth.jwks_url={url}")
    assert code == 2
    assert "auth.jwks_url" in said
    assert told in said


def test_one_source_of_keys_only(tmp_path: Path) -> None:
    for other in ("auth.secret_file", "auth.public_key_file"):
        code, said = serve(
            *FREE, "--set", f"data.folder={tmp_path / 'd'}", "--set", "auth.jwks_url=https://a/", "--set", f"{other}=x"
        )
        assert code == 2
        assert "not both" in said


def checked(tmp_path: Path, issuer: Issuer, *settings: str) -> dict[str, str]:
    folder, url = f"data.folder={tmp_path / 'd'}", f"auth.jwks_url={issuer.url}"
    given = [part for setting in (folder, url, *settings) for part in ("--set", setting)]
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "--json", *FREE, *given],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    (found,) = [result for result in json.loads(done.stdout) if result["name"] == "auth.jwks_url"]
    assert (done.returncode == 1) == (found["verdict"] == "wrong")
    return dict(found)


def test_check_asks_the_issuer(tmp_path: Path, issuer: Issuer) -> None:
    issuer.body = key_set(Key("a").jwk(), {"kty": "oct", "k": "AAAA"})
    found = checked(tmp_path, issuer, "auth.audience=heiwa")
    assert (found["verdict"], found["found"]) == ("ok", "1 keys; left out: 1 symmetric")
    found = checked(tmp_path, issuer)
    assert found["verdict"] == "warning"
    assert "auth.audience" in found["mend"]
    issuer.body = key_set({"kty": "oct", "k": "AAAA"})
    assert checked(tmp_path, issuer)["verdict"] == "wrong"
    issuer.answer = lambda request: issuer.give(request, 404)
    assert "404" in checked(tmp_path, issuer)["found"]
