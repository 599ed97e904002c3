"""A real PgBouncer between a program and its database."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from loadtest.processes.ports import free_port
from tests.support.packages import need
from tests.support.postgres import Postgres
from tests.support.program import eventually

_USER = "postgres"


class PgBouncer:
    """Session pooling: what a session holds is there, but the session is the pooler's."""

    def __init__(self, server: Postgres) -> None:
        self._program = need("pgbouncer", lambda: shutil.which("pgbouncer"))
        self._server = server
        self._folder = Path(tempfile.mkdtemp(prefix="heiwa-pgbouncer-"))
        self.port = free_port()

    def __enter__(self) -> PgBouncer:
        users, config = self._folder / "users", self._folder / "pgbouncer.ini"
        users.write_text(f'"{_USER}" ""\n')
        config.write_text(
            f"[databases]\n* = host=127.0.0.1 port={self._server.port} user={_USER}\n[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\nauth_type = trust\n"
            f"auth_file = {users}\npool_mode = session\n"
            "ignore_startup_parameters = statement_timeout,idle_in_transaction_session_timeout\n"
        )
        prefix: tuple[str, ...] = ()
        if os.geteuid() == 0:
            shutil.chown(self._folder, _USER, _USER)
            self._folder.chmod(0o755)
            prefix = ("setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups")
        log = (self._folder / "log").open("wb")
        self._process = subprocess.Popen([*prefix, self._program, str(config)], cwd="/", stdout=log, stderr=log)
        log.close()
        eventually(self._listens, what="PgBouncer did not start")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def url(self, url: str) -> str:
        """The same database through the pooler."""
        return url.replace(f":{self._server.port}/", f":{self.port}/")
