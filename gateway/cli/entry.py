"""How a command line is run, and what a person is told when it fails."""

from __future__ import annotations

import os
import sys
from typing import Any, NoReturn

import typer

from gateway.errors import HeiwaError

# Plain help and errors: rich would cost 5.5 MB, and boxes do not survive being read by a script.
PLAIN: dict[str, Any] = {
    "no_args_is_help": True,
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


def run(app: typer.Typer, name: str, missing: str = "") -> NoReturn:
    """Run `app` and exit with its code, or with that of its error. `missing`: how to get a module that is not there."""
    try:
        code = app(prog_name=name)
    except HeiwaError as error:
        _complain(name, str(error))
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output has gone; Python would complain a second time while it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        if missing and isinstance(error, ModuleNotFoundError):
            _complain(name, f"{error.name} is missing: {missing}")
            sys.exit(2)
        if os.environ.get("HEIWA_TRACEBACK"):
            raise
        _complain(name, f"unexpected {type(error).__name__}: {error} (HEIWA_TRACEBACK=1 shows where)")
        sys.exit(1)
    sys.exit(code)


def _complain(name: str, text: str) -> None:
    """One line on standard error; control characters of a quoted value must not draw on the terminal."""
    shown = "".join(letter if letter.isprintable() else " " for letter in text)
    print(f"{name}: {shown}", file=sys.stderr)  # noqa: T201
