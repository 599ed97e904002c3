"""The states of a drain, drawn from the table that the code follows."""

from __future__ import annotations

from gateway.drain.states import MEANINGS, diagram
from generator.markdown import table


def states() -> str:
    return f"```mermaid\n{diagram()}\n```"


def signals() -> str:
    return table(("signal", "when"), [(f"`{signal}`", meaning) for signal, meaning in MEANINGS.items()])
