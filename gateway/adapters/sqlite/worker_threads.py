"""Threads that take blocking calls in turn and never hold up a stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class WorkerThreads:
    """`number` threads, started with the first call. Unlike an executor's they are not waited for at the exit.

    So only calls that may be cut at any moment belong here, such as reading.
    """

    def __init__(self, number: int, name: str) -> None:
        self._calls: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._threads = [
            threading.Thread(target=self._work, name=f"{name}-{index}", daemon=True) for index in range(number)
        ]
        self._started = False

    def submit(self, call: Callable[[], T]) -> Future[T]:
        """Have the call made by the next free thread. Not after `stop`."""
        if not self._started:
            self._started = True
            for thread in self._threads:
                thread.start()
        future: Future[T] = Future()
        self._calls.put((future, call))
        return future

    def stop(self, timeout_s: float) -> bool:
        """Wait for what was submitted, at most `timeout_s`; whether all of it has ended."""
        if not self._started:
            return True
        for _ in self._threads:
            self._calls.put(None)
        end_s = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _work(self) -> None:
        while (taken := self._calls.get()) is not None:
            future, call = taken
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(call())
            except BaseException as error:
                future.set_exception(error)
            del future, call, taken
