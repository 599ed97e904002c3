"""`python -m gateway`, the same as `heiwa`."""

from __future__ import annotations

from gateway.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
