"""One line of `heiwa check`."""

from __future__ import annotations

from typing import NamedTuple


class Result(NamedTuple):
    """One thing that was tried. `mend` is "" when there is nothing to do."""

    name: str
    verdict: str
    found: str
    mend: str = ""
