"""When a device comes back: the reconnect behaviour of real clients, each as its source says. Pure.

A kernel is told how a connection, or an attempt at one, ended, and answers with the wait. Its memory between two calls
is one small number, `retries`; `trait` is a number from 0 to below 1 that stays the same for a device as long as it
runs (what a client draws once at its start).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import NamedTuple

from gateway.connections.close_codes import CLOSE_CODES, Reconnect

MAX_RETRIES = 60_000
# Shares that are thirds are written with as many digits as this asks for.
SHARES_TOLERANCE = 1e-6


class Ended(NamedTuple):
    """How it ended. `clean`: the server sent a close frame. `code` 1006: none was seen.

    `refused_status` is the HTTP status of a refused handshake (0: there was no answer, or the websocket was open).
    `uptime_s` counts from the open websocket, 0: it never was.
    """

    clean: bool = False
    code: int = 1006
    refused_status: int = 0
    retry_after_s: float | None = None
    goaway_after_ms: int | None = None
    uptime_s: float = 0.0

    def faster(self, speed: float) -> Ended:
        """The same in simulated seconds, of which `speed` pass in a real one."""
        asked_ms = self.goaway_after_ms
        return self._replace(
            uptime_s=self.uptime_s * speed, goaway_after_ms=None if asked_ms is None else round(asked_ms * speed)
        )


class Kernel(NamedTuple):
    """`next_attempt(retries, trait, ended, random)` gives the wait in seconds (None: never again) and new `retries`.

    `obeys_goaway`: the device leaves at once when the server says goaway. `notices_silence`: it ends a connection on
    which the server has not been heard for long. `device_class` is what the token of such a device says, so that a
    server can close its connection in a way it survives. Not `answers_close`: it goes on as if there had been none.
    """

    next_attempt: Callable[[int, float, Ended, Random], tuple[float | None, int]]
    obeys_goaway: bool = False
    notices_silence: bool = False
    device_class: str = ""
    answers_close: bool = True


PATIENT_FIRST_S = 1.0
PATIENT_LAST_S = 60.0
PATIENT_STEADY_S = 10.0
_HOPELESS = frozenset({400, 403, 404, 426})


def patient(retries: int, trait: float, ended: Ended, random: Random) -> tuple[float | None, int]:
    """The client that `heiwa.v1.json` asks for (docs: protocol, close codes).

    After a goaway it waits as told, after a refusal at least its Retry-After; otherwise full jitter, any wait from 0 to
    a ceiling of 1, 2, 4 … 60 s (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). It does not
    come back where the close code says never, nor after a refusal that will not change.
    """
    if ended.uptime_s >= PATIENT_STEADY_S:
        retries = 0
    known = CLOSE_CODES.get(ended.code)
    if known is not None and known.reconnect is Reconnect.NEVER:
        return None, retries
    if ended.goaway_after_ms is not None:
        return max(0, ended.goaway_after_ms) / 1000, 0
    if ended.refused_status in _HOPELESS:
        return None, retries
    wait_s = random.uniform(0, min(PATIENT_LAST_S, PATIENT_FIRST_S * 2.0 ** min(retries, 30)))
    return max(wait_s, ended.retry_after_s or 0.0), _more(retries)


ESP_IDF_WAIT_S = 10.0


def esp_idf(retries: int, trait: float, ended: Ended, random: Random) -> tuple[float | None, int]:
    """Espressif's `esp_websocket_client` with its defaults: a server's close frame ends it for good, a break 10 s.

    espressif/esp-protocols, components/esp_websocket_client/esp_websocket_client.c: in WEBSOCKET_STATE_CLOSING it sets
    `client->run = false` unless `enable_close_reconnect` (off by default); an error or a refused upgrade leads to
    WEBSOCKET_STATE_WAIT_TIMEOUT for `reconnect_timeout_ms`, WEBSOCKET_RECONNECT_TIMEOUT_MS = 10*1000, without jitter.
    It knows nothing of goaway or Retry-After.
    """
    if ended.clean:
        return None, retries
    return ESP_IDF_WAIT_S, _more(retries)


ARDUINO_WAIT_S = 0.5


def arduino(retries: int, trait: float, ended: Ended, random: Random) -> tuple[float | None, int]:
    """Arduino WebSockets: 500 ms after every end, without jitter and without end.

    Links2004/arduinoWebSockets, src/WebSocketsClient.cpp: `_reconnectInterval = 500`; `loop()` tries again that long
    after `_lastConnectionFail`, which `clientDisconnect()` and a failed connect set.
    """
    return ARDUINO_WAIT_S, _more(retries)


BROWSER_LEAST_S = 1.0
BROWSER_SPREAD_S = 4.0
BROWSER_GROWTH = 1.3
BROWSER_LAST_S = 10.0
BROWSER_MIN_UPTIME_S = 5.0


def browser(retries: int, trait: float, ended: Ended, random: Random) -> tuple[float | None, int]:
    """The npm package reconnecting-websocket (and partysocket, its successor) with its defaults.

    pladaria/reconnecting-websocket, reconnecting-websocket.ts: `minReconnectionDelay: 1000 + Math.random() * 4000`,
    drawn once when the script is loaded, times `reconnectionDelayGrowFactor: 1.3` for each retry, at most
    `maxReconnectionDelay: 10000`; a connection that lasted `minUptime: 5000` resets it. No jitter between retries.
    """
    if ended.uptime_s >= BROWSER_MIN_UPTIME_S:
        retries = 0
    first_s = BROWSER_LEAST_S + BROWSER_SPREAD_S * trait
    return min(BROWSER_LAST_S, first_s * BROWSER_GROWTH ** min(retries, 100)), _more(retries)


def naive(retries: int, trait: float, ended: Ended, random: Random) -> tuple[float | None, int]:
    """At once, every time: the loop that every tutorial shows. The worst a server can meet."""
    return 0.0, _more(retries)


KERNELS: dict[str, Kernel] = {
    "patient": Kernel(patient, obeys_goaway=True, notices_silence=True),
    "esp-idf": Kernel(esp_idf, device_class="esp-idf"),
    "arduino": Kernel(arduino, device_class="arduino"),
    "browser": Kernel(browser, device_class="browser"),
    "naive": Kernel(naive),
    "deaf": Kernel(arduino, answers_close=False),
}


def shares_problem(shares: Mapping[str, float]) -> str | None:
    """What is wrong with the shares of a fleet that follow each kernel; None: nothing."""
    unknown = [name for name in shares if name not in KERNELS]
    if unknown:
        return f"there is no kernel {unknown[0]!r}; known are {', '.join(KERNELS)}"
    total = sum(shares.values())
    if abs(total - 1) > SHARES_TOLERANCE:
        return f"the shares add up to {total:.10g}, not to 1; give the last digit to one of them"
    return None


def _more(retries: int) -> int:
    return min(retries + 1, MAX_RETRIES)
