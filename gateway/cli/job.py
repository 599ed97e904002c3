"""`heiwa job`: for jobs of workflows, to speak for their attempts. Loads nothing of the gateway."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.cli.entry import PLAIN
from gateway.decoding import object_in, standard_json
from gateway.errors import RefusedError, SettingsError, UnreachableError

if TYPE_CHECKING:
    from gateway.job import Attempt

app = typer.Typer(
    name="job", help="For jobs of workflows: say that they begin, how far they are, how they ended.", **PLAIN
)
TAIL_CHARS = 1_000


@app.command(epilog="Example: heiwa job start; case $? in 0) ;; 1) exit 0 ;; *) exit 75 ;; esac")
def start() -> None:
    """Ask to be the one job that works on the attempt; `heiwa job run` does it all at once.

    The exit code is 1 when another job works on it, or nobody wants it: end well then. Any other one is an error: the
    job must fail, or work that was never done passes for done.
    """
    if not _told(_attempt().start):
        typer.echo("this job is not the one to work on the attempt", err=True)
        raise typer.Exit(1)


@app.command(epilog="Example: heiwa job report --percent 40 --message 'orders'")
def report(
    percent: Annotated[float | None, typer.Option(min=0, max=100, help="How far it is.")] = None,
    message: Annotated[str | None, typer.Option(help="What it does.")] = None,
) -> None:
    """Say how far it is; the exit code is 1 when nobody waits for it any more."""
    attempt = _attempt()
    if not _told(lambda: attempt.report(percent, message)):
        typer.echo("nobody waits for it any more", err=True)
        raise typer.Exit(1)


@app.command(epilog="""Example: heiwa job done '{"rows": 12}'""")
def done(value: Annotated[str, typer.Argument(metavar="JSON", help="The node's result: an object.")] = "{}") -> None:
    """Say that it ended well."""
    try:
        found = standard_json(value)
    except ValueError as error:
        raise SettingsError("JSON", f"{value[:80]!r} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise SettingsError("JSON", f"{value[:80]!r} is not an object")
    attempt = _attempt()
    _ended(_told(lambda: attempt.done(found)))


@app.command(epilog="Example: heiwa job fail 'no such table' --final")
def fail(
    error: Annotated[str, typer.Argument(help="What went wrong.")] = "failed",
    final: Annotated[bool, typer.Option("--final", help="It would fail the same way again: no retry.")] = False,
) -> None:
    """Say that it failed."""
    attempt = _attempt()
    _ended(_told(lambda: attempt.fail(error, again=not final)))


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Example: heiwa job run -- python load.py",
)
def run(context: typer.Context) -> None:
    """Run a command if this job is the one to work, and say how it ended. Of two jobs the other one exits 0.

    Its exit code is the command's. The last line that it writes, if it is a JSON object, is the result. SIGTERM is
    passed on to the command, so that a job that is stopped can clean up.
    """
    if not context.args:
        raise SettingsError("COMMAND", "is needed: heiwa job run -- COMMAND …")
    attempt = _attempt()
    if not _told(attempt.start):
        typer.echo("another job works on the attempt, or nobody wants it; nothing is done", err=True)
        return
    last, code = _run(context.args)
    if code == 0:
        _end(attempt, last)
        return
    how = f"exit code {code}" if code >= 0 else f"ended by {signal.Signals(-code).name}"
    said = f"{how}: {last}" if last else how
    _told(lambda: attempt.fail(said))
    raise typer.Exit(code if code >= 0 else 128 - code)


def _end(attempt: Attempt, last: str) -> None:
    """Say that it ended well, if its result can be kept."""
    try:
        found = object_in(last)
    except ValueError as error:
        problem = str(error)
        _told(lambda: attempt.fail(problem, again=False))
        raise typer.Exit(1) from error
    _told(lambda: attempt.done(found))


def _run(command: list[str]) -> tuple[str, int]:
    """The last line that it wrote, and its exit code."""
    last = ""
    # As process 1 of a container this program would not even be ended by it.
    stopping = _Stopping()
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as child:  # noqa: S603
            stopping.has(child)
            for line in child.stdout or ():
                sys.stdout.write(line)
                sys.stdout.flush()
                last = line.strip() or last
    except OSError as error:
        return f"{command[0]}: {error.strerror}", 127
    return last, child.returncode


class _Stopping:
    """Passes SIGTERM on to a command, also one that is just being begun."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[str] | None = None
        self._asked = False
        signal.signal(signal.SIGTERM, self._ask)

    def has(self, child: subprocess.Popen[str]) -> None:
        """It has begun."""
        self._child = child
        if self._asked:
            child.terminate()

    def _ask(self, *_: object) -> None:
        self._asked = True
        if self._child is not None:
            self._child.terminate()


def _attempt() -> Attempt:
    from gateway.job import Attempt

    found = Attempt.of_environment()
    if found is None:
        raise SettingsError(
            "HEIWA_JOBS_URL",
            "with HEIWA_ATTEMPT and HEIWA_ATTEMPT_SECRET is needed; a job has them where listen.jobs is on",
        )
    return found


def _told(call: Callable[[], bool]) -> bool:
    from gateway.job import JobError

    try:
        return call()
    except JobError as error:
        if error.status:
            raise RefusedError(str(error), error.status) from error
        raise UnreachableError(str(error)) from error


def _ended(taken: bool) -> None:
    if not taken:
        typer.echo("how the attempt ended was known already", err=True)
