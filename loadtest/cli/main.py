"""The command `heiwa-loadtest`. Commands import what they need when they run, so that `--help` is quick."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from gateway import __version__
from gateway.cli import entry
from gateway.cli.options import Json, print_json
from loadtest.cli.run import PEAKS, PEAKS_DESCRIPTION, run

app = typer.Typer(
    name="heiwa-loadtest",
    help="Load tests of a gateway with hundreds of thousands of real websockets.",
    **entry.PLAIN,
)


def main() -> NoReturn:
    """Run the command line and exit: 0 done, 1 failed or stopped, 2 usage, 3 unreachable, 99 thresholds missed."""
    entry.run(app, "heiwa-loadtest", "pip install 'heiwa-gateway[loadtest]'; in a checkout: make loadtest")


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"heiwa-loadtest {__version__}")
        raise typer.Exit


@app.callback()
def loadtest(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Load tests of a gateway with hundreds of thousands of real websockets."""


app.command(epilog="Example: heiwa-loadtest run steady --devices 200000 --for 5m")(run)


@app.command("list", epilog="Example: heiwa-loadtest list --json")
def list_scenarios(as_json: Json = False) -> None:
    """Print the scenarios that ship."""
    from loadtest.scenario import shipped
    from loadtest.scenario.parsing import load

    found = {name: load(name)[1].description for name in shipped.names()} | {PEAKS: PEAKS_DESCRIPTION}
    if as_json:
        print_json([{"name": name, "description": text} for name, text in found.items()])
        return
    width = max(map(len, found))
    for name, text in found.items():
        typer.echo(f"{name:<{width}}  {text}")


@app.command(epilog="Example: heiwa-loadtest report out/before out/after")
def report(
    folders: Annotated[
        list[Path], typer.Argument(help="The folders of the shares of one run; or of two runs, shown side by side.")
    ],
    out: Annotated[
        Path | None, typer.Option(help="The file to write; default: report.html in the first folder.")
    ] = None,
) -> None:
    """Make the HTML report of a run again, of its merged shares, or of two runs side by side."""
    from loadtest.run.compare import write

    typer.echo(write(folders, out))


@app.command(epilog="Example: heiwa-loadtest schema > scenario.schema.json")
def schema() -> None:
    """Print the JSON Schema of a scenario file."""
    from loadtest.scenario.scenario import json_schema

    print_json(json_schema())
