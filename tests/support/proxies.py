"""Real proxies with the configurations of docs/examples/proxies, whose addresses are replaced by free ones."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from loadtest.processes.ports import free_port
from tests.support.packages import need
from tests.support.process import ROOT
from tests.support.program import eventually

FOLDER = ROOT / "docs/examples/proxies"
WITHIN_S = 20.0


class Kind(NamedTuple):
    """`command` and `reload` are given the program, the configuration, and the folder of the run.

    `reload` None: a signal, `reload_signal`, does it. `keeps`: a device outlives a reload.
    """

    package: str
    program: str
    config: str
    command: Callable[[str, Path, Path], Sequence[str]]
    reload: Callable[[str, Path], Sequence[str]] | None = None
    reload_signal: int = signal.SIGHUP
    keeps: bool = True
    settings: tuple[str, ...] = ()


def _nginx(program: str, config: Path, folder: Path) -> Sequence[str]:
    rest = f"daemon off; worker_processes 1; worker_rlimit_nofile 65536; pid {folder}/pid; error_log stderr error;"
    return program, "-p", str(folder), "-c", str(config), "-e", "stderr", "-g", rest


def _haproxy(program: str, config: Path, folder: Path) -> Sequence[str]:
    return program, "-W", "-db", "-q", "-f", str(config)


def _apache(program: str, config: Path, folder: Path) -> Sequence[str]:
    lines = ("User nobody", "Group nogroup", f"PidFile {folder}/pid", f"ErrorLog {folder}/errors")
    added = [part for line in lines for part in ("-C", line)]
    return program, "-d", str(folder), "-f", str(config), *added, "-DFOREGROUND"


def _caddy(program: str, config: Path, folder: Path) -> Sequence[str]:
    return program, "run", "--adapter", "caddyfile", "--config", str(config)


def _caddy_reload(program: str, config: Path) -> Sequence[str]:
    return program, "reload", "--force", "--adapter", "caddyfile", "--config", str(config)


KINDS = {
    "nginx": Kind("nginx-core", "nginx", "nginx.conf", _nginx),
    "haproxy": Kind("haproxy", "haproxy", "haproxy.cfg", _haproxy, reload_signal=signal.SIGUSR2),
    "haproxy-tcp": Kind(
        "haproxy",
        "haproxy",
        "haproxy-tcp.cfg",
        _haproxy,
        reload_signal=signal.SIGUSR2,
        settings=("listen.proxy_protocol=true",),
    ),
    # Caddy 2.6 ends all websockets with 1001.
    "caddy": Kind("caddy", "caddy", "Caddyfile", _caddy, _caddy_reload, keeps=False),
    "apache": Kind("apache2-bin", "apache2", "apache.conf", _apache, reload_signal=signal.SIGUSR1),
}


class Proxy:
    """A proxy in front of two gateways, on `port` of 127.0.0.1."""

    def __init__(self, kind: Kind, folder: Path, gateways: Sequence[int]) -> None:
        self._kind = kind
        self._program = need(kind.package, lambda: shutil.which(kind.program, path=f"{os.environ['PATH']}:/usr/sbin"))
        self._config = folder / kind.config
        self._folder = folder
        self.port = free_port()
        text = (FOLDER / kind.config).read_text()
        places = {
            "10.0.0.11:8080": f"127.0.0.1:{gateways[0]}",
            "10.0.0.12:8080": f"127.0.0.1:{gateways[1]}",
            "localhost:2019": f"127.0.0.1:{free_port()}",
            ":8000": f":{self.port}",
            "listen 8000": f"listen 127.0.0.1:{self.port}",
            "Listen 8000": f"Listen 127.0.0.1:{self.port}",
            " modules/": " /usr/lib/apache2/modules/",
        }
        for named, real in places.items():
            text = text.replace(named, real)
        self._config.write_text(text)

    def __enter__(self) -> Proxy:
        self._log = (self._folder / "proxy.log").open("ab")
        command = self._kind.command(self._program, self._config, self._folder)
        self._process = subprocess.Popen(command, stdout=self._log, stderr=self._log, env=self._environment())
        try:
            eventually(self._listens, WITHIN_S, "the proxy does not listen")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(WITHIN_S)
        self._log.close()

    def reload(self) -> None:
        """Read the configuration again, as an operator has it do."""
        if self._kind.reload is None:
            self._process.send_signal(self._kind.reload_signal)
        else:
            command = self._kind.reload(self._program, self._config)
            subprocess.run(command, check=True, timeout=60, stdout=self._log, stderr=self._log, env=self._environment())

    def _listens(self) -> bool:
        assert self._process.poll() is None, (self._folder / "proxy.log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
            return True
        return False

    def _environment(self) -> dict[str, str]:
        return os.environ | {"HOME": str(self._folder), "XDG_DATA_HOME": str(self._folder)}
