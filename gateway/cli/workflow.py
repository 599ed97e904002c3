"""`heiwa workflow put | run | list | show | watch | cancel | resume`: the workflows of a running gateway."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote, urlencode

import typer

from gateway.cli.options import Account, Config, Json, Set, Url, print_json, token_for
from gateway.settings.load import load

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Put, run and watch workflows.",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Token = Annotated[str, token_for("the scopes workflow:read and workflow:write, or admin to put")]
Run = Annotated[str, typer.Argument(help="The id of a run.")]
Watch = Annotated[bool, typer.Option("--watch", help="Show what happens until the run is over.")]

_DEFINITIONS = "/api/v1/definitions"
_RUNS = "/api/v1/workflows"


@app.command(epilog="Example: heiwa workflow put examples/nightly-sync.yaml --dry-run --svg graph.svg")
def put(
    file: Annotated[Path, typer.Argument(help="A definition, YAML or (.json) JSON.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check it and draw its graph; store nothing.")] = False,
    svg: Annotated[Path | None, typer.Option(help="Draw its graph as an SVG picture into this file, too.")] = None,
    account: Account = "default",
    url: Url = "",
    token: Token = "",
    config: Config = None,
    setting: Set = None,
    as_json: Json = False,
) -> None:
    """Check a definition and store it as a new version. Every mistake is told with its line and column."""
    from gateway.cli.workflow_text import graph, mistake
    from gateway.errors import RefusedError, SettingsError

    try:
        text = file.read_bytes()
    except OSError as error:
        raise SettingsError("FILE", f"{file}: {error.strerror}") from error
    kind = "application/json" if file.suffix == ".json" else "application/yaml"
    remote = _remote(url, token, account, config, setting, "admin")
    try:
        found = remote.send_text("PUT", f"{_DEFINITIONS}?dry_run={'true' if dry_run else 'false'}", text, kind)
    except RefusedError as error:
        for one in error.errors:
            typer.echo(mistake(str(file), one), err=True)
        raise
    if svg is not None:
        from gateway.workflows.drawing import svg as picture

        try:
            svg.write_text(picture(found["name"], found["nodes"], found["spec"]), "utf-8")
        except OSError as error:
            raise SettingsError("--svg", f"{svg}: {error.strerror}") from error
    if as_json:
        print_json(found)
    elif dry_run:
        typer.echo(graph(found["nodes"]))
    else:
        typer.echo(f"{found['name']} version {found['version']}: {len(found['nodes'])} nodes")


@app.command(epilog="""Example: heiwa workflow run nightly-sync --input '{"day": "2026-11-22"}' --watch""")
def run(
    name: Annotated[str, typer.Argument(help="The name of a definition.")],
    given: Annotated[str, typer.Option("--input", help="A JSON object.")] = "{}",
    version: Annotated[int | None, typer.Option(min=1, help="Which version; the newest one without it.")] = None,
    key: Annotated[str | None, typer.Option(help="Idempotency key: the same key is the same run.")] = None,
    watch: Watch = False,
    account: Account = "default",
    url: Url = "",
    token: Token = "",
    config: Config = None,
    setting: Set = None,
    as_json: Json = False,
) -> None:
    """Begin a run. With --watch the exit code is 1 unless it ends well."""
    from gateway.cli.remote import idempotency

    body = {"definition": name, "version": version, "input": _input(given)}
    remote = _remote(url, token, account, config, setting, "workflow:read workflow:write")
    found = remote.call("POST", _RUNS, body, headers=idempotency(key))
    if watch:
        _watch(remote, found["run"]["id"], as_json)
    elif as_json:
        print_json(found)
    else:
        typer.echo(found["run"]["id"])


def _input(given: str) -> dict[str, Any]:
    """Raises SettingsError."""
    from gateway.decoding import standard_json
    from gateway.errors import SettingsError
    from gateway.workflows.source import cut

    if not given.strip():
        raise SettingsError("--input", "is empty; it has to be a JSON object, such as {}")
    try:
        value = standard_json(given)
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise SettingsError("--input", "a text in it holds half of a surrogate pair, or is not UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise SettingsError("--input", f"{cut(given)!r} is not JSON that can be read: {error}") from error
    if not isinstance(value, dict):
        raise SettingsError("--input", f"{cut(given)!r} is not a JSON object")
    return value


@app.command("list", epilog="Example: heiwa workflow list --status failed")
def list_runs(
    status: Annotated[str, typer.Option(help="Only runs with this status.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 20,
    account: Account = "default",
    url: Url = "",
    token: Token = "",
    config: Config = None,
    setting: Set = None,
    as_json: Json = False,
) -> None:
    """The newest runs."""
    from gateway.cli.workflow_text import one_line

    query = urlencode({"limit": limit, **({"status": status} if status else {})})
    found = _remote(url, token, account, config, setting, "workflow:read").call("GET", f"{_RUNS}?{query}")
    if as_json:
        print_json(found)
        return
    for one in found["runs"]:
        typer.echo(one_line(one))


@app.command(epilog="Example: heiwa workflow show 019aa0b2-7d1c-7000-8000-000000000000")
def show(
    run_id: Run,
    account: Account = "default",
    url: Url = "",
    token: Token = "",
    config: Config = None,
    setting: Set = None,
    as_json: Json = False,
) -> None:
    """Where a run stands, node by node."""
    from gateway.cli.workflow_text import describe

    found = _remote(url, token, account, config, setting, "workflow:read").call("GET", _path(run_id))
    if as_json:
        print_json(found)
    else:
        typer.echo(describe(found))


@app.command(epilog="Example: heiwa workflow watch 019aa0b2-7d1c-7000-8000-000000000000 --after 12")
def watch(
    run_id: Run,
    after: Annotated[int, typer.Option(min=0, help="Only what came behind this offset.")] = 0,
    account: Account = "default",
    url: Url = "",
    token: Token = "",
    config: Config = None,
    setting: Set = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show what happens in a run until it is over; goes on by itself when the gateway comes back."""
    _watch(_remote(url, token, account, config, setting, "workflow:read"), run_id, as_json, after)


@app.command(epilog="Example: heiwa workflow cancel 019aa0b2-7d1c-7000-8000-000000000000 --why 'wrong day'")
def cancel(
    run_id: Run,
    why: Annotated[str, typer.Option(help="Shown to those who watch it.")] = "cancelled",
    watch: Watch = False,
    account: Account = "default",
    url: Url = "",
    token: Token = "",
    config: Config = None,
    setting: Set = None,
    as_json: Json = False,
) -> None:
    """Ask for the end of a run."""
    remote = _remote(url, token, account, config, setting, "workflow:read workflow:write")
    _ask(remote, run_id, "cancel", {"why": why}, watch, as_json)


@app.command(epilog="Example: heiwa workflow resume 019aa0b2-7d1c-7000-8000-000000000000 --watch")
def resume(
    run_id: Run,
    watch: Watch = False,
    account: Account = "default",
    url: Url = "",
    token: Token = "",
    config: Config = None,
    setting: Set = None,
    as_json: Json = False,
) -> None:
    """Do again what failed or was cancelled in a run, and nothing that succeeded."""
    remote = _remote(url, token, account, config, setting, "workflow:read workflow:write")
    _ask(remote, run_id, "resume", None, watch, as_json)


def _ask(remote: Any, run_id: str, what: str, body: dict[str, Any] | None, watch: bool, as_json: bool) -> None:
    # What follows from it is shown from its beginning.
    before = remote.call("GET", _path(run_id))["run"]["offset"] if watch else 0
    found = remote.call("POST", f"{_path(run_id)}/{what}", body)
    if watch:
        _watch(remote, run_id, as_json, before)
    elif as_json:
        print_json(found)


def _watch(remote: Any, run_id: str, as_json: bool, after: int = 0) -> None:
    from gateway.cli.workflow_watch import watch_run

    if watch_run(remote, _path(run_id), after, as_json) != "ok":
        raise typer.Exit(1)


def _path(run_id: str) -> str:
    return f"{_RUNS}/{quote(run_id, safe='')}"


def _remote(url: str, token: str, account: str, config: Path | None, flags: list[str] | None, scope: str) -> Any:
    from gateway.cli.access import remote

    return remote(load(config, os.environ, flags or ()).settings, url, token, account, scope)
