"""`python -m gateway`, the same as `heiwa`."""

from __future__ import annotations

import sys
from typing import NoReturn

from gateway.app import early_signals, lean_aiohttp


def main() -> NoReturn:
    """Run the command line."""
    if "serve" in sys.argv[1:2]:
        early_signals.prepare()
        lean_aiohttp.prepare()
    early_signals.unblock()
    from gateway.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
