"""The image, built and run by real tools: podman with runc, from a base image made of Debian's packages.

No registry is asked: what stands for the official image of Python is laid out as it is (the interpreter under
/usr/local, no bytecode), and tagged with its name.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.support.packages import missing, need
from tests.support.process import ROOT

BASE = "docker.io/library/python:3.13-slim"
# Each checkout has its own.
IMAGE = f"localhost/heiwa-test-{zlib.crc32(str(ROOT).encode()):08x}"
BUILD_S = 900
SUITE = "trixie"
# crun refuses hybrid control groups; the default limits are above what a plain machine allows.
PODMAN = ("podman", "--runtime", "runc")
LIMITS = ("--network", "host", "--ulimit", "nofile=20000:20000", "--ulimit", "nproc=10000:10000")
# As ecs/service.yaml runs it.
NARROW = ("--read-only", "--read-only-tmpfs=false", "--cap-drop", "all", "--security-opt", "no-new-privileges")
_PACKAGES = "python3,python3-venv,ca-certificates,netbase,tzdata"
# python:slim has its interpreter there, pip beside it, and no bytecode anywhere.
_AS_OFFICIAL = """
ln -s ../../bin/python3 "$1/usr/local/bin/python3"
mkdir -p "$1"/usr/local/lib/python3.13/site-packages/pip "$1"/usr/local/lib/python3.13/ensurepip
find "$1/usr/lib" -name '*.pyc' -delete
rm -rf "$1"/usr/share/doc "$1"/usr/share/man "$1"/var/cache/*
"""


def podman(*arguments: str, check: bool = True, within_s: float = 120) -> subprocess.CompletedProcess[str]:
    """Run podman. Raises AssertionError with what it said."""
    done = subprocess.run([*PODMAN, *arguments], capture_output=True, text=True, timeout=within_s, check=False)
    assert done.returncode == 0 or not check, f"podman {' '.join(arguments)}: {done.stderr}"
    return done


@functools.cache
def image() -> str:
    """The name of an image of this checkout, built once; skips the test where that cannot be."""
    for package in ("podman", "buildah", "runc", "catatonit"):
        need(package, lambda name=package: _installed(name))  # type: ignore[misc]
    if os.geteuid() != 0:
        missing("needs root, or subordinate ids, to build and run containers")
    with _one_at_a_time():
        _make_base()
        build(IMAGE)
    return IMAGE


def build(tag: str, *options: str) -> None:
    """`make image`, offline but for pip."""
    environment = {**os.environ, "BUILDAH_ISOLATION": "chroot", "BUILDER": "podman"}
    command = [str(ROOT / "image/build.sh"), tag, "--pull=never", *options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=BUILD_S, check=False)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def _installed(name: str) -> str | None:
    places = os.environ["PATH"] + ":/usr/sbin:/usr/libexec/podman:/usr/lib/podman"
    return shutil.which(name, path=places)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    path = ROOT / ".cache/containers.lock"
    path.parent.mkdir(exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make_base() -> None:
    if podman("image", "exists", BASE, check=False).returncode == 0:
        return
    need("mmdebstrap", lambda: shutil.which("mmdebstrap"))
    archive = ROOT / ".cache/python-base.tar"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={_PACKAGES}"]
    command += [f"--customize-hook={_AS_OFFICIAL}", SUITE, str(archive)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BUILD_S, check=False)
        if done.returncode != 0:
            missing(f"needs the packages of Debian {SUITE}: {done.stderr[-500:]}")
        podman("import", "--change", 'CMD ["python3"]', str(archive), BASE, within_s=BUILD_S)
    finally:
        archive.unlink(missing_ok=True)


class Container:
    """`heiwa serve` in a container on addresses of its own. `options` are podman's, `environment` the program's."""

    def __init__(
        self, name: str, *options: str, environment: Mapping[str, str] | None = None, command: tuple[str, ...] = ()
    ) -> None:
        self.name = f"heiwa-test-{name}-{os.getpid()}"
        # Every test has loopback addresses of its own, for all share the machine's network.
        self.host = f"127.9.{os.getpid() % 250 + 1}.{len(name) + sum(name.encode()) % 200 + 1}"
        given = {"HEIWA_LISTEN__PUBLIC": f"{self.host}:8080", "HEIWA_LISTEN__OPERATIONS": f"{self.host}:8081"}
        self.arguments = ["--name", self.name, *LIMITS, "--no-healthcheck", *options]
        for key, value in {**given, **(environment or {})}.items():
            self.arguments += ["--env", f"{key}={value}"]
        self.arguments += [image(), *command]

    def __enter__(self) -> Container:
        self.start()
        self.wait_ready()
        return self

    def __exit__(self, *_: object) -> None:
        podman("rm", "--force", "--time", "0", "--volumes", self.name, check=False)

    def start(self) -> None:
        """Make and start it; does not wait."""
        podman("run", "--detach", *self.arguments)

    def wait_ready(self, within_s: float = 30) -> None:
        """Until it answers on its operations listener. Raises AssertionError with its log."""
        end_s = time.monotonic() + within_s
        while True:
            try:
                with urllib.request.urlopen(f"{self.operations}/readyz", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except OSError:
                pass
            assert self.running, f"it ended with {self.exit_code}: {self.log()}"
            assert time.monotonic() < end_s, f"it is not ready: {self.log()}"
            signal.sigtimedwait([], 0.02)

    @property
    def operations(self) -> str:
        return f"http://{self.host}:8081"

    @property
    def url(self) -> str:
        return f"ws://{self.host}:8080/ws"

    def state(self) -> dict[str, Any]:
        """What podman knows of it."""
        found: dict[str, Any] = json.loads(podman("inspect", "--format", "{{json .State}}", self.name).stdout)
        return found

    @property
    def running(self) -> bool:
        return bool(self.state()["Running"])

    @property
    def exit_code(self) -> int:
        return int(self.state()["ExitCode"])

    @property
    def pid(self) -> int:
        """Of its process 1, as this machine counts."""
        return int(self.state()["Pid"])

    def log(self) -> str:
        """Both streams."""
        done = podman("logs", self.name)
        return done.stdout + done.stderr

    def events(self) -> list[dict[str, Any]]:
        """The lines of its log that are events."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith('{"time"')]

    def run(self, *command: str, check: bool = True) -> str:
        """What a command inside prints."""
        return podman("exec", self.name, *command, check=check).stdout

    def stop(self, within_s: int = 40) -> int:
        """SIGTERM, SIGKILL after that time; the exit code."""
        podman("stop", "--time", str(within_s), self.name, within_s=within_s + 30)
        return self.exit_code


def once(*command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """`heiwa COMMAND` in a container that goes with it; it listens wherever there is a free port."""
    free = ("--env", "HEIWA_LISTEN__PUBLIC=127.0.0.1:0", "--env", "HEIWA_LISTEN__OPERATIONS=127.0.0.1:0")
    return podman("run", "--rm", *LIMITS, "--no-healthcheck", *free, *options, image(), *command, check=False)
