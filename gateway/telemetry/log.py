"""Named events with fields, for whichever part has something to tell. Where the lines go is telemetry.py's business."""

from __future__ import annotations

import logging

ROOT = "heiwa"
# Its records are whole lines for CloudWatch, which no formatter may change.
EMF = f"{ROOT}.emf"


class Log:
    """Named events with fields: `log.info("disconnect", reason="heartbeat", code=4408)`.

    Never pass a token, a key, or (above debug level) a position.
    """

    __slots__ = ("_logger",)

    def __init__(self, part: str) -> None:
        self._logger = logging.getLogger(f"{ROOT}.{part}")

    def debug(self, event: str, **fields: object) -> None:
        self._log(logging.DEBUG, event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._log(logging.INFO, event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._log(logging.WARNING, event, fields)

    def critical(self, event: str, **fields: object) -> None:
        self._log(logging.CRITICAL, event, fields)

    def error(self, event: str, *, exc_info: BaseException | None = None, **fields: object) -> None:
        self._log(logging.ERROR, event, fields, exc_info)

    def _log(self, level: int, event: str, fields: dict[str, object], exc_info: BaseException | None = None) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, event, extra={"fields": fields}, exc_info=exc_info)
