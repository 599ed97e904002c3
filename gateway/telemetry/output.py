"""Where the lines of the log go: standard error, through a thread of its own.

Logging is the standard library's: structlog loads rich (5.5 MB) into every gateway, a tenth of what a whole process
may take.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import sys
import threading
import time
from collections.abc import Iterator

from gateway.rate import TokenBucket
from gateway.telemetry.lines import JsonFormatter, TextFormatter
from gateway.telemetry.log import EMF, ROOT


class Background(logging.Handler):
    """Hands lines to a thread that writes them: a reader of our log may stand still, the event loop must not.

    Holds at most `MAX_LINES`, and takes at most `FOREIGN_PER_S` a second of what is not ours: nothing else bounds what
    libraries say of what peers do. The rest is dropped, and how much was is written when there is room again.
    """

    MAX_LINES = 10_000
    FOREIGN_PER_S = 10

    def __init__(self) -> None:
        super().__init__()
        self._lines: queue.Queue[str | None] = queue.Queue(self.MAX_LINES)
        self._dropped = 0
        self._foreign = TokenBucket(self.FOREIGN_PER_S, 10 * self.FOREIGN_PER_S, time.monotonic())
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] != ROOT and not self._foreign.take(time.monotonic()):
            self._dropped += 1
            return
        try:
            self._lines.put_nowait(record.getMessage() if record.name == EMF else self.format(record))
        except Exception:
            # The queue is full, or the record cannot be put into words. The standard library would print it as it is.
            self._dropped += 1

    def close(self) -> None:
        """Write what is left, for at most two seconds."""
        try:
            self._lines.put(None, timeout=1)
        except queue.Full:
            pass
        else:
            self._thread.join(1)
        super().close()

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            dropped, self._dropped = self._dropped, 0
            if dropped:
                line = f'{line}\n{{"event":"log_lines_dropped","lines":{dropped}}}'
            try:
                sys.stderr.write(f"{line}\n")
                sys.stderr.flush()
            except (OSError, ValueError):  # the other end is gone
                return


@contextlib.contextmanager
def logging_to_stderr(level: str, style: str) -> Iterator[None]:
    """Send all logs to standard error. `style`: auto (text on a terminal), json or text."""
    handler = Background()
    text = style == "text" or (style == "auto" and sys.stderr.isatty())
    handler.setFormatter(TextFormatter() if text else JsonFormatter())
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], [handler]
    root.setLevel(logging.WARNING)
    own = logging.getLogger(ROOT)
    level_before = own.level
    own.setLevel(level.upper())
    logging.getLogger(EMF).setLevel(logging.INFO)
    # Its Sans-I/O layer says "connection closed" for every connection; our own line has the reason.
    logging.getLogger("websockets").setLevel(logging.ERROR)
    # It quotes what peers send, as often as they like; api/http_protocol.py says what is wrong.
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        root.handlers[:] = before
        own.setLevel(level_before)
        handler.close()
