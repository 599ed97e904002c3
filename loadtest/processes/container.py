"""A gateway under test in a container: the image itself, with a memory limit, by podman.

It shares the network of this machine, so that addresses, signals and figures are those of a process. The memory limit,
process 1, the read-only disk, SIGTERM and SIGKILL are real.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path

from loadtest.processes import children
from loadtest.processes.gateways import GatewayError, GatewayProcess

# The user of the image, the data folder in it, and the variables that it gets.
USER = 10_001
DATA = "/data"
PASSED = ("AWS_", "ECS_")
# As ecs/service.yaml runs it.
NARROW = ("--read-only", "--read-only-tmpfs=false", "--cap-drop", "all", "--security-opt", "no-new-privileges")


class GatewayContainer(GatewayProcess):
    """`image` is a name that podman knows; `memory_mib` its limit."""

    def __init__(self, name: str, folder: Path, image: str, memory_mib: int) -> None:
        super().__init__(name, folder)
        self._image = image
        self._memory_mib = memory_mib
        self._container = f"heiwa-{name.replace('.', '-')}-{os.getpid()}"
        self._pid_file = folder.parent / f"{name}.pid"
        self._pid = 0

    @property
    def pid(self) -> int:
        """The id of the program (process 1 inside) on this machine."""
        if not self._pid:
            self._pid = int(self._pid_file.read_text())
        return self._pid

    def signal(self, number: int) -> None:
        """See GatewayProcess; the program gets the signal, not podman."""
        with contextlib.suppress(ProcessLookupError, OSError, ValueError):
            if self._process.returncode is None:
                os.kill(self.pid, number)

    async def _spawn(self, given: Mapping[str, object], environment: Mapping[str, str] | None) -> None:
        runtime = shutil.which("podman")
        if runtime is None:
            raise GatewayError("deploy.runtime = podman needs podman (Debian: apt install podman)")
        self.folder.mkdir(parents=True, exist_ok=True)
        await asyncio.to_thread(_give, self.folder)
        own = dict(environment if environment is not None else os.environ)
        own["HEIWA_AUTH__SECRET"] = (await asyncio.to_thread(Path(str(given["auth.secret_file"])).read_text)).strip()
        settings = {**given, "data.folder": DATA}
        del settings["auth.secret_file"]
        passed = [name for name in own if name.startswith((*PASSED, "HEIWA_"))]
        command = [*self._podman(runtime, passed), self._image, "serve", *self.flags(settings)]
        self._process = await children.start(command, self.log, environment={**os.environ, **own})

    async def kill(self, *, expected: bool = True) -> None:
        """See GatewayProcess. A container that never ran is removed, too."""
        if not self._pid and not self._pid_file.exists():
            children.send_signal(self._process, signal.SIGTERM)
        await super().kill(expected=expected)

    async def _wait(self) -> None:
        # From here on it is known without the file.
        await asyncio.to_thread(lambda: self.pid)
        await super()._wait()
        self._pid_file.unlink(missing_ok=True)

    def _podman(self, runtime: str, passed: Sequence[str]) -> list[str]:
        # The default limits exceed what a plain machine allows, and some machines need runc.
        files, processes = (resource.getrlimit(kind)[1] for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC))
        command = [
            runtime,
            *(("--runtime", "runc") if shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin") else ()),
        ]
        command += ["run", "--rm", "--name", self._container, "--pidfile", str(self._pid_file), "--network", "host"]
        command += [
            "--memory",
            f"{self._memory_mib}m",
            "--memory-swap",
            f"{self._memory_mib}m",
            "--no-healthcheck",
            *NARROW,
        ]
        command += [
            "--ulimit",
            f"nofile={files}:{files}",
            "--ulimit",
            f"nproc={min(processes, 10_000)}:{min(processes, 10_000)}",
        ]
        command += ["--volume", f"{self.folder.absolute()}:{DATA}"]
        for name in passed:
            # The values are in podman's environment, so that no argument list shows a secret.
            command += ["--env", name]
        return command


def _give(folder: Path) -> None:
    """Let the user of the image write to a folder, which its owner can still read."""
    folder.chmod(0o755)
    try:
        os.chown(folder, USER, USER)
    except PermissionError as error:
        raise GatewayError(f"{folder} cannot be given to user {USER}: run this as root") from error
