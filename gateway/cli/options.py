"""What the commands of a command line have in common: options, and how an answer is printed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Config = Annotated[Path | None, typer.Option(help="Settings file; heiwa.toml in this folder when there is one.")]
Set = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="One setting; repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
Account = Annotated[str, typer.Option(help="The tenant, when the token is made here.")]
Url = Annotated[str, typer.Option(help="Operations listener, http://…; the one of the settings without it.")]


def token_for(scope: str) -> Any:
    """The option `--token`, which has to have a scope."""
    text = f"A JWT with {scope}; without it one is made with the local key."
    return typer.Option("--token", envvar="HEIWA_TOKEN", help=text)


def print_json(value: object) -> None:
    """Indented JSON on standard output."""
    import msgspec

    typer.echo(msgspec.json.format(msgspec.json.encode(value), indent=2).decode())
