"""Classes of devices: what clients like these need, and what is known of the common ones."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct


class DeviceClass(Struct, frozen=True):
    close: Annotated[
        str,
        Meta(
            pattern=r"^(abort|frame:(1000|1001|1008|1011|1012|1013|4[0-9]{3}))$",
            description="How closes that the gateway begins look. `frame:CODE`: planned ones have that code. "
            "`abort`: a TCP reset instead of any close frame but 4409.",
        ),
    ] = "frame:1001"
    reconnect_after_s: Annotated[
        float,
        Meta(
            ge=0,
            le=86_400,
            description="Minimum time that `goaway` asks them to stay away; each adds a random time of its own.",
        ),
    ] = 0
    max_frame_bytes: Annotated[
        int, Meta(ge=1000, le=131_072, description="Largest frame sent to them; acks and nacks are split to fit.")
    ] = 16_384
    user_agents: Annotated[
        str,
        Meta(description="User-Agent prefixes (commas) that put a device whose token has no `class` in this class."),
    ] = ""
    subprotocols: Annotated[
        str,
        Meta(description="Subprotocols (commas) that they offer unasked: accepted without naming one in the answer."),
    ] = ""
    ping_bytes: Annotated[
        int, Meta(ge=0, le=125, description="Payload of the gateway's pings; some clients overlook an empty one.")
    ] = 0


# What firmware clients do, by name and version, is in docs/how-to/known-clients.md. In short:
# - esp_websocket_client ends for good at any close frame (unless enable_close_reconnect is set, from 1.5) and comes
#   back 10 to 15 s after a reset; it hands messages over in pieces of 1,024 bytes.
# - arduinoWebSockets 2.7 closes above 15,360 bytes a frame (1,024 on small boards) and offers `arduino` by itself.
# - ArduinoWebsockets 0.5 ("TinyWebsockets") knows no codes above 1011. Zephyr 4 leaves pings to the program.
PRESETS: dict[str, DeviceClass] = {
    "esp-idf": DeviceClass(
        close="abort", reconnect_after_s=10, max_frame_bytes=1000, user_agents="ESP32 Websocket Client"
    ),
    "esp-idf-reconnect": DeviceClass(reconnect_after_s=10, max_frame_bytes=1000),
    "arduino": DeviceClass(
        reconnect_after_s=0.5,
        max_frame_bytes=1000,
        user_agents="arduino-WebSocket-Client",
        subprotocols="arduino",
    ),
    "tiny": DeviceClass(max_frame_bytes=1000, user_agents="TinyWebsockets Client"),
    "micropython": DeviceClass(reconnect_after_s=1),
    "mongoose": DeviceClass(reconnect_after_s=3),
    "zephyr": DeviceClass(max_frame_bytes=1000, ping_bytes=1),
    "rust-embedded": DeviceClass(max_frame_bytes=1000),
    "toit": DeviceClass(),
    "apple": DeviceClass(),
    "gun": DeviceClass(),
    "browser": DeviceClass(),
}
