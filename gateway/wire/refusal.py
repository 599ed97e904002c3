"""Why a handshake is refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a handshake is refused: HTTP status, a short name for metrics, a sentence for the client."""

    status: int
    reason: str
    detail: str
