import io

import pytest

from gateway.cli.device import exit_code, local_url
from gateway.device.display import Display, Summary, line, summary, text
from gateway.device.outbox import Outbox
from gateway.device.plan import Record
from gateway.errors import SettingsError
from gateway.settings.model import Listen


def record() -> Record:
    outbox = Outbox(10, 10, 30)
    for name in ("a", "b", "c"):
        outbox.put(name, b'{"id":"%s"}' % name.encode())
    outbox.take(0.0, 500, 1000)
    made = Record(outbox, measured=3, connects=1, answered=True)
    for latency_ms in outbox.acknowledge(["a"], 0.005):
        made.latency.add(latency_ms)
    made.durabilities["indexed"] += 1
    outbox.refuse(["b"], None, 0.1)
    made.refusals["invalid"] += 1
    return made


def test_the_line_says_it_all_in_one_line() -> None:
    shown = line(record(), "connected")
    assert " ".join(shown.split()) == "connected sent 3 acked 1 pending 1 1 rejected p50 5.0 ms p99 5.0 ms"
    assert len(shown) < 100


def test_the_summary_adds_up() -> None:
    result = summary(record(), "d", "acme", 1.0)
    assert result.measured == result.acked + result.unacked + result.rejected + result.dropped
    shown = text(result)
    assert "3 measured, 1 acknowledged (1 indexed)" in shown
    assert "1 refused for good: invalid" in shown
    assert "1 not acknowledged: those that were sent may or may not be stored" in shown


def result(**changes: object) -> Summary:
    values: dict[str, object] = dict.fromkeys(("unacked", "rejected", "dropped", "resent"), 0)
    values |= {"device": "d", "account": "a", "measured": 1, "acked": 1, "connects": 1, "answered": True}
    values |= {"elapsed_s": 1.0, "p50_ms": None, "p99_ms": None, "durability": {}, "refusals": {}}
    return Summary(**(values | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"unacked": 1}, 1),
        ({"rejected": 1}, 1),
        ({"dropped": 1}, 1),
        ({"stopped_by": "replaced"}, 1),
        ({"stopped_by": "the server refused the token", "connects": 0}, 1),
        ({"unacked": 1, "connects": 0, "answered": False}, 3),
        ({"stopped_by": "cannot be reached", "connects": 0, "answered": False}, 3),
    ],
)
def test_exit_codes(changes: dict[str, object], code: int) -> None:
    assert exit_code(result(**changes)) == code


def test_notes_go_where_they_do_not_spoil_json(capsys: pytest.CaptureFixture[str]) -> None:
    Display(quiet=True).note("hello")
    Display(quiet=False).note("there")
    output = capsys.readouterr()
    assert (output.out, output.err) == ("there\n", "hello\n")


def test_a_terminal_gets_its_line_cleared() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    display = Display(quiet=False, stream=stream)
    display.note("hello")
    display.end()
    assert stream.getvalue() == "\r\x1b[Khello\n\r\x1b[K"


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        (Listen(), "ws://127.0.0.1:8080/ws"),
        (Listen(public="0.0.0.0:9000,127.0.0.1:9001"), "ws://127.0.0.1:9000/ws"),
        (Listen(public="[::]:9000"), "ws://[::1]:9000/ws"),
        (Listen(public="gw.example:443", tls_certificate_file="c.pem"), "wss://gw.example:443/ws"),
    ],
)
def test_the_gateway_of_the_settings_is_found(listen: Listen, url: str) -> None:
    assert local_url(listen) == url


def test_a_port_that_was_picked_must_be_named() -> None:
    with pytest.raises(SettingsError, match="--url"):
        local_url(Listen(public="127.0.0.1:0"))
