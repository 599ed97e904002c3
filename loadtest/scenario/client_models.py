"""Models of real clients: when they reconnect, what their handshakes hold, what they overlook. Pure.

A client model is told how a connection, or an attempt at one, ended, and answers with the wait. Its memory between two
calls is one small number, `retries`; `trait` is a number in [0, 1) that stays the same for a device as long as it runs
(what a client draws once when it starts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Annotated, NamedTuple

from msgspec import Meta

from gateway.wire.close_codes import ABNORMAL, CLOSE_CODES, Reconnect

Fraction = Annotated[float, Meta(ge=0, le=1)]
MAX_RETRIES = 60_000
# Thirds need as many digits as this asks for.
FRACTIONS_TOLERANCE = 1e-6


class Ended(NamedTuple):
    """How a connection, or an attempt at one, ended. `clean`: the server sent a close frame. `code` 1006: it did not.

    `refused_status` is the HTTP status of a refused handshake (0: no answer, or the websocket was open). `uptime_s`
    counts from the open websocket; 0: it was never open.
    """

    clean: bool = False
    code: int = 1006
    refused_status: int = 0
    retry_after_s: float | None = None
    goaway_after_ms: int | None = None
    uptime_s: float = 0.0

    def faster(self, speed: float) -> Ended:
        """This end in simulated seconds, of which `speed` pass in a real one."""
        asked_ms = self.goaway_after_ms
        return self._replace(
            uptime_s=self.uptime_s * speed, goaway_after_ms=None if asked_ms is None else round(asked_ms * speed)
        )


# See `ClientModel`.
NextAttempt = Callable[[int, float, Ended, Random], tuple[float | None, int]]


class ClientModel(NamedTuple):
    """`next_attempt(retries, trait, ended, random)` gives the wait in seconds (None: never again) and new `retries`.

    `obeys_goaway`: the device leaves at once after a goaway. `notices_silence`: it ends a connection on which the
    server is silent for long. `device_class` is the class in the token of such a device, so that a server can close its
    connection in a way that it survives; "": no class. Not `answers_close`: it ignores close frames.

    `header` holds lines that its user cannot remove from its handshake. `subprotocol` is what it offers unasked; None:
    what the fleet speaks. `loses_glued`: it loses what comes in the packet of the 101. `overlooks_empty_pings`: it
    answers only pings that have a payload. `receive_bytes`: a longer message ends the connection with 1009 when the
    client model `closes_above`, else it comes in pieces that the program does not understand; 0: there is no limit.
    `answer_s` is how long it waits for the answer to its handshake, in real seconds; 0: as long as the fleet does.
    """

    next_attempt: NextAttempt
    obeys_goaway: bool = False
    notices_silence: bool = False
    device_class: str = ""
    answers_close: bool = True
    header: str = ""
    subprotocol: str | None = None
    loses_glued: bool = False
    overlooks_empty_pings: bool = False
    receive_bytes: int = 0
    closes_above: bool = False
    answer_s: float = 0.0


PATIENT_FIRST_S = 1.0
PATIENT_LAST_S = 60.0
PATIENT_STEADY_S = 10.0
PATIENT_REFUSED_S = 1.0


def patient(retries: int, trait: float, ended: Ended, random: Random) -> tuple[float | None, int]:
    """The client that `heiwa.v1.json` asks for (docs: protocol, close codes).

    After a goaway it waits as told, after a refusal at least for its Retry-After; otherwise with full jitter, from 0 to
    a ceiling of 1, 2, 4 … 60 s (M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). It does
    not reconnect after a close code that says never; after a refusal it always does.
    """
    if ended.uptime_s >= PATIENT_STEADY_S:
        retries = 0
    known = CLOSE_CODES.get(ended.code)
    if known is not None and known.reconnect is Reconnect.NEVER:
        return None, retries
    if ended.goaway_after_ms is not None:
        return max(0, ended.goaway_after_ms) / 1000, 0
    wait_s = random.uniform(0, min(PATIENT_LAST_S, PATIENT_FIRST_S * 2.0 ** min(retries, 30)))
    min_s = PATIENT_REFUSED_S if ended.refused_status else 0.0
    return max(wait_s, min_s, ended.retry_after_s or 0.0), _more(retries)


def always(wait_s: float) -> NextAttempt:
    """A client that always reconnects after the same time, without jitter and without end."""

    def next_attempt(retries: int, trait: float, ended: Ended, random: Random) -> tuple[float | None, int]:
        return wait_s, _more(retries)

    return next_attempt


def unless_closed(wait_s: float) -> NextAttempt:
    """A client that never reconnects after a close frame, and after the same time from all else."""
    again = always(wait_s)

    def next_attempt(retries: int, trait: float, ended: Ended, random: Random) -> tuple[float | None, int]:
        return (None, retries) if ended.clean else again(retries, trait, ended, random)

    return next_attempt


# Espressif's esp_websocket_client 1.8.0 with its defaults: espressif/esp-protocols,
# components/esp_websocket_client/esp_websocket_client.c. In WEBSOCKET_STATE_CLOSING it sets `client->run = false`
# unless `enable_close_reconnect` (from 1.5.0 on, off by default), whatever the code. An error or a refused upgrade
# leads to WEBSOCKET_STATE_WAIT_TIMEOUT for `reconnect_timeout_ms`, WEBSOCKET_RECONNECT_TIMEOUT_MS = 10*1000. It does
# not know goaway or Retry-After.
ESP_IDF_WAIT_S = 10.0
# Up to 1.7.0, which most devices have, it waits in two halves of that time and compares with `>`, so that a third half
# passes.
ESP_IDF_OLD_WAIT_S = 15.0
# Links2004/arduinoWebSockets 2.7.3, src/WebSocketsClient.cpp: `_reconnectInterval = 500`; `loop()` tries again that
# long after `_lastConnectionFail`, which `clientDisconnect()` and a failed connect set. WEBSOCKETS_TCP_TIMEOUT 5000.
ARDUINO_WAIT_S = 0.5
ARDUINO_ANSWER_S = 5.0
# Its example for the ESP32: `webSocket.setReconnectInterval(5000)`.
ARDUINO_EXAMPLE_WAIT_S = 5.0
# src/WebSockets.h: WEBSOCKETS_MAX_DATA_SIZE (15 * 1024); a longer frame: clientDisconnect(client, 1009).
ARDUINO_RECEIVE_BYTES = 15_360
# The loop of micropython-lib's aiohttp 0.0.8 as its examples write it: sleep(1), connect again.
MICROPYTHON_WAIT_S = 1.0
# cesanta/mongoose 7.22, tutorials/websocket/websocket-client: a timer of 3 s that connects when there is no connection.
MONGOOSE_WAIT_S = 3.0
GUN_RETRIES = 5
GUN_WAIT_S = 5.0


def gun(retries: int, trait: float, ended: Ended, random: Random) -> tuple[float | None, int]:
    """ninenines/gun 2.4.1 with its defaults: at once, then 5 s apart while there is no answer, up to five times.

    src/gun.erl: `retry` 5, `retry_timeout` 5000; the count begins anew with each TCP connect, and a refused upgrade
    leaves its connection up, so that the next attempt follows a refusal without a wait.
    """
    if ended.refused_status or ended.uptime_s > 0 or ended.code != ABNORMAL:
        return 0.0, 0
    if retries >= GUN_RETRIES:
        return None, retries
    return GUN_WAIT_S, _more(retries)


BROWSER_MIN_S = 1.0
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
    first_s = BROWSER_MIN_S + BROWSER_SPREAD_S * trait
    return min(BROWSER_LAST_S, first_s * BROWSER_GROWTH ** min(retries, 100)), _more(retries)


# Header fields that a library sends by itself, and that its user cannot or does not change.
ESP_IDF_HEADER = "User-Agent: ESP32 Websocket Client\r\n"
ARDUINO_HEADER = "Origin: file://\r\nUser-Agent: arduino-WebSocket-Client\r\n"
# The page of the library, which has a path.
TINY_HEADER = "Origin: https://libraries.example/TinyWebsockets\r\nUser-Agent: TinyWebsockets Client\r\n"
MICROPYTHON_HEADER = "Origin: http://localhost\r\n"
# ESP-IDF passes longer messages on in pieces of its buffer (WS_BUFFER_SIZE, `buffer_size` 1024).
ESP_IDF_RECEIVE_BYTES = 1024
ESP_IDF_ANSWER_S = 10.0

_ESP_IDF = ClientModel(
    unless_closed(ESP_IDF_WAIT_S),
    device_class="esp-idf",
    header=ESP_IDF_HEADER,
    receive_bytes=ESP_IDF_RECEIVE_BYTES,
    answer_s=ESP_IDF_ANSWER_S,
)
_ARDUINO = ClientModel(
    always(ARDUINO_WAIT_S),
    device_class="arduino",
    header=ARDUINO_HEADER,
    subprotocol="arduino",
    receive_bytes=ARDUINO_RECEIVE_BYTES,
    closes_above=True,
    answer_s=ARDUINO_ANSWER_S,
)

CLIENT_MODELS: dict[str, ClientModel] = {
    "patient": ClientModel(patient, obeys_goaway=True, notices_silence=True),
    "esp-idf": _ESP_IDF,
    # On ESP-IDF up to 5.1.4 and 5.2.2, whose transport_ws.c drops what it read beyond the head; tokens without a class.
    "esp-idf-15s": _ESP_IDF._replace(next_attempt=unless_closed(ESP_IDF_OLD_WAIT_S), device_class="", loses_glued=True),
    "esp-idf-reconnect": _ESP_IDF._replace(next_attempt=always(ESP_IDF_WAIT_S), device_class="esp-idf-reconnect"),
    "arduino": _ARDUINO,
    "arduino-5s": _ARDUINO._replace(next_attempt=always(ARDUINO_EXAMPLE_WAIT_S)),
    # gilmaimon/ArduinoWebsockets 0.5.4, in the loop of its examples: at once; 1 s for an answer.
    "tiny": ClientModel(always(0.0), device_class="tiny", header=TINY_HEADER, answer_s=1.0),
    "micropython": ClientModel(always(MICROPYTHON_WAIT_S), device_class="micropython", header=MICROPYTHON_HEADER),
    "mongoose": ClientModel(always(MONGOOSE_WAIT_S), device_class="mongoose"),
    "gun": ClientModel(gun, device_class="gun"),
    # zephyrproject-rtos/zephyr before 4.2, subsys/net/lib/websocket: pings are the program's, an empty one reads as 0
    # bytes; the program decides when to reconnect, and does it here as it should.
    "zephyr": ClientModel(patient, device_class="zephyr", loses_glued=True, overlooks_empty_pings=True),
    "browser": ClientModel(browser, device_class="browser"),
    # At once, every time: the loop of every tutorial, and the worst for a server.
    "naive": ClientModel(always(0.0)),
    "deaf": ClientModel(always(ARDUINO_WAIT_S), answers_close=False),
}


def fractions_problem(fractions: Mapping[str, float]) -> str | None:
    """What is wrong with the fractions of the devices that follow each client model; None: nothing."""
    unknown = [name for name in fractions if name not in CLIENT_MODELS]
    if unknown:
        return f"there is no client model {unknown[0]!r}; known are {', '.join(CLIENT_MODELS)}"
    total = sum(fractions.values())
    if abs(total - 1) > FRACTIONS_TOLERANCE:
        return f"the fractions add up to {total:.10g}, not to 1; give the last digit to one of them"
    return None


def _more(retries: int) -> int:
    return min(retries + 1, MAX_RETRIES)
