"""What those are told who ask for what workflows do not allow."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from gateway.api.call import Call
from gateway.api.problem import Problem, unavailable
from gateway.errors import QueryError, SchemaError, SettingsError, TooManyRunsError
from gateway.workflows.service import RunRefusedError
from gateway.workflows.source import DefinitionError

# Runs that are not over end whenever they do.
FULL_S = 10


@contextlib.contextmanager
def refusals() -> Iterator[None]:
    """Turn errors of workflows into problems."""
    try:
        yield
    except DefinitionError as error:
        places = [
            {"field": one.path or "$", "problem": one.problem, "line": one.place.line, "column": one.place.column}
            for one in error.mistakes
        ]
        raise Problem(422, str(error.mistakes[0]) if len(places) == 1 else _told(error), errors=places) from error
    except RunRefusedError as error:
        status = 404 if error.missing else 409 if error.conflict else 422
        raise Problem(status, str(error)) from error
    except TooManyRunsError as error:
        raise Problem(429, str(error), headers={"Retry-After": str(FULL_S)}) from error
    except (SettingsError, SchemaError) as error:
        raise unavailable(f"workflows cannot be opened here: {error}") from error


def _told(error: DefinitionError) -> str:
    return f"{len(error.mistakes)} mistakes; the first: {error.mistakes[0]}"


def known(call: Call, names: tuple[str, ...]) -> dict[str, str]:
    """The query. Raises QueryError for a parameter that is unknown."""
    query = call.query()
    for name in query:
        if name not in names:
            raise QueryError(name, f"is not a parameter; known are {', '.join(names)}")
    return query


def whole(query: dict[str, str], name: str, minimum: int, maximum: int, default: int) -> int:
    """A whole number of the query. Raises QueryError."""
    if name not in query:
        return default
    text = query[name]
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and minimum <= int(text) <= maximum):
        raise QueryError(name, f"must be a whole number from {minimum} to {maximum}")
    return int(text)
