"""What an HTTP operation is, apart from the code that performs it; routes and their document are made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import Any, Literal


class Listener(Flag):
    """Where an operation is served."""

    PUBLIC = auto()
    OPERATIONS = auto()
    JOBS = auto()
    BOTH = PUBLIC | OPERATIONS


@dataclass(frozen=True)
class Parameter:
    """A parameter of the query, or a header; `schema` is its JSON Schema."""

    name: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    place: Literal["query", "header"] = "query"


@dataclass(frozen=True)
class Operation:
    """One method of one path.

    `name` is unique. `path` may hold `{device}`. `scope` None: open to everyone. `body` and `answer` are msgspec types,
    JSON Schemas, or None; `body_types` are the media types of the body; an `answer` that is a string is the media type
    of a text. `also` are other media types of the answer, for who accepts them, with their schemas. `errors` are the
    statuses of the problems it may answer with, besides those that follow from the fields here.
    """

    method: str
    path: str
    name: str
    summary: str
    scope: str | None
    listener: Listener
    answer: Any
    status: int = 200
    parameters: tuple[Parameter, ...] = ()
    body: Any = None
    body_required: bool = True
    body_types: tuple[str, ...] = ("application/json",)
    also: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[int, ...] = ()

    @property
    def statuses(self) -> list[int]:
        """Every status it may answer with, sorted."""
        found = {self.status, 500, *self.errors}
        if self.scope is not None:
            found |= {401, 403}
        if self.parameters or self.body is not None:
            found.add(400)
        if any(parameter.place == "query" for parameter in self.parameters):
            found.add(414)
        if self.body is not None:
            found |= {408, 413, 415}
        return sorted(found)
