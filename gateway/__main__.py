"""`python -m gateway`, the same as `heiwa`."""

from __future__ import annotations

import gc
import sys
from typing import NoReturn

from gateway.app import early_signals


def main() -> NoReturn:
    """Run the command line."""
    if "serve" in sys.argv[1:2]:
        # While modules load there is little to collect, and looking as often as usual takes an eighth of the start.
        gc.set_threshold(10_000, 50, 1000)
        early_signals.prepare()
        from gateway.app import lean_packages

        lean_packages.prepare()
    early_signals.unblock()
    from gateway.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
