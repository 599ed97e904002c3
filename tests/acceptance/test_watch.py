"""`heiwa watch` and `heiwa drain status --watch` beside a gateway that ends and comes back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.process import ROOT
from tests.support.program import Program, location, receive, send


def _heiwa(*arguments: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "gateway", *arguments]
    return subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _next(process: subprocess.Popen[str]) -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


def test_a_dog_is_watched_over_a_restart_of_the_gateway(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program:
        port = program.public_port
        token = program.token("owner", "location:read")
        with program.connect("dog-1") as dog:
            send(dog, location("e1", lat=1.0))
            receive(dog, "ack")
            watching = _heiwa("watch", "device:dog-1", "--url", program.url, "--token", token, "--json", "--count", "4")
            assert _next(watching)["snapshot"]["location"]["lat"] == 1.0
            send(dog, location("e2", lat=2.0))
            assert _next(watching)["data"]["location"]["lat"] == 2.0
        assert not _next(watching)["data"]["connected"]
        theirs = program.token("x", "location:read", "other")
        foreign = _heiwa("watch", "device:dog-1", "--url", program.url, "--token", theirs)
        _, said = foreign.communicate(timeout=60)
        assert (foreign.returncode, "not_found" in said) == (1, True)
        assert program.terminate() == 0
    with Program(tmp_path / "data", f"listen.public=127.0.0.1:{port}") as program:
        again = _next(watching)["snapshot"]
        assert (again["connected"], again["location"]["lat"]) == (False, 2.0)
        with program.connect("dog-1") as dog:
            assert _next(watching)["data"]["connected"]
            send(dog, location("e3", lat=3.0))
            assert _next(watching)["data"]["location"]["lat"] == 3.0
        rest, _ = watching.communicate(timeout=20)
        assert (watching.returncode, rest) == (0, "")
        command = ("--token", program.token("operator", "admin"), "--url", program.operations, "--gateway", program.url)
        shown = _heiwa("drain", "status", "--watch", "--json", *command)
        told, said = shown.communicate(timeout=60)
        assert shown.returncode == 0, said
        assert json.loads(told)["gateways"] == 1


def test_the_gateway_that_is_asked_for_is_the_one_that_is_shown(tmp_path: Path) -> None:
    key = f"auth.secret_file={tmp_path}/here/key"
    with Program(tmp_path / "here") as here, Program(tmp_path / "there", key) as there, here.connect("dog-1"):
        asked = ("--url", there.operations, "--token", here.token("me", "admin"))
        shown = _heiwa("drain", "status", "--watch", "--json", *asked, "--set", f"listen.public={here.url[5:-3]}")
        found, said = shown.communicate(timeout=60)
        assert shown.returncode == 0, said
        assert json.loads(found)["connections"] == 0
        assert "this gateway alone" in said
