"""What the commands of a command line have in common: options, and how an answer is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Config = Annotated[Path | None, typer.Option(help="Settings file; heiwa.toml in this folder when there is one.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One setting; repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def print_json(value: object) -> None:
    """Indented JSON on standard output."""
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
