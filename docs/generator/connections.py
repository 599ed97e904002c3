"""The phases of a connection, drawn from the table that the code follows, and the causes of its end."""

from __future__ import annotations

from gateway.connections import ending
from gateway.connections.ending import PHASES, Cause, diagram
from generator.markdown import table


def phases() -> str:
    meanings = table(("phase", "meaning"), [(f"`{name}`", meaning) for name, meaning in PHASES.values()])
    return f"```mermaid\n{diagram()}\n```\n\nA lost connection ends from any phase.\n\n{meanings}"


def causes() -> str:
    found = [value for value in vars(ending).values() if isinstance(value, Cause)]
    rows = [
        (f"`{one.name}`", f"`{one.announced}`" if one.announced else "–", str(one.code) if one.code else "–")
        for one in found
    ]
    return table(("`reason` in log and metrics", "`reason` in `goaway`", "close code"), rows)
