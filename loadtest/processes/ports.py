"""Ports for programs that cannot choose one by themselves, or that have to come back at the same one."""

from __future__ import annotations

import random
import socket

# Below those that outgoing connections take (ip_local_port_range: 32768 and up): one of them could take the port before
# the program does, or while it is away. A client that tries a port of that range in vain can even connect to itself.
FIRST, END = 20_000, 32_000
TRIES = 1000

_reserved: list[socket.socket] = []


def free_port() -> int:
    """A port of 127.0.0.1 at which nobody listens. No other caller is given it while this process lives."""
    chance = random.SystemRandom()
    for _ in range(TRIES):
        port = chance.randrange(FIRST, END)
        if _reserve(port) and _is_free(port):
            return port
    raise OSError(f"no port from {FIRST} to {END - 1} is free")


def _reserve(port: int) -> bool:
    """Take the name of the port among all processes here: an abstract socket (unix(7)), which goes with the process."""
    name = socket.socket(socket.AF_UNIX)
    try:
        name.bind(f"\0heiwa-port-{port}")
    except OSError:
        name.close()
        return False
    _reserved.append(name)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: what only waits for its last packets is no obstacle.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
        return True
