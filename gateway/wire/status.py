"""The phrases of HTTP statuses (RFC 9110, 15). Python's own have them from 3.13 on; earlier ones are older."""

from __future__ import annotations

from http import HTTPStatus

_PHRASES = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


def phrase(status: int) -> str:
    """What a status means, in few words. Raises ValueError for one that is not known."""
    return _PHRASES.get(status) or HTTPStatus(status).phrase
