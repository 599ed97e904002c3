"""The command line as a person meets it: through the same entry point, in a folder of its own."""

import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gateway import __version__
from gateway.cli.main import main
from gateway.identity.key_files import local_key
from gateway.identity.token import verify_hs256
from loadtest.processes.ports import free_port
from tests.support.fake_target_health import GROUP

Run = Callable[..., tuple[int, str, str]]
COMMANDS = ("serve", "token", "check", "device")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("HEIWA_TOKEN", "HEIWA_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def heiwa(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["heiwa", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
        output = capsys.readouterr()
        return int(ended.value.code or 0), output.out, output.err

    return run


def test_version(heiwa: Run) -> None:
    assert heiwa("--version") == (0, f"heiwa {__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example_and_no_colour(heiwa: Run, command: str) -> None:
    code, out, _ = heiwa(command, "--help")
    assert code == 0
    assert "Example: heiwa" in out
    assert "\x1b" not in out
    assert re.match(r"Usage: heiwa \w+", out)


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing",),
        ("serve", "--colour"),
        ("token",),
        ("device", "--count", "0"),
        ("device", "--speed", "-1"),
        ("device", "--speed", "nan"),
        ("device", "--duration", "soon"),
        ("device", "--track", "missing.gpx"),
        ("device", "--token", "abc"),
        ("device", "--token", f"a.{'W1tb' * 3000}.c"),
        ("device", "--speed", "inf"),
        ("device", "--url", "nonsense"),
        ("device", "--url", "http://127.0.0.1/ws"),
        ("device", "--set", "listen.public=127.0.0.1:0"),
        ("token", "--sub", ""),
        ("token", "--sub", "é" * 65),
        ("token", "--sub", "x", "--ttl", "0s"),
        ("token", "--sub", "x", "--scope", "location:writ"),
        ("token", "--sub", "x", "--set", "auth.secret_file=missing"),
        ("serve", "--set", "listen.pubic=1"),
        ("serve", "--set", "listen"),
        ("serve", "--config", "missing.toml"),
    ],
)
def test_usage_errors_are_told_and_end_with_2(heiwa: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = heiwa(*arguments)
    assert code == 2
    assert out == ""
    assert "Traceback" not in err
    assert err.strip()


def test_a_track_that_cannot_be_used_is_named_with_its_encoding(heiwa: Run, tmp_path: Path) -> None:
    track = tmp_path / "kyoto.gpx"
    track.write_bytes('<?xml version="1.0" encoding="EUC-JP"?>\n<gpx><name>鴨川</name></gpx>'.encode("cp932"))
    code, _, err = heiwa("device", "--track", str(track))
    assert code == 2
    assert "kyoto.gpx: line 2: the bytes are not EUC-JP" in err


@pytest.mark.parametrize("text", ["[data]\nfolder = " + "[" * 3000, f"x = {'9' * 5000}", "# " + "x" * 2**20, "\xff"])
def test_an_absurd_file_of_settings_is_named(heiwa: Run, tmp_path: Path, text: str) -> None:
    config = tmp_path / "odd.toml"
    config.write_text(text, "latin-1")
    code, _, err = heiwa("check", "--config", str(config))
    assert (code, err.count("\n")) == (2, 1)
    assert "odd.toml" in err


def test_an_error_is_one_clean_line(heiwa: Run) -> None:
    _, _, err = heiwa("token", "--sub", "x", "--ttl", "a\x1b[31m\nb")
    assert err.count("\n") == 1
    assert "\x1b" not in err


def test_an_unexpected_error_shows_no_traceback_unless_asked(heiwa: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr("gateway.cli.main.load", broken)
    code, _, err = heiwa("serve")
    assert (code, err.count("\n")) == (1, 1)
    assert "RuntimeError: oh" in err
    monkeypatch.setenv("HEIWA_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["heiwa", "serve"])
    with pytest.raises(RuntimeError):
        main()


def test_a_token_is_signed_with_the_local_key(heiwa: Run, folder: Path) -> None:
    code, out, _ = heiwa("token", "--sub", "cam-1", "--account", "acme", "--class", "esp-idf", "--ttl", "90s")
    assert code == 0
    claims = verify_hs256(out.strip(), local_key(folder / "heiwa-data"))
    assert (claims.sub, claims.account, claims.device_class) == ("cam-1", "acme", "esp-idf")
    assert claims.scope == "location:write command:receive"


def test_a_token_carries_issuer_and_audience_of_the_settings(heiwa: Run, folder: Path) -> None:
    (folder / "secret").write_bytes(b"s" * 40 + b"\n")
    sets = [f"--set=auth.{pair}" for pair in ("secret_file=secret", "issuer=me", "audience=us")]
    _, out, _ = heiwa("token", "--sub", "a", "--json", *sets)
    answer = json.loads(out)
    claims = verify_hs256(answer["token"], b"s" * 40)
    assert (claims.iss, claims.aud, claims.exp) == ("me", "us", answer["expires_s"])
    assert answer["claims"]["sub"] == "a"


def test_with_only_a_public_key_no_token_is_made(heiwa: Run) -> None:
    code, _, err = heiwa("token", "--sub", "a", "--set", "auth.public_key_file=key.pem")
    assert code == 2
    assert "private key" in err


def test_settings_are_shown_with_their_origins(heiwa: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "heiwa.toml").write_text("[log]\nlevel = 'debug'\n")
    monkeypatch.setenv("HEIWA_DATA__FOLDER", "here")
    _, out, _ = heiwa("serve", "--show-settings", "--set", "drain.stop_timeout_s=7")
    assert re.search(r'log.level += "debug" +# heiwa.toml', out)
    assert re.search(r'data.folder += "here" +# HEIWA_DATA__FOLDER', out)
    assert re.search(r"drain.stop_timeout_s += 7.0 +# --set drain.stop_timeout_s", out)
    _, out, _ = heiwa("serve", "--show-settings", "--json")
    assert json.loads(out)["log.level"] == {"value": "debug", "origin": "heiwa.toml"}


def test_check_finds_a_good_machine_good(heiwa: Run, folder: Path) -> None:
    ports = "--set=listen.public=127.0.0.1:0", "--set=listen.operations=127.0.0.1:0"
    code, out, _ = heiwa("check", *ports)
    assert code == 0, out
    assert not (folder / "heiwa-data").exists()


def test_check_names_what_is_wrong_and_how_to_mend_it(heiwa: Run, folder: Path) -> None:
    (folder / "heiwa-data").mkdir(mode=0o755)
    (folder / "heiwa-data").chmod(0o755)
    (folder / "not.pem").write_text("no")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, out, _ = heiwa(
            "check",
            "--json",
            f"--set=listen.public=127.0.0.1:{taken.getsockname()[1]}",
            "--set=listen.operations=0.0.0.0:0",
            "--set=listen.tls_certificate_file=not.pem",
            "--set=auth.secret_file=not.pem",
            "--set=connections.maximum=100000000",
            "--set=connections.memory_limit_bytes=1000000",
        )
    assert code == 1
    found = {result["name"]: result for result in json.loads(out)}
    wrong = {name for name, result in found.items() if result["verdict"] == "wrong"}
    warned = {name for name, result in found.items() if result["verdict"] == "warning"}
    assert {"listen.public", "listen.tls", "auth.secret_file", "files"} == wrong
    assert {"data.folder", "listen.operations", "memory"} <= warned
    assert all(result["mend"] for name, result in found.items() if name in wrong | warned)


FREE = ("--set=listen.public=127.0.0.1:0", "--set=listen.operations=127.0.0.1:0")


def _together(*settings: str) -> tuple[str, ...]:
    port = free_port()
    return tuple(f"--set={setting}".replace("PORT", str(port)) for setting in settings)


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("listen.public", ("listen.public=127.0.0.1:PORT,127.0.0.1:PORT",)),
        ("listen.operations", ("listen.public=127.0.0.1:PORT", "listen.operations=127.0.0.1:PORT")),
        ("listen.operations", ("listen.public=0.0.0.0:PORT", "listen.operations=127.0.0.1:PORT")),
        ("listen.operations", ("listen.public=127.0.0.1:PORT", "listen.operations=:PORT")),
        ("listen.operations", ("listen.public=127.0.0.1:PORT", "listen.operations=localhost:PORT")),
        ("listen.operations", ("listen.public=[::1]:PORT", "listen.operations=[0:0::1]:PORT")),
        ("listen.public", ("listen.public=127.0.0.1:PORT,127.0.0.1:PORT", "listen.reuse_port=true")),
        ("listen.public", ("listen.public=127.0.0.1",)),
        ("listen.public", ("listen.public=127.0.0.1:１８",)),
        ("listen.public", ("listen.public=",)),
        ("listen.trusted_proxies", ("listen.trusted_proxies=10.0.0.0/33",)),
        ("listen.trusted_proxies", ("listen.trusted_proxies=10.0.0.0/8;192.168.0.0/16",)),
        ("listen.proxy_protocol", ("listen.proxy_protocol=true",)),
        ("listen.allowed_origins", ("listen.allowed_origins=*",)),
        ("listen.allowed_origins", ("listen.allowed_origins=app.example.com",)),
        ("connections.max_age_h", ("connections.max_age_h=36-24",)),
        ("connections.maximum", ("connections.maximum=100000000",)),
        ("listen.tls", ("listen.tls_key_file=key.pem",)),
        ("listen.tls", ("listen.tls_certificate_file=nothing.pem",)),
        ("auth.public_key_file", ("auth.public_key_file=nothing.pem",)),
        ("auth.public_key_file", ("auth.public_key_file=a", "auth.secret_file=b")),
        ("drain.target", ("drain.target=10.0.0.1:80",)),
        ("drain.target_group_arns", ("drain.target_group_arns=web", "auth.secret_file=secret")),
        ("auth.secret", (f"drain.target_group_arns={GROUP}",)),
    ],
)
def test_what_serve_refuses_check_calls_wrong(heiwa: Run, folder: Path, key: str, settings: tuple[str, ...]) -> None:
    (folder / "secret").write_bytes(b"x" * 48)
    given = (*FREE, *_together(*settings))
    code, out, _ = heiwa("check", "--json", *given)
    wrong = [result for result in json.loads(out) if result["verdict"] == "wrong"]
    assert code == 1
    assert key in {"files": "connections.maximum"}.get(wrong[0]["name"], wrong[0]["name"])
    assert wrong[0]["mend"]
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "serve", *given], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "unexpected" not in done.stderr
    assert key.partition(".")[0] in done.stderr


def test_check_warns_of_origins_that_no_browser_sends(heiwa: Run, folder: Path) -> None:
    given = "--set=listen.allowed_origins=https://App.example.com:443/,file://,http://10.0.0.7/"
    code, out, _ = heiwa("check", "--json", *FREE, given)
    assert code == 0
    (warning,) = [result for result in json.loads(out) if result["name"] == "listen.allowed_origins"]
    assert warning["verdict"] == "warning"
    assert "file://" in warning["found"]
    assert "example.com" not in warning["found"]


def test_a_device_without_a_server_ends_with_3(heiwa: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"ws://127.0.0.1:{gone.getsockname()[1]}/ws"
    # In a process of its own, for it is stopped by a signal.
    arguments = [sys.executable, "-m", "gateway", "device", "--url", url, "--json", "--speed", "0", "--count", "3"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert "cannot reach" in process.stderr.readline()
        process.terminate()
        out, err = process.communicate(timeout=30)
    assert process.returncode == 3, err
    summary = json.loads(out)
    assert (summary["measured"], summary["unacked"], summary["answered"]) == (3, 3, False)


def test_the_command_line_of_a_gateway_stays_light() -> None:
    heavy = "rich", "pydantic", "jwt", "cryptography", "pygments", "aiohttp", "websockets.asyncio.client"
    code = (
        "import sys, gateway.cli.main\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
        "import gateway.app.serving\n"
        f"print([name for name in {heavy[:5]!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["[]", "[]"]


@pytest.mark.parametrize(("bits", "warned"), [(2048, False), (3072, True)])
def test_check_warns_of_tokens_that_small_clients_cannot_send(
    heiwa: Run, tmp_path: Path, bits: int, warned: bool
) -> None:
    key = rsa.generate_private_key(65_537, bits).public_key()
    pem = tmp_path / "public.pem"
    pem.write_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    code, out, _ = heiwa("check", "--json", *FREE, "--set", f"auth.public_key_file={pem}")
    assert code == 0
    found = [result["found"] for result in json.loads(out) if result["name"] == "auth tokens"]
    assert [f"RSA key of {bits} bits" in one for one in found] == [True] * warned


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ("device_classes.esp-idf.max_frame_bytes=2048", "device_classes.esp-idf"),
        ("device_classes.arduino.max_frame_bytes=16384", "device_classes.arduino"),
        ("device_classes.esp-idf.close=frame:1001", "device_classes.esp-idf"),
        ("connections.heartbeat_s=60", "connections.heartbeat_s"),
    ],
)
def test_check_warns_of_what_small_clients_and_balancers_do_not_take(heiwa: Run, setting: str, name: str) -> None:
    code, out, _ = heiwa("check", "--json", *FREE, "--set", setting)
    assert code == 0
    (warning,) = [result for result in json.loads(out) if result["name"] == name]
    assert warning["verdict"] == "warning"
    assert name in warning["mend"] or "below" in warning["mend"]


def test_check_gives_the_limits_of_devices(heiwa: Run) -> None:
    _, out, _ = heiwa("check", "--json", *FREE)
    (limits,) = [result["found"] for result in json.loads(out) if result["name"] == "devices"]
    assert '{"type":"ping"} every 22.5 s' in limits
    assert "760 bytes" in limits


@pytest.mark.parametrize("folder_name", ["/proc/x", "/proc/x/y", "file/x", "link"])
def test_check_says_that_the_data_folder_cannot_be_made(heiwa: Run, tmp_path: Path, folder_name: str) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "gone")
    code, out, _ = heiwa("check", "--json", *FREE, "--set", f"data.folder={tmp_path / folder_name}")
    (found,) = [result for result in json.loads(out) if result["name"] == "data.folder"]
    assert (code, found["verdict"]) == (1, "wrong")
    assert found["mend"]


@pytest.mark.parametrize(
    "url",
    [
        "ws://127.0.0.1:99999/ws",
        "ws://127.0.0.1:x/ws",
        "ws://[::1/ws",
        "ws://h\u2100x/",
        "ws://",
        "ws://a..b/ws",
        f"ws://{'a' * 64}/ws",
    ],
)
def test_a_device_refuses_what_is_no_address(heiwa: Run, url: str) -> None:
    code, _, err = heiwa("device", "--url", url, "--count", "1")
    assert code == 2
    assert "--url" in err
    assert "unexpected" not in err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--key", ""), "--key: must have 1 to 255 printable characters"),
        (("--key", "a b"), "--key: must have 1 to 255 printable characters"),
        (("--input", ""), "--input: is empty"),
        (("--input", "[1]"), "--input: '[1]' is not a JSON object"),
        (("--input", '{"a": NaN}'), "NaN is no number of JSON"),
        (("--input", '{"a": "\\ud83d"}'), "--input: a text in it holds half of a surrogate pair"),
        (("--input", '{"a": ' + "9" * 9_000), "99…' is not JSON"),
    ],
)
def test_what_a_run_cannot_be_begun_with_is_told(heiwa: Run, arguments: tuple[str, str], told: str) -> None:
    code, _, error = heiwa("workflow", "run", "hello", *arguments)
    assert code == 2
    assert told in error
    assert len(error) < 400


@pytest.mark.parametrize(("url", "code"), [("foo", 2), ("ftp://x", 2), ("http://", 2), ("https://heiwa.internal/x", 0)])
def test_check_looks_at_the_address_that_jobs_are_told(heiwa: Run, url: str, code: int) -> None:
    said = heiwa(
        "check",
        "--set",
        f"workflows.jobs_url={url}",
        "--set",
        "listen.public=127.0.0.1:0",
        "--set",
        "listen.operations=127.0.0.1:0",
    )
    assert ("workflows.jobs_url" in "".join(map(str, said[1:]))) is bool(code), said
