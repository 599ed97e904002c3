"""A real PostgreSQL, found or installed, in a folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import uuid
from pathlib import Path

import asyncpg

from loadtest.processes.ports import free_port
from tests.support.packages import need

_USER = "postgres"
_TIMEOUT_S = 60


def _programs() -> Path | None:
    """The folder of the server's programs: Debian does not put it on the PATH."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else []
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    return next((folder for folder in folders if (folder / "postgres").exists() and (folder / "initdb").exists()), None)


class Postgres:
    """Started by `start`; `url` makes a database that nobody else has."""

    def __init__(self) -> None:
        self._programs = need("postgresql", _programs)
        # Its user has to reach the folder, whoever runs the tests.
        self._folder = Path(tempfile.mkdtemp(prefix="heiwa-postgres-"))
        self._prefix: tuple[str, ...] = ()
        if os.geteuid() == 0:
            shutil.chown(self._folder, _USER, _USER)
            self._prefix = ("setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups")
        self._folder.chmod(0o755)
        self.port = free_port()

    def start(self, *options: str) -> None:
        """`options` are settings, `name=value`."""
        data = str(self._folder / "data")
        if not Path(data).exists():
            self._run("initdb", "-D", data, "-U", _USER, "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        given = [f"-p {self.port}", f"-k {self._folder}", "-c listen_addresses=127.0.0.1", "-c fsync=off"]
        given += [f"-c {option}" for option in options]
        log = str(self._folder / "log")
        self._run("pg_ctl", "-D", data, "-w", "-t", str(_TIMEOUT_S), "-l", log, "-o", " ".join(given), "start")

    def stop(self, how: str = "fast") -> None:
        """`immediate` is a crash."""
        self._run("pg_ctl", "-D", str(self._folder / "data"), "-w", "-m", how, "stop")

    def forget(self) -> None:
        """Stop it and remove everything."""
        self.stop("immediate")
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def pid(self) -> int:
        """Of its main process."""
        return int((self._folder / "data" / "postmaster.pid").read_text().split()[0])

    def freeze(self) -> None:
        """No process of it does anything; the kernel still takes connections and what is sent."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        main = self.pid
        # First the one that makes others.
        os.kill(main, number)
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == main:
                    os.kill(int(folder.name), number)

    def url(self) -> str:
        """A new database."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        asyncio.run(self._make(name))
        return f"postgresql+asyncpg://{_USER}@127.0.0.1:{self.port}/{name}"

    async def _make(self, name: str) -> None:
        connection = await asyncpg.connect(host="127.0.0.1", port=self.port, user=_USER, database="postgres")
        try:
            await connection.execute(f'CREATE DATABASE "{name}"')
        finally:
            await connection.close()

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._prefix, str(self._programs / program), *arguments]
        done = subprocess.run(command, cwd="/", capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"
