"""A start that fails says which setting or server is at fault, ends with the documented code, and leaves nothing."""

from __future__ import annotations

import json
import os
import re
import socket
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.program import Program, location, receive, send

FREE = ("--set", "listen.public=127.0.0.1:0", "--set", "listen.operations=127.0.0.1:0")


def serve(*arguments: str, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def test_port_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        code, said = serve(*FREE, "--set", f"listen.operations={address}", "--set", f"data.folder={tmp_path / 'd'}")
    assert code == 1
    assert "listen.operations" in said
    assert address in said
    assert not (tmp_path / "d").exists(), "a failed start left a folder behind"


def test_folder_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    code, said = serve(*FREE, "--set", f"data.folder={tmp_path / 'file'}")
    assert code == 1
    assert "data.folder" in said


def test_folder_not_writable() -> None:
    # /proc takes no folders, not even from root, for whom permissions do not count.
    code, said = serve(*FREE, "--set", "data.folder=/proc/heiwa")
    assert code == 1
    assert "data.folder" in said
    assert "/proc/heiwa" in said


def test_second_process_on_the_folder(tmp_path: Path) -> None:
    with Program(tmp_path / "data") as program:
        code, said = serve(*FREE, "--set", f"data.folder={tmp_path / 'data'}")
        assert code == 1
        assert str(program.process.pid) in said
        assert program.get("/api/v1/devices")["devices"] == []


def test_a_key_that_others_can_read_is_told(tmp_path: Path) -> None:
    with Program(tmp_path / "data", "log.format=json") as program:
        assert program.terminate() == 0
        assert not [event for event in program.events() if event["event"] == "key_readable_by_others"]
    (tmp_path / "data/key").chmod(0o644)
    with Program(tmp_path / "data", "log.format=json") as program:
        (told,) = [event for event in program.events() if event["event"] == "key_readable_by_others"]
        assert told["level"] == "warning"
        assert told["path"].endswith("/key")


def test_secret_too_short(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("short")
    code, said = serve(*FREE, "--set", f"data.folder={tmp_path / 'd'}", "--set", f"auth.secret_file={secret}")
    assert code == 2
    assert "auth.secret_file" in said
    assert "short" not in said.replace("shorter", ""), "a secret must not be shown"


def test_public_key_is_none(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN NONSENSE-----")
    code, said = serve(*FREE, "--set", f"data.folder={tmp_path / 'd'}", "--set", f"auth.public_key_file={key}")
    assert code == 2
    assert "auth.public_key_file" in said


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("HEIWA_CONNECTIONS__HARTBEAT_S", "5", "connections.heartbeat_s"),
        ("HEIWA_LISTEN__BACKLOG", "0", ">= 1"),
        ("HEIWA_CONNECTIONS__DUPLICATES", "both", "both"),
        ("HEIWA_LISTEN__PUBLIC", "nowhere", "host:port"),
        ("HEIWA_LISTEN__TRUSTED_PROXIES", "10.0.0/8", "listen.trusted_proxies"),
    ],
)
def test_wrong_setting(tmp_path: Path, name: str, value: str, told: str) -> None:
    code, said = serve("--set", f"data.folder={tmp_path / 'd'}", **{name: value})
    assert code == 2
    assert told in said


def test_unknown_setting_in_the_file(tmp_path: Path) -> None:
    config = tmp_path / "heiwa.toml"
    config.write_text("[connections]\nheartbeat = 5\n")
    code, said = serve("--config", str(config))
    assert code == 2
    assert str(config) in said
    assert "connections.heartbeat_s" in said


def test_store_of_a_newer_version(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with Program(folder) as program:
        with program.connect("dev") as connection:
            send(connection, location("x"))
            receive(connection, "ack")
        assert program.terminate() == 0
    day = next((folder / "locations").glob("*.db"))
    with sqlite3.connect(day) as database:
        database.execute("PRAGMA user_version = 999")
    database.close()
    code, said = serve(*FREE, "--set", f"data.folder={folder}")
    assert code == 4
    assert day.name in said
    (told,) = stores_told(folder)
    assert told["verdict"] == "wrong"
    assert "schema 999" in told["found"]


def stores_told(folder: Path) -> list[dict[str, str]]:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "check", "--json", *FREE, "--set", f"data.folder={folder}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return [result for result in json.loads(done.stdout) if result["name"] == "stores"]


def test_check_reads_the_stores_of_a_gateway_that_runs(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    assert stores_told(folder) == []
    with Program(folder) as program:
        with program.connect("dev") as connection:
            send(connection, location("x"))
            receive(connection, "ack")
        (told,) = stores_told(folder)
        assert (told["verdict"], told["found"]) == ("ok", "3 files can be read by this version")
        assert program.terminate() == 0
    (folder / "spool.db").write_bytes(b"x" * 4096)
    (told,) = stores_told(folder)
    assert told["verdict"] == "warning", "a start takes what it can of it"
    assert "spool.db is not an SQLite database" in told["found"]
    day = next((folder / "locations").glob("*.db"))
    day.write_bytes(b"x" * 4096)
    assert [told["verdict"] for told in stores_told(folder)] == ["wrong", "warning"]
    code, said = serve(*FREE, "--set", f"data.folder={folder}")
    assert code == 1
    assert day.name in said


def test_settings_are_shown_with_their_origin(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", "--show-settings"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "HEIWA_CONNECTIONS__HEARTBEAT_S": "7"},
        cwd=tmp_path,
    )
    assert done.returncode == 0
    line = next(line for line in done.stdout.splitlines() if "connections.heartbeat_s" in line)
    assert "7" in line
    assert "HEIWA_CONNECTIONS__HEARTBEAT_S" in line


def test_there_is_room_for_all_connections_from_the_start(tmp_path: Path) -> None:
    with Program(tmp_path / "data", "connections.maximum=5000") as program:
        status = Path(f"/proc/{program.process.pid}/status").read_text()
        slots = int(re.findall(r"FDSize:\s+(\d+)", status)[0])
        assert slots >= 5000
        assert program.open_files() < 100
