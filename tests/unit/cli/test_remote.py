"""`--url` of `heiwa drain`: what is no address is said before anybody is called."""

from __future__ import annotations

import socket
import threading

import pytest

from gateway.cli.remote import Remote, RemoteDrain
from gateway.errors import SettingsError, UnreachableError


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8081", "ftp://host", "http://", "http://host:80x", "http://host:0", "http://[::1", "http://h\n"],
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Remote(url, lambda: "x.y.z")
    assert refused.value.key == "--url"


@pytest.mark.parametrize("answer", [b"+PONG\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", b""])
def test_who_answers_something_else_is_not_a_gateway(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            opened, _ = server.accept()
            with opened:
                opened.recv(4096)
                opened.sendall(answer)

        serving = threading.Thread(target=serve)
        serving.start()
        with pytest.raises(UnreachableError):
            RemoteDrain(Remote(f"http://127.0.0.1:{server.getsockname()[1]}", lambda: "x.y.z")).status()
        serving.join(10)
